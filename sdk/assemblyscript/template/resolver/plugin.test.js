import assert from "node:assert/strict";
import { test } from "node:test";
import { Plugin } from "./edged/test/harness.js";

const plugin = new Plugin("pluginname.wasm");
const base = { payload: { status: "open", notes: ["a"], quantity: 5, by: "x" } };
const changed = (what) => ({ payload: { ...base.payload, ...what } });

test("the status only moves forward, notes are united, quantities added up", () => {
  const local = changed({ status: "done", notes: ["a", "b"], quantity: 7 });
  const remote = changed({ status: "started", notes: ["a", "c"], quantity: 4 });
  assert.deepEqual(plugin.resolve([{ base, local, remote }]), [
    { src: 0, action: "merged", payload: '{"status":"done","notes":["a","c","b"],"quantity":6,"by":"x"}' },
  ]);
});

test("a person decides about the rest", () => {
  assert.deepEqual(plugin.resolve([
    { base, local: changed({ by: "y" }), remote: changed({ by: "z" }) },
    { base, local: { deleted: true }, remote: changed({ by: "z" }) },
  ]), [
    { src: 0, action: "manual", reason: "changed on both sides: by" },
    { src: 1, action: "manual", reason: "deleted on one side" },
  ]);
});
