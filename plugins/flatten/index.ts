// Turns nested objects and arrays into members of one level.

import { Builder, Bytes, Config, kind, Kind, Members, Output, quote, Record, text, transform } from "../../sdk/assemblyscript/assembly";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

let separator = ".";
let arrays = true;
let depth = 16;

export function edged_describe(): u64 {
  return text('{"name":"flatten","version":"1.0.0","summary":"Turns nested objects and arrays into members of one level: {\\"a\\":{\\"b\\":1}} into {\\"a.b\\":1}","kinds":["transform"],"needs":"payload","config":{"separator":{"type":"string","default":".","doc":"between the names of the levels"},"arrays":{"type":"boolean","default":true,"doc":"flatten arrays too, by the numbers of their elements"},"depth":{"type":"integer","default":16,"doc":"levels to flatten, 1 to 64; what lies deeper stays nested"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  separator = config.string("separator", ".");
  arrays = config.boolean("arrays", true);
  depth = config.integer("depth", 16, 1, 64);
  return config.finish();
}

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, flatten); }

function flatten(record: Record, out: Output): void {
  const payload = record.payload;
  if (!nested(payload)) {
    out.pass();
    return;
  }
  const flat = new Builder(payload.len * 2);
  const names = new Set<string>();
  flat.byte(0x7b);
  const twice = level(payload, "", depth, flat, names);
  if (twice !== null) out.error("two members become " + twice + "; choose another separator");
  else out.payload(flat.byte(0x7d).bytes());
}

function nested(payload: Bytes): bool {
  const members = new Members(payload);
  while (members.next()) if (opens(members.value)) return true;
  return false;
}

/** Whether a value has members of its own to bring up. Empty ones stay. */
function opens(value: Bytes): bool {
  const what = kind(value);
  if (what != Kind.Object && !(arrays && what == Kind.Array)) return false;
  return new Members(value).next();
}

/** Writes the members below a name. Returns a name that came twice. */
function level(value: Bytes, prefix: string, left: i32, flat: Builder, names: Set<string>): string | null {
  const members = new Members(value), array = kind(value) == Kind.Array;
  let n = 0;
  while (members.next()) {
    const name = prefix + (array ? (n++).toString() : members.name.toString());
    if (left > 0 && opens(members.value)) {
      const twice = level(members.value, name + separator, left - 1, flat, names);
      if (twice !== null) return twice;
      continue;
    }
    if (names.has(name)) return name;
    names.add(name);
    if (flat.length > 1) flat.byte(0x2c);
    flat.add(quote(name)).byte(0x3a).add(members.value);
  }
  return null;
}
