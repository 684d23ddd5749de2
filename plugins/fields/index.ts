// Renames, keeps, drops and redacts fields of the payload, in that order.

import { Bytes, Config, del, get, Output, Path, quote, Record, set, text, transform } from "../../sdk/assemblyscript/assembly";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

let from: Path[] = [];
let to: Path[] = [];
let names: string[] = []; // of to
let keep: Path[] = [];
let drop: Path[] = [];
let redact: Path[] = [];
let mask = new Bytes(0, 0);

export function edged_describe(): u64 {
  return text('{"name":"fields","version":"1.0.0","summary":"Renames, keeps, drops and redacts fields of the payload, in that order","kinds":["transform"],"needs":"payload","config":{"rename":{"type":"object","default":{},"doc":"from path to path, like {\\"t\\":\\"reading.temperature\\"}"},"keep":{"type":"list","default":[],"doc":"when not empty: only these paths stay"},"drop":{"type":"list","default":[],"doc":"paths to remove"},"redact":{"type":"list","default":[],"doc":"paths whose value is replaced by mask"},"mask":{"type":"string","default":"***","doc":"what stands for a redacted value"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  const rename = config.map("rename"), old = rename.keys();
  from = [];
  to = [];
  names = [];
  for (let i = 0; i < old.length; i++) {
    from.push(Path.parse(old[i]));
    names.push(rename.get(old[i]));
    to.push(Path.parse(names[i]));
    if (names[i].length == 0) config.fail("rename." + old[i] + " must be a path that is not empty");
    for (let j = 0; j < i; j++) if (names[j] == names[i]) config.fail("rename gives " + names[i] + " twice");
  }
  keep = paths(config.strings("keep"));
  drop = paths(config.strings("drop"));
  redact = paths(config.strings("redact"));
  mask = quote(config.string("mask", "***"));
  return config.finish();
}

function paths(dotted: string[]): Path[] {
  const out: Path[] = [];
  for (let i = 0; i < dotted.length; i++) out.push(Path.parse(dotted[i]));
  return out;
}

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, change); }

function change(record: Record, out: Output): void {
  let json = record.payload;
  // All are read before any is written, so that two fields can change places.
  const moved: (Bytes | null)[] = [];
  for (let i = 0; i < from.length; i++) moved.push(get(json, from[i]));
  for (let i = 0; i < from.length; i++) if (moved[i] !== null) json = del(json, from[i]);
  for (let i = 0; i < to.length; i++) {
    const value = moved[i];
    if (value === null) continue;
    if (get(json, to[i]) !== null) {
      out.error(names[i] + " is there already");
      return;
    }
    const renamed = set(json, to[i], value);
    if (renamed === null) {
      out.error(names[i] + " has no place: what holds it is no object");
      return;
    }
    json = renamed;
  }
  if (keep.length) {
    let kept = Bytes.of("{}");
    for (let i = 0; i < keep.length; i++) {
      const value = get(json, keep[i]);
      if (value === null) continue;
      const more = set(kept, keep[i], value);
      if (more !== null) kept = more;
    }
    json = kept;
  }
  for (let i = 0; i < drop.length; i++) json = del(json, drop[i]);
  for (let i = 0; i < redact.length; i++) {
    if (get(json, redact[i]) === null) continue;
    const hidden = set(json, redact[i], mask);
    if (hidden !== null) json = hidden;
  }
  if (json.equals(record.payload)) out.pass();
  else out.payload(json);
}
