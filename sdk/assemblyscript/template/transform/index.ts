// Adds the temperature in Fahrenheit, and splits off an alarm where it freezes.

import { asF64, Bytes, Config, Draft, fixed, Lookup, Output, Path, Record, text, transform } from "./edged/assembly";

export { edged_abi_v1, edged_alloc } from "./edged/assembly";

// What the plugin says of itself: 'edged plugin sign' takes name and version from it.
export function edged_describe(): u64 {
  return text(`{
    "name": "pluginname",
    "version": "0.1.0",
    "summary": "Adds the temperature in Fahrenheit, and splits off an alarm where it freezes",
    "kinds": ["transform"],
    "needs": "payload",
    "config": {
      "from": {"type": "string", "default": "temperature", "doc": "where the payload has the temperature, in degrees Celsius"},
      "to": {"type": "string", "default": "fahrenheit", "doc": "where to put the result"}
    }
  }`);
}

let fields = new Lookup([Path.parse("temperature"), Path.parse("fahrenheit")]);

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  fields = new Lookup([config.path("from", "temperature"), config.path("to", "fahrenheit")]);
  return config.finish(); // reports unknown keys and wrong values, all at once
}

export function edged_transform(ptr: usize, len: usize): u64 {
  return transform(ptr, len, add);
}

function add(record: Record, out: Output): void {
  fields.run(record.payload);
  const celsius = asF64(fields.value(0));
  if (isNaN(celsius)) {
    out.error("there is no temperature");
    return;
  }
  const fahrenheit = fixed(celsius * 1.8 + 32, 2);
  if (fahrenheit === null) {
    out.error("the temperature is too large");
    return;
  }
  const payload = fields.set(1, fahrenheit);
  if (payload === null) {
    out.error("the payload has no place for the result");
    return;
  }
  out.payload(payload);
  if (celsius < 0) {
    const alarm = new Draft();
    alarm.type = Bytes.of("frost");
    out.emit(alarm); // a second record from the same source
  }
}
