// The transform of sdk/assemblyscript/template, without its alarm, as a guest of
// the Extism ABI: what differs is the way in and out.

import { Host, Memory } from "@extism/as-pdk";
import { error_set } from "@extism/as-pdk/lib/env";
import { asF64, Bytes, fixed, Lookup, Path } from "../../../sdk/assemblyscript/assembly";

const fields = new Lookup([Path.parse("temperature"), Path.parse("fahrenheit")]);

function refuse(why: string): i32 {
  error_set(Memory.allocateString(why).offset);
  return 1;
}

export function transform(): i32 {
  __edged_reset(); // what the call before has allocated
  const input = Host.input();
  fields.run(new Bytes(input.dataStart, input.length));
  const celsius = asF64(fields.value(0));
  if (isNaN(celsius)) return refuse("there is no temperature");
  const fahrenheit = fixed(celsius * 1.8 + 32, 2);
  if (fahrenheit === null) return refuse("the temperature is too large");
  const payload = fields.set(1, fahrenheit);
  if (payload === null) return refuse("the payload has no place for the result");
  const output = new Uint8Array(payload.len);
  memory.copy(output.dataStart, payload.ptr, payload.len);
  Host.output(output);
  return 0;
}
