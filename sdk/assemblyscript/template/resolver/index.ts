// Work orders: the status only moves forward, notes are united, quantities
// added up, and a person decides about the rest.

import { asString, Bytes, Conflict, get, Merge, Path, resolve, set, text, Verdict } from "./edged/assembly";

export { edged_abi_v1, edged_alloc } from "./edged/assembly";

// What the plugin says of itself: 'edged plugin sign' takes name and version from it.
export function edged_describe(): u64 {
  return text(`{
    "name": "pluginname",
    "version": "0.1.0",
    "summary": "Merges work orders: the status only moves forward, notes are united, quantities added up",
    "kinds": ["resolve"],
    "needs": "payload"
  }`);
}

const STATUS = Path.parse("status"), ORDER = ["open", "started", "done"];
const merge = new Merge(); // a person decides about fields without a rule
merge.set("status", "server");
merge.set("notes", "union");
merge.set("quantity", "sum");

export function edged_resolve(ptr: usize, len: usize): u64 { return resolve(ptr, len, decide); }

function rank(payload: Bytes): i32 {
  const status = asString(get(payload, STATUS));
  return status === null ? -1 : ORDER.indexOf(status);
}

function decide(conflict: Conflict, verdict: Verdict): void {
  const local = conflict.local, remote = conflict.remote;
  if (local.deleted || remote.deleted) {
    verdict.manual("deleted on one side");
    return;
  }
  let merged = merge.run(conflict);
  if (merged === null) {
    verdict.manual("changed on both sides: " + merge.open.join(", "));
    return;
  }
  if (rank(local.payload) > rank(remote.payload)) merged = set(merged, STATUS, get(local.payload, STATUS)!);
  verdict.merged(merged!);
}
