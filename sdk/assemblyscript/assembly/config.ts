import { text } from "./abi";
import { Bytes } from "./bytes";
import { asBool, eachName, get, kind, Kind, Path } from "./json";
import { Members } from "./members";
import { asF64 } from "./number";
import { asString } from "./strings";

let known: string[] = [];
let unknown: string[] = [];

/**
 * The operator's configuration, read key by key. Every mistake is collected;
 * finish reports them all at once.
 */
export class Config {
  private json: Bytes;
  private errors: string[] = [];

  constructor(ptr: usize, len: usize) {
    this.json = new Bytes(ptr, <i32>len);
    known = [];
    unknown = [];
  }

  /** A string that must not be empty. */
  string(key: string, fallback: string): string {
    const value = this.value(key);
    if (value === null) return fallback;
    const s = asString(value);
    if (s === null || s.length == 0) {
      this.wrong(key, "a string that is not empty", value);
      return fallback;
    }
    return s;
  }

  /** A place in the payload, written like `reading.temperature`. */
  path(key: string, fallback: string): Path { return Path.parse(this.string(key, fallback)); }

  /** A number from `low` to `high`. */
  number(key: string, fallback: f64, low: f64, high: f64): f64 {
    const value = this.value(key);
    if (value === null) return fallback;
    const x = asF64(value);
    if (!(x >= low && x <= high)) {
      this.wrong(key, "a number from " + low.toString() + " to " + high.toString(), value);
      return fallback;
    }
    return x;
  }

  /** A whole number from `low` to `high`. */
  integer(key: string, fallback: i32, low: i32, high: i32): i32 {
    const value = this.value(key);
    if (value === null) return fallback;
    const x = asF64(value);
    if (!(x >= <f64>low && x <= <f64>high) || x != Math.floor(x)) {
      this.wrong(key, "a whole number from " + low.toString() + " to " + high.toString(), value);
      return fallback;
    }
    return <i32>x;
  }

  /** True or false. */
  boolean(key: string, fallback: bool): bool {
    const value = this.value(key);
    if (value === null) return fallback;
    const b = asBool(value);
    if (b < 0) {
      this.wrong(key, "true or false", value);
      return fallback;
    }
    return b == 1;
  }

  /** A list of strings. */
  strings(key: string): string[] {
    const out: string[] = [], value = this.value(key);
    if (value === null) return out;
    const elements = new Members(value);
    while (elements.next()) {
      const s = asString(elements.value);
      if (s !== null && kind(value) == Kind.Array) out.push(s);
      else {
        this.wrong(key, "a list of strings", value);
        return out;
      }
    }
    if (kind(value) != Kind.Array) this.wrong(key, "a list of strings", value);
    return out;
  }

  /** An object with a string for every name. */
  map(key: string): Map<string, string> {
    const out = new Map<string, string>(), value = this.value(key);
    if (value === null) return out;
    if (kind(value) != Kind.Object) {
      this.wrong(key, "an object with a string for every name", value);
      return out;
    }
    const members = new Members(value);
    while (members.next()) {
      const s = asString(members.value), name = members.name.toString();
      if (s === null) this.wrong(key + "." + name, "a string", members.value);
      else out.set(name, s);
    }
    return out;
  }

  /** Adds a mistake that the plugin itself found. */
  fail(message: string): void { this.errors.push(message); }

  /**
   * Ends the configuration: complains of keys that nobody asked for, and keeps
   * all that was allocated until now for the life of the instance. What
   * edged_configure returns.
   */
  finish(): u64 {
    eachName(this.json, (name: string): void => {
      if (!known.includes(name)) unknown.push(name);
    });
    for (let i = 0; i < unknown.length; i++) {
      this.errors.push("unknown key " + unknown[i] + (known.length ? "; there are: " + known.join(", ") : "; there are none"));
    }
    if (this.errors.length) return text(this.errors.join(". "));
    __edged_keep();
    return 0;
  }

  private value(key: string): Bytes | null {
    known.push(key);
    const value = get(this.json, Path.member(key));
    return kind(value) == Kind.Null ? null : value;
  }

  private wrong(key: string, want: string, value: Bytes): void {
    this.errors.push(key + " must be " + want + ", not " + value.toString());
  }
}
