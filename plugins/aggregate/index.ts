// Sums up the records of each device and type, n at a time or by time.

import { asF64, Builder, Bytes, Config, Draft, fixed, integer, Lookup, Output, Path, quote, Record, text, transform } from "../../sdk/assemblyscript/assembly";
import { kvGet, kvPut } from "../../sdk/assemblyscript/assembly/state";
import { series } from "../series";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

// What is kept of a series.
const WINDOW: usize = 0; // i64, number of the time window
const COUNT: usize = 8; // u64, records
const NEWEST: usize = 16; // i64, timestamp
const HEADER: i32 = 24;
// and of each field
const N: usize = 0; // u64, numbers
const SUM: usize = 8;
const MIN: usize = 16;
const MAX: usize = 24;
const FIELD: i32 = 32;

const KNOWN = ["mean", "min", "max", "sum", "count"];

let lookup = new Lookup([]);
let names: Bytes[] = []; // quoted
let calculate: string[] = [];
let records: u64 = 0;
let span: i64 = 0;
let decimals = 3;
let remember = 86400;

export function edged_describe(): u64 {
  return text('{"name":"aggregate","version":"1.0.0","summary":"Makes one record with mean, min and max of n records of a device and type, or of a time","kinds":["transform"],"needs":"payload","config":{"fields":{"type":"list","default":[],"doc":"paths of the numbers to sum up"},"records":{"type":"integer","default":0,"doc":"sum up so many records; or"},"seconds":{"type":"integer","default":0,"doc":"sum up the records of so many seconds, by their timestamps"},"calculate":{"type":"list","default":["mean","min","max"],"doc":"of mean, min, max, sum, count"},"decimals":{"type":"integer","default":3,"doc":"decimals to round to, 0 to 9"},"remember":{"type":"integer","default":86400,"doc":"seconds after which a window is forgotten that gets no record"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  const fields = config.strings("fields");
  const n = config.integer("records", 0, 0, 1000000000), s = config.integer("seconds", 0, 0, 100000000);
  calculate = config.strings("calculate");
  decimals = config.integer("decimals", 3, 0, 9);
  remember = config.integer("remember", 86400, 1, 2000000000);
  if (fields.length == 0 || fields.length > 64) config.fail('fields must name 1 to 64 numbers, like ["temperature"]');
  if ((n > 0) == (s > 0)) config.fail("one of records and seconds must be given");
  if (s > remember) config.fail("remember must be at least as long as seconds");
  if (calculate.length == 0) calculate = ["mean", "min", "max"];
  for (let i = 0; i < calculate.length; i++) {
    if (!KNOWN.includes(calculate[i])) config.fail("calculate has " + calculate[i] + "; there are: " + KNOWN.join(", "));
  }
  records = n;
  span = <i64>s * 1000000000;
  const paths: Path[] = [];
  names = [];
  for (let i = 0; i < fields.length; i++) {
    paths.push(Path.parse(fields[i]));
    names.push(quote(fields[i]));
  }
  lookup = new Lookup(paths);
  return config.finish();
}

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, sumUp); }

function sumUp(record: Record, out: Output): void {
  const key = series(record), size = HEADER + names.length * FIELD;
  let state = kvGet(key);
  if (state === null || state.len != size) state = empty(size);
  const window = span > 0 ? floorDiv(record.timestamp, span) : 0;
  let full: Bytes | null = null;
  // A record that comes late counts for the window that is open.
  if (load<u64>(state.ptr, COUNT) > 0 && window > load<i64>(state.ptr, WINDOW)) {
    full = state;
    state = empty(size);
  }
  if (load<u64>(state.ptr, COUNT) == 0) store<i64>(state.ptr, window, WINDOW);
  add(state, record);
  if (records > 0 && load<u64>(state.ptr, COUNT) >= records) {
    full = state;
    state = empty(size);
  }
  if (!kvPut(key, state, remember)) out.error("there is no room to remember one more device");
  else if (full !== null) emit(full, out);
  else out.drop();
}

function empty(size: i32): Bytes {
  const state = new Bytes(heap.alloc(size), size);
  memory.fill(state.ptr, 0, size);
  return state;
}

function floorDiv(a: i64, b: i64): i64 {
  const q = a / b;
  return a < 0 && q * b != a ? q - 1 : q;
}

function add(state: Bytes, record: Record): void {
  const first = load<u64>(state.ptr, COUNT) == 0;
  store<u64>(state.ptr, load<u64>(state.ptr, COUNT) + 1, COUNT);
  if (first || record.timestamp > load<i64>(state.ptr, NEWEST)) store<i64>(state.ptr, record.timestamp, NEWEST);
  lookup.run(record.payload);
  for (let i = 0; i < names.length; i++) {
    const x = asF64(lookup.value(i));
    if (isNaN(x)) continue;
    const at = state.ptr + HEADER + <usize>(i * FIELD), n = load<u64>(at, N);
    store<f64>(at, load<f64>(at, SUM) + x, SUM);
    if (n == 0 || x < load<f64>(at, MIN)) store<f64>(at, x, MIN);
    if (n == 0 || x > load<f64>(at, MAX)) store<f64>(at, x, MAX);
    store<u64>(at, n + 1, N);
  }
}

/** The record goes on as what its window came to. */
function emit(state: Bytes, out: Output): void {
  const json = new Builder();
  json.add(Bytes.of('{"records":')).add(integer(load<u64>(state.ptr, COUNT)));
  for (let i = 0; i < names.length; i++) {
    const at = state.ptr + HEADER + <usize>(i * FIELD), n = load<u64>(at, N);
    json.byte(0x2c).add(names[i]).byte(0x3a);
    if (n == 0) {
      json.add(Bytes.of("null"));
      continue;
    }
    for (let c = 0; c < calculate.length; c++) {
      const what = calculate[c];
      json.byte(c ? 0x2c : 0x7b).add(quote(what)).byte(0x3a);
      if (what == "count") {
        json.add(integer(n));
        continue;
      }
      const sum = load<f64>(at, SUM);
      const x = what == "mean" ? sum / <f64>n : what == "sum" ? sum : what == "min" ? load<f64>(at, MIN) : load<f64>(at, MAX);
      const shown = fixed(x, decimals);
      json.add(shown === null ? Bytes.of("null") : shown);
    }
    json.byte(0x7d);
  }
  const draft = new Draft();
  draft.payload = json.byte(0x7d).bytes();
  draft.timestamp = load<i64>(state.ptr, NEWEST);
  out.emit(draft);
}
