// dew_point adds the dew point to a record that has a temperature and a
// relative humidity. README.md says what it computes and when it refuses.

import { asF64, Bytes, Config, fixed, kind, Kind, Lookup, Output, Path, Record, text, transform } from "../../sdk/assemblyscript/assembly";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

// Magnus form over water, -40 to 50 degrees Celsius: Alduchov and Eskridge,
// "Improved Magnus Form Approximation of Saturation Vapor Pressure", Journal of
// Applied Meteorology 35 (1996), 601-609, equation 21.
const A: f64 = 17.625;
const B: f64 = 243.04;

// What a thermometer outdoors or in a freezer can show, with room to spare; the
// lower end keeps well clear of the formula's pole at -B.
const COLDEST: f64 = -100;
const HOTTEST: f64 = 150;

// Capacitive sensors read a little over 100 in saturated air. Up to here that
// means 100; above, the sensor is broken.
const WETTEST: f64 = 105;

let temperature = "temperature";
let humidity = "humidity";
let fields = new Lookup([Path.parse(temperature), Path.parse(humidity), Path.parse("dew_point")]);
let decimals = 2;

export function edged_describe(): u64 {
  return text('{"name":"dew_point","version":"1.0.0","summary":"Adds the dew point, in degrees Celsius, from temperature and relative humidity","kinds":["transform"],"needs":"payload","config":{"temperature":{"type":"string","default":"temperature","doc":"where the payload has the temperature, in degrees Celsius"},"humidity":{"type":"string","default":"humidity","doc":"where the payload has the relative humidity, in percent"},"output":{"type":"string","default":"dew_point","doc":"where to put the dew point"},"decimals":{"type":"integer","default":2,"doc":"decimals to round to, 0 to 6"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  temperature = config.string("temperature", "temperature");
  humidity = config.string("humidity", "humidity");
  fields = new Lookup([Path.parse(temperature), Path.parse(humidity), config.path("output", "dew_point")]);
  decimals = config.integer("decimals", 2, 0, 6);
  return config.finish();
}

export function edged_transform(ptr: usize, len: usize): u64 {
  return transform(ptr, len, addDewPoint);
}

function addDewPoint(record: Record, out: Output): void {
  fields.run(record.payload);
  const temperatureText = fields.value(0);
  const t = asF64(temperatureText);
  if (!(t >= COLDEST && t <= HOTTEST)) {
    out.error(refusal(temperature, temperatureText, "from -100 to 150 degrees Celsius"));
    return;
  }
  const humidityText = fields.value(1);
  const h = asF64(humidityText);
  if (!(h > 0 && h <= WETTEST)) {
    out.error(refusal(humidity, humidityText, "above 0 and up to 105 percent"));
    return;
  }
  const gamma = Math.log(min(h, 100) / 100) + A * t / (B + t);
  const text = fixed(B * gamma / (A - gamma), decimals)!;
  const changed = fields.set(2, text);
  if (changed === null) {
    out.error("the dew point has no place: what holds it is no object");
    return;
  }
  out.payload(changed);
}

/** Says what is wrong with an input, with the field's name and value. */
function refusal(name: string, value: Bytes | null, range: string): string {
  switch (kind(value)) {
    case Kind.Missing: return name + " is missing";
    case Kind.Number: return name + " is " + shown(value!) + ", it must be " + range;
    default: return name + " is " + shown(value!) + ", it must be a number " + range;
  }
}

function shown(value: Bytes): string {
  return value.len <= 64 ? value.toString() : new Bytes(value.ptr, 64).toString() + "...";
}
