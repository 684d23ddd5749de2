// Adds the temperature in Fahrenheit, and splits off an alarm where it freezes.

import { asF64, Bytes, Config, Draft, fixed, Lookup, Output, Path, Record, transform } from "../assembly";

export { edged_abi_v1, edged_alloc } from "../assembly";

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
  out.payload(fields.set(1, fixed(celsius * 1.8 + 32, 2)!)!);
  if (celsius < 0) {
    const alarm = new Draft();
    alarm.type = Bytes.of("frost");
    out.emit(alarm); // a second record from the same source
  }
}
