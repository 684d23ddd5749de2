// Makes readings of many kinds of sensors alike: names without spaces below the
// site's, temperatures in Celsius; and raises an alarm above a limit.

import { asF64, asString, Builder, Bytes, Config, del, Draft, fixed, get, Output, Path, quote, Record, set, transform } from "../assembly";

export { edged_abi_v1, edged_alloc } from "../assembly";

const STATUS = Path.parse("status"), SENSOR = Path.parse("sensor"), RAW = Path.parse("raw");
const TEMPERATURE = Path.parse("values.temperature"), VALUE = Path.parse("value"), UNIT = Path.parse("unit");

let site = "site";
let limit: f64 = 80;

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  site = config.string("site", "site");
  limit = config.number("limit", 80, -273.15, 10000);
  return config.finish();
}

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, normalize); }

function normalize(record: Record, out: Output): void {
  const payload = record.payload;
  if (asString(get(payload, STATUS)) == "test") {
    out.drop("a test reading");
    return;
  }
  const name = slug(asString(get(payload, SENSOR)));
  if (name.length == 0) {
    out.error("the sensor has no name", 1);
    return;
  }
  const temperature = get(payload, TEMPERATURE);
  if (temperature === null) {
    out.pass();
    return;
  }
  const value = asF64(get(temperature, VALUE));
  if (isNaN(value)) {
    out.error("values.temperature.value is no number", 2);
    return;
  }
  const given = asString(get(temperature, UNIT)), unit = given === null ? "C" : given;
  if (unit != "C" && unit != "F" && unit != "K") {
    out.error("the unit " + unit + " is not C, F or K", 3);
    return;
  }
  const celsius = unit == "C" ? value : unit == "F" ? (value - 32) / 1.8 : value - 273.15;
  const text = fixed(celsius, 2);
  if (text === null) {
    out.error("values.temperature.value is too large", 2);
    return;
  }
  const sensor = quote(site + "/" + name);
  const reading = new Builder().add(Bytes.of('{"value":')).add(text).add(Bytes.of(',"unit":"C"}')).bytes();
  out.payload(del(set(set(payload, SENSOR, sensor)!, TEMPERATURE, reading)!, RAW));
  if (celsius > limit) {
    const alarm = new Draft();
    alarm.id = Bytes.of(record.id.toString() + "/alarm");
    alarm.type = Bytes.of("alarm");
    alarm.payload = new Builder().add(Bytes.of('{"sensor":')).add(sensor).add(Bytes.of(',"celsius":')).add(text)
      .add(Bytes.of(',"limit":')).add(fixed(limit, 2)!).byte(0x7d).bytes();
    out.emit(alarm);
  }
}

/** Lower case; whatever is no letter and no digit becomes one hyphen between those that are. */
function slug(name: string | null): string {
  if (name === null) return "";
  let out = "", gap = false;
  for (let i = 0; i < name.length; i++) {
    let c = name.charCodeAt(i);
    if (c >= 0x41 && c <= 0x5a) c |= 0x20;
    if (c >= 0x80 || (c >= 0x61 && c <= 0x7a) || (c >= 0x30 && c <= 0x39)) {
      if (gap && out.length) out += "-";
      out += String.fromCharCode(c);
      gap = false;
    } else gap = true;
  }
  return out;
}
