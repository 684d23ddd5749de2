// Numbers the records of each device, says how old they are and where. It keeps
// its numbers in kv: the pipeline grants it allow = ["config", "kv", "log", "metric"].

import { asBool, asF64, Bytes, callTime, get, integer, Output, Path, quote, Record, set, transform } from "../assembly";
import { enabled, Level, log } from "../assembly/log";
import { count, deviceConfig, kvDel, kvGet, kvPut } from "../assembly/state";

export { edged_abi_v1, edged_alloc } from "../assembly";

const RESET = Path.parse("reset"), NUMBER = Path.parse("number"), AGE = Path.parse("age_ms"), SITE = Path.parse("site");

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, number); }

function number(record: Record, out: Output): void {
  const device = record.device.toString(), key = Bytes.of("number/" + device);
  if (asBool(get(record.payload, RESET)) == 1) {
    kvDel(key);
    count("resets");
    if (enabled(Level.Info)) log(Level.Info, device + " begins anew");
    out.pass();
    return;
  }
  const last = kvGet(key);
  const next = integer(last === null ? 1 : <i64>asF64(last) + 1);
  if (!kvPut(key, next)) {
    out.error("there is no room for another device", 1);
    return;
  }
  count("records");
  let payload = set(record.payload, NUMBER, next)!;
  payload = set(payload, AGE, integer((callTime - record.timestamp) / 1000000))!;
  const site = deviceConfig("site");
  if (site !== null) payload = set(payload, SITE, quote(site))!;
  out.payload(payload);
}
