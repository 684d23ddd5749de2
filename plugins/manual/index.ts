// A person decides; one side is served until then.

import { Config, Conflict, resolve, text, Verdict } from "../../sdk/assemblyscript/assembly";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

let local = false;

export function edged_describe(): u64 {
  return text('{"name":"manual","version":"1.0.0","summary":"A person decides","kinds":["resolve"],"needs":"headers","config":{"serve":{"type":"string","default":"server","doc":"which version is served until then: client or server"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  const serve = config.string("serve", "server");
  if (serve != "client" && serve != "server") config.fail('serve must be client or server, not "' + serve + '"');
  local = serve == "client";
  return config.finish();
}

export function edged_resolve(ptr: usize, len: usize): u64 {
  return resolve(ptr, len, (conflict: Conflict, verdict: Verdict): void => verdict.manual("changed on both sides", local));
}
