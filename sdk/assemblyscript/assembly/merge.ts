// Three-way merge of JSON values: what only one side changed is taken, what both
// changed alike too, but under the rule sum, where each change counts; what both
// changed differently is settled by a rule, field by field.

import { Builder } from "./builder";
import { Bytes } from "./bytes";
import { addDelta, compareNumbers } from "./decimal";
import { kind, Kind } from "./json";
import { Fields, Members } from "./members";
import { Conflict } from "./resolve";
import { asString } from "./strings";

/** What settles a field that both sides changed differently. */
export enum Rule {
  /** A person does. */
  Manual,
  /** The later version, by its clock; the hub's when the clocks do not tell. */
  Latest,
  /** This edge's. */
  Client,
  /** The hub's. */
  Server,
  /** The larger number. */
  Max,
  /** The smaller number. */
  Min,
  /** Both changes of a number, added up; equal ones, too, are two. */
  Sum,
  /** What either side added to an array; what either removed is gone. */
  Union,
  /** The elements of an array are objects, matched by a member of theirs, and merged. */
  Keyed,
}

const RULES = ["manual", "latest", "client", "server", "max", "min", "sum", "union"];
const KEYED = "keyed by ";
const MAX_DEPTH = 64; // below that, a value is taken or left as a whole

/** The names of rules, for messages to people. */
export const ruleNames: string = RULES.join(", ") + ", " + KEYED + "<member>";

/** A rule as it is written; -1: there is none of that name. */
export function parseRule(s: string): i32 { return s.startsWith(KEYED) && s.length > KEYED.length ? <i32>Rule.Keyed : RULES.indexOf(s); }

/** Merges conflicts by rules. Make it once, while the configuration is read. */
export class Merge {
  private readonly rules: Map<string, Rule> = new Map();
  private readonly keys: Map<string, Bytes> = new Map();
  private localLater: bool = false;
  private sums: bool = false; // some field is a sum

  /** Where both sides changed what no rule settled, in the merge that ran last. */
  open: string[] = [];

  /** fallback settles what has no rule of its own; it is none of Keyed and Sum to Union. */
  constructor(private readonly fallback: Rule = Rule.Manual) {}

  /**
   * Settles the field at a path like `lines.quantity` as `rule` says (see
   * ruleNames). Elements of keyed arrays have no name in a path. False: there is no
   * such rule.
   */
  set(path: string, rule: string): bool {
    const r = parseRule(rule);
    if (r < 0) return false;
    this.rules.set(path, <Rule>r);
    if (r == Rule.Sum) this.sums = true;
    if (r == Rule.Keyed) this.keys.set(path, Bytes.of(rule.substring(KEYED.length)));
    return true;
  }

  /**
   * Merges the payloads of a conflict, of which neither is deleted. Null: they
   * cannot be merged without a person; `open` says where.
   */
  run(c: Conflict): Bytes | null {
    const base = c.base;
    this.open = [];
    this.localLater = c.local.compareTo(c.remote) > 0;
    const was: Bytes | null = base === null || base.deleted ? null : base.payload;
    const merged = this.value(was, base !== null, c.local.payload, c.remote.payload, "", 0);
    if (this.open.length) return null;
    return this.sums && same(merged, c.remote.payload) ? c.remote.payload : merged; // as it is written there
  }

  /** Whether both sides are the same and nothing in them is left to add up. */
  private alike(base: Bytes | null, known: bool, local: Bytes | null, remote: Bytes | null): bool {
    return same(local, remote) && (!this.sums || !known || same(base, remote));
  }

  /** Null stands for a field that is not there. */
  private value(base: Bytes | null, known: bool, local: Bytes | null, remote: Bytes | null, path: string, depth: i32): Bytes | null {
    if (this.alike(base, known, local, remote)) return remote;
    if (known) {
      if (same(base, remote)) return local;
      if (same(base, local)) return remote;
    } else {
      // What one side lacks may be new on the other: it is never a delete.
      if (local === null) return remote;
      if (remote === null) return local;
    }
    let rule = this.fallback;
    if (this.rules.has(path)) rule = this.rules.get(path);
    else if (kind(local) == Kind.Object && kind(remote) == Kind.Object && depth < MAX_DEPTH) {
      return this.objects(kind(base) == Kind.Object ? base : null, known, local!, remote!, path, depth);
    }
    const equal = this.sums && same(local, remote);
    const twice = equal && rule == Rule.Sum && kind(remote) == Kind.Number && (base === null || kind(base) == Kind.Number);
    if (equal && !twice && rule != Rule.Keyed) return remote;
    switch (rule) {
      case Rule.Latest: return this.localLater ? local : remote;
      case Rule.Client: return local;
      case Rule.Server: return remote;
      case Rule.Max:
      case Rule.Min: {
        if (local === null || remote === null) break;
        const order = compareNumbers(local, remote);
        if (order == 2) break;
        return (rule == Rule.Max ? order > 0 : order < 0) ? local : remote;
      }
      case Rule.Sum: {
        if (local === null || remote === null || !known) break;
        const sum = addDelta(remote, local, base === null ? Bytes.of("0") : base);
        if (sum === null) break;
        return sum;
      }
      case Rule.Union: {
        if (kind(local) != Kind.Array || kind(remote) != Kind.Array) break;
        return union(kind(base) == Kind.Array ? base : null, local!, remote!);
      }
      case Rule.Keyed: {
        if (kind(local) != Kind.Array || kind(remote) != Kind.Array || depth >= MAX_DEPTH) break;
        const merged = this.elements(kind(base) == Kind.Array ? base : null, known, local!, remote!, path, depth);
        if (merged === null) break;
        return merged;
      }
    }
    if (equal && !twice) return remote;
    this.open.push(path.length ? path : "the whole value");
    return remote;
  }

  private objects(base: Bytes | null, known: bool, local: Bytes, remote: Bytes, path: string, depth: i32): Bytes {
    const l = new Fields(local), r = new Fields(remote), b: Fields | null = base === null ? null : new Fields(base);
    const out = new Builder(local.len + remote.len + 16);
    out.byte(0x7b);
    for (let i = 0; i < r.length; i++) this.member(b, known, l, r, r, i, path, depth, out);
    for (let i = 0; i < l.length; i++) if (r.find(l.names[i]) < 0) this.member(b, known, l, r, l, i, path, depth, out);
    return out.byte(0x7d).bytes();
  }

  private member(b: Fields | null, known: bool, l: Fields, r: Fields, by: Fields, i: i32, path: string, depth: i32, out: Builder): void {
    const name = by.names[i];
    if (by.find(name) != i) return; // a repeated name
    const base: Bytes | null = b === null ? null : b.get(name), local = l.get(name), remote = r.get(name);
    // The name is needed as text only where there is something to settle.
    const at = this.alike(base, known, local, remote) ? path : path.length ? path + "." + name.toString() : name.toString();
    const value = this.value(base, known, local, remote, at, depth + 1);
    if (value === null) return;
    if (out.length > 1) out.byte(0x2c);
    out.add(by.quoted[i]).byte(0x3a).add(value);
  }

  /** Null: an element has no key, or two have the same. */
  private elements(base: Bytes | null, known: bool, local: Bytes, remote: Bytes, path: string, depth: i32): Bytes | null {
    const key = this.keys.get(path);
    const l = keyed(local, key), r = keyed(remote, key), b: Fields | null = base === null ? null : keyed(base, key);
    if (l === null || r === null) return null;
    const out = new Builder(local.len + remote.len + 16);
    out.byte(0x5b);
    for (let i = 0; i < r.length; i++) this.element(b, known, l.get(r.names[i]), r.values[i], r.names[i], path, depth, out);
    for (let i = 0; i < l.length; i++) if (r.find(l.names[i]) < 0) this.element(b, known, l.values[i], null, l.names[i], path, depth, out);
    return out.byte(0x5d).bytes();
  }

  private element(b: Fields | null, known: bool, local: Bytes | null, remote: Bytes | null, key: Bytes, path: string, depth: i32, out: Builder): void {
    const base: Bytes | null = b === null ? null : b.get(key);
    let value: Bytes | null;
    if (kind(local) == Kind.Object && kind(remote) == Kind.Object && !this.alike(base, known, local, remote)) {
      value = this.objects(kind(base) == Kind.Object ? base : null, known, local!, remote!, path, depth + 1);
    } else value = this.value(base, known, local, remote, path + "." + key.toString(), depth + 1);
    if (value === null) return;
    if (out.length > 1) out.byte(0x2c);
    out.add(value);
  }
}

/** The elements of an array by the member `key` of theirs. Null: one has none, or two have the same. */
function keyed(array: Bytes, key: Bytes): Fields | null {
  const object = new Builder(array.len + 64);
  object.byte(0x7b);
  const elements = new Members(array);
  let count = 0;
  while (elements.next()) {
    if (kind(elements.value) != Kind.Object) return null;
    const name = new Fields(elements.value).get(key);
    if (name === null) return null;
    if (count++) object.byte(0x2c);
    // A number and a string with the same text are one key: both name one thing.
    if (kind(name) == Kind.String) object.add(name);
    else if (kind(name) == Kind.Number) object.byte(0x22).add(name).byte(0x22);
    else return null;
    object.byte(0x3a).add(elements.value);
  }
  const fields = new Fields(object.byte(0x7d).bytes());
  for (let i = 0; i < fields.length; i++) if (fields.find(fields.names[i]) != i) return null;
  return fields;
}

/** What both have, and what either added since the base; what either removed is gone. */
function union(base: Bytes | null, local: Bytes, remote: Bytes): Bytes {
  const l = list(local), r = list(remote), b: Bytes[] = base === null ? [] : list(base);
  const out = new Builder(local.len + remote.len + 16);
  out.byte(0x5b);
  const kept: Bytes[] = [];
  for (let i = 0; i < r.length; i++) {
    if (has(b, r[i]) && !has(l, r[i])) continue;
    if (!has(kept, r[i])) kept.push(r[i]);
  }
  for (let i = 0; i < l.length; i++) {
    if (has(b, l[i]) || has(kept, l[i])) continue;
    kept.push(l[i]);
  }
  for (let i = 0; i < kept.length; i++) {
    if (i) out.byte(0x2c);
    out.add(kept[i]);
  }
  return out.byte(0x5d).bytes();
}

function list(array: Bytes): Bytes[] {
  const out: Bytes[] = [], elements = new Members(array);
  while (elements.next()) out.push(elements.value);
  return out;
}

function has(all: Bytes[], one: Bytes): bool {
  for (let i = 0; i < all.length; i++) if (same(all[i], one)) return true;
  return false;
}

/** Whether two values say the same: white space and the order of members do not count, the text of numbers does. */
export function same(a: Bytes | null, b: Bytes | null): bool {
  if (a === null || b === null) return a === null && b === null;
  if (a.equals(b)) return true;
  const what = kind(a);
  if (what != kind(b)) return false;
  switch (what) {
    case Kind.String: {
      const x = asString(a), y = asString(b);
      return x !== null && y !== null && x == y;
    }
    case Kind.Array: {
      const x = new Members(a), y = new Members(b);
      while (x.next()) if (!y.next() || !same(x.value, y.value)) return false;
      return !y.next();
    }
    case Kind.Object: {
      const x = new Fields(a), y = new Fields(b);
      if (x.length != y.length) return false;
      for (let i = 0; i < x.length; i++) if (!same(x.values[i], y.get(x.names[i]))) return false;
      return true;
    }
  }
  return false;
}
