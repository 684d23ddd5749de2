// Merges both versions with what they came from, field by field.

import { Config, Conflict, Merge, resolve, Rule, parseRule, ruleNames, text, Verdict } from "../../sdk/assemblyscript/assembly";

export { edged_abi_v1, edged_alloc } from "../../sdk/assemblyscript/assembly";

let merge = new Merge();
let local = false;

export function edged_describe(): u64 {
  return text('{"name":"merge","version":"1.0.0","summary":"Takes what either side changed, and settles field by field what both changed","kinds":["resolve"],"needs":"payload","config":{"fields":{"type":"object","default":{},"doc":"rules by path, like {\\"counts.total\\":\\"sum\\"}: manual, latest, client, server, max, min, sum, union, keyed by <member>"},"default":{"type":"string","default":"manual","doc":"the rule of every other field: manual, latest, client or server"},"serve":{"type":"string","default":"server","doc":"which version is served while a person decides: client or server"}}}');
}

export function edged_configure(ptr: usize, len: usize): u64 {
  const config = new Config(ptr, len);
  const fields = config.map("fields"), fallback = config.string("default", "manual"), serve = config.string("serve", "server");
  const rule = parseRule(fallback);
  if (rule < 0 || rule > <i32>Rule.Server) config.fail('default must be manual, latest, client or server, not "' + fallback + '"');
  if (serve != "client" && serve != "server") config.fail('serve must be client or server, not "' + serve + '"');
  merge = new Merge(<Rule>max(rule, 0));
  local = serve == "client";
  const paths = fields.keys();
  for (let i = 0; i < paths.length; i++) {
    const name = fields.get(paths[i]);
    if (!merge.set(paths[i], name)) config.fail("fields." + paths[i] + ' is "' + name + '"; rules are: ' + ruleNames);
  }
  return config.finish();
}

export function edged_resolve(ptr: usize, len: usize): u64 { return resolve(ptr, len, decide); }

function decide(conflict: Conflict, verdict: Verdict): void {
  if (conflict.local.deleted && conflict.remote.deleted) {
    verdict.remote();
    return;
  }
  if (conflict.local.deleted || conflict.remote.deleted) {
    verdict.manual("deleted on one side and changed on the other", local);
    return;
  }
  const merged = merge.run(conflict);
  if (merged === null) verdict.manual("changed on both sides: " + merge.open.join(", "), local);
  else if (merged.equals(conflict.remote.payload)) verdict.remote();
  else if (merged.equals(conflict.local.payload)) verdict.local();
  else verdict.merged(merged);
}
