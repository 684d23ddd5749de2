// The edge's version wins.

import { Config, Conflict, resolve, text, Verdict } from "../../sdk/assemblyscript/assembly";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

export function edged_describe(): u64 {
  return text('{"name":"client_wins","version":"1.0.0","summary":"The edge\'s version wins","kinds":["resolve"],"needs":"headers","config":{}}');
}

export function edged_configure(ptr: usize, len: usize): u64 { return new Config(ptr, len).finish(); }

export function edged_resolve(ptr: usize, len: usize): u64 {
  return resolve(ptr, len, (conflict: Conflict, verdict: Verdict): void => verdict.local());
}
