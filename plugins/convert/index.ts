// Converts fields of the payload from one unit of measurement to another.

import { asF64, Bytes, Config, fixed, get, kind, Kind, Output, Path, Record, set, text, transform } from "../../sdk/assemblyscript/assembly";
import { unit, unitNames } from "./units";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

/** One field: x becomes x * factor + offset. */
class Conversion {
  constructor(readonly name: string, readonly path: Path, readonly factor: f64, readonly offset: f64) {}
}

let conversions: Conversion[] = [];
let decimals = 3;
let strict = false;

export function edged_describe(): u64 {
  return text('{"name":"convert","version":"1.0.0","summary":"Converts fields from one unit of measurement to another","kinds":["transform"],"needs":"payload","config":{"fields":{"type":"object","default":{},"doc":"by path, like {\\"temperature\\":\\"degF to degC\\"}; the README lists the units"},"decimals":{"type":"integer","default":3,"doc":"decimals to round to, 0 to 9"},"missing":{"type":"string","default":"pass","doc":"what becomes of a record that lacks a field: pass or error"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  const fields = config.map("fields"), paths = fields.keys();
  decimals = config.integer("decimals", 3, 0, 9);
  const missing = config.string("missing", "pass");
  if (missing != "pass" && missing != "error") config.fail('missing must be pass or error, not "' + missing + '"');
  strict = missing == "error";
  if (paths.length == 0) config.fail('fields names nothing to convert; write like { "temperature" = "degF to degC" }');
  conversions = [];
  for (let i = 0; i < paths.length; i++) {
    const path = paths[i], parts = fields.get(path).split(" to ");
    if (parts.length != 2) {
      config.fail("fields." + path + ' must be like "degF to degC", not "' + fields.get(path) + '"');
      continue;
    }
    const from = unit(parts[0]), to = unit(parts[1]);
    if (from === null || to === null) {
      config.fail("fields." + path + ": there is no unit " + (from === null ? parts[0] : parts[1]) + "; there are: " + unitNames());
    } else if (from.kind != to.kind) {
      config.fail("fields." + path + ": " + parts[0] + " is a " + from.kind + " and " + parts[1] + " is a " + to.kind);
    } else {
      conversions.push(new Conversion(path, Path.parse(path), from.factor / to.factor, (from.offset - to.offset) / to.factor));
    }
  }
  return config.finish();
}

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, convert); }

function convert(record: Record, out: Output): void {
  let json = record.payload;
  let changed = false;
  for (let i = 0; i < conversions.length; i++) {
    const c = conversions[i];
    const value = get(json, c.path);
    const what = kind(value);
    if (what == Kind.Missing || what == Kind.Null) {
      if (!strict) continue;
      out.error(c.name + " is missing");
      return;
    }
    if (what != Kind.Number) {
      out.error(c.name + " is " + shown(value!) + ", it must be a number");
      return;
    }
    const x = asF64(value) * c.factor + c.offset;
    let converted: Bytes | null = null;
    for (let d = decimals; d >= 0 && converted === null; d--) converted = fixed(x, d); // a large number has fewer
    if (converted === null) {
      out.error(c.name + " is " + shown(value!) + ", which is too large");
      return;
    }
    json = set(json, c.path, converted)!;
    changed = true;
  }
  if (changed) out.payload(json);
  else out.pass();
}

function shown(value: Bytes): string {
  return value.len <= 64 ? value.toString() : new Bytes(value.ptr, 64).toString() + "...";
}
