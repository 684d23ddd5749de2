// Report by exception: a record goes on when one of its fields has moved since
// the last record of its device and type that went on.

import { asF64, Bytes, Config, kind, Kind, Lookup, Output, Path, Record, text, transform } from "../../sdk/assemblyscript/assembly";
import { kvGet, kvPut } from "../../sdk/assemblyscript/assembly/state";
import { fnv64, series } from "../series";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

// What is kept of a series: the time of its last record, and 64 bits a field.
// They are the number's, or a NaN that tells other values apart.
const NAN: u64 = 0x7ff8000000000000;
const MISSING: u64 = NAN | 1;

let paths: Path[] = [];
let bands: f64[] = [];
let relative: bool[] = [];
let lookup = new Lookup([]);
let silence: i64 = 0;
let remember = 86400;

export function edged_describe(): u64 {
  return text('{"name":"deadband","version":"1.0.0","summary":"Passes a record only when a field has moved since the last one of its device and type that passed","kinds":["transform"],"needs":"payload","config":{"fields":{"type":"object","default":{},"doc":"by path, how far is a move: {\\"temperature\\":\\"0.5\\",\\"flow\\":\\"2%\\"}"},"max_silence":{"type":"integer","default":0,"doc":"seconds after which a record passes in any case, by its timestamp; 0: never"},"remember":{"type":"integer","default":86400,"doc":"seconds after which a device that sends nothing is forgotten; its next record passes"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  const fields = config.map("fields"), names = fields.keys();
  silence = <i64>config.integer("max_silence", 0, 0, 2000000000) * 1000000000;
  remember = config.integer("remember", 86400, 1, 2000000000);
  if (names.length == 0 || names.length > 64) config.fail('fields must name 1 to 64 fields, like { "temperature" = "0.5" }');
  paths = [];
  bands = [];
  relative = [];
  for (let i = 0; i < names.length; i++) {
    let width = fields.get(names[i]);
    const percent = width.endsWith("%");
    if (percent) width = width.substring(0, width.length - 1);
    const band = asF64(Bytes.of(width.trim()));
    if (!(band >= 0 && band < Infinity)) config.fail("fields." + names[i] + ' must be a number or a percentage from 0, like "0.5" or "2%"');
    paths.push(Path.parse(names[i]));
    bands.push(percent ? band / 100 : band);
    relative.push(percent);
  }
  lookup = new Lookup(paths);
  return config.finish();
}

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, report); }

function report(record: Record, out: Output): void {
  const count = paths.length, size = 8 + count * 8;
  const state = new Bytes(heap.alloc(size), size);
  store<i64>(state.ptr, record.timestamp);
  lookup.run(record.payload);
  for (let i = 0; i < count; i++) store<u64>(state.ptr + 8 + (<usize>i << 3), bits(lookup.value(i)));
  const key = series(record);
  const last = kvGet(key);
  if (last !== null && last.len == size && !moved(last.ptr, state.ptr)) {
    out.drop();
    return;
  }
  // Without room for one more device its records all pass: nothing is lost.
  kvPut(key, state, remember);
  out.pass();
}

function bits(value: Bytes | null): u64 {
  if (value === null) return MISSING;
  if (kind(value) == Kind.Number) {
    const x = asF64(value);
    if (!isNaN(x)) return reinterpret<u64>(x);
  }
  return NAN | fnv64(value) >> 13 | 2;
}

/** Whether what is now is far enough from what was. */
function moved(was: usize, now: usize): bool {
  const past = load<i64>(was), time = load<i64>(now);
  if (silence > 0 && (time - past >= silence || past - time >= silence)) return true;
  for (let i = 0; i < paths.length; i++) {
    const at = <usize>(8 + (i << 3));
    const a = load<u64>(was + at), b = load<u64>(now + at);
    if (a == b) continue;
    const x = reinterpret<f64>(a), y = reinterpret<f64>(b);
    if (isNaN(x) || isNaN(y)) return true;
    if (abs(y - x) > (relative[i] ? bands[i] * abs(x) : bands[i])) return true;
  }
  return false;
}
