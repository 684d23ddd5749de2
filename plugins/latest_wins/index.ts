// The later version wins, by its hybrid logical clock: the order is total, so
// all edges find the same. Where a clock is unknown the hub's order decides, and
// in it the hub's version stands already.

import { Config, Conflict, resolve, text, Verdict } from "../../sdk/assemblyscript/assembly";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

export function edged_describe(): u64 {
  return text('{"name":"latest_wins","version":"1.0.0","summary":"The later version wins, by clock, counter and device","kinds":["resolve"],"needs":"headers","config":{}}');
}

export function edged_configure(ptr: usize, len: usize): u64 { return new Config(ptr, len).finish(); }

export function edged_resolve(ptr: usize, len: usize): u64 { return resolve(ptr, len, later); }

function later(conflict: Conflict, verdict: Verdict): void {
  if (conflict.local.compareTo(conflict.remote) > 0) verdict.local();
  else verdict.remote();
}
