// What the tests of the plugin host call, on the Extism PDK. guest.go has the
// same in Go.
import { Config, Host, LogLevel, Memory, Var } from "@extism/as-pdk";
import { error_set, http_request } from "@extism/as-pdk/lib/env";

// fail is what a failed assertion calls.
export function fail(_message: string | null, _file: string | null, _line: u32, _column: u32): void {
  unreachable();
}

// Host.outputString asks for as many bytes as the text has characters.
function output(s: string): void {
  Host.output(Uint8Array.wrap(String.UTF8.encode(s)));
}

export function transform(): i32 {
  let unit = Config.get("unit");
  output('{"input":' + Host.inputString() + ',"unit":"' + (unit === null ? "none" : unit) + '"}');
  return 0;
}

export function count(): i32 {
  let total = Host.inputString().length;
  const before = Var.getString("total");
  if (before !== null) total += I32.parseInt(before);
  Var.set("total", Uint8Array.wrap(String.UTF8.encode(total.toString())));
  output('{"total":' + total.toString() + "}");
  return 0;
}

export function refuse(): i32 {
  error_set(Memory.allocateString("not " + Host.inputString()).offset);
  return 3;
}

export function nothing(): i32 {
  return 0;
}

export function split(): i32 {
  output('[{"n":1},{"n":2}]');
  return 0;
}

export function whole(): i32 {
  output(Host.inputString().replace('"id":"', '"id":"x-'));
  return 0;
}

export function say(): i32 {
  Host.log(LogLevel.Warn, "a warning");
  output(Host.inputString());
  return 0;
}

export function panics(): i32 {
  error_set(Memory.allocateString("it went wrong").offset);
  unreachable();
  return 0;
}

export function fetch(): i32 {
  http_request(Memory.allocateString('{"url":"http://example.com/"}').offset, 0);
  return 0;
}
