import assert from "node:assert/strict";
import { test } from "node:test";
import { Plugin } from "./edged/test/harness.js";

const plugin = (config) => new Plugin("pluginname.wasm", config);

test("adds the temperature in Fahrenheit", () => {
  assert.deepEqual(plugin({ from: "t" }).transform([{ payload: { t: 20 } }]), [
    { src: 0, action: "emit", payload: '{"t":20,"fahrenheit":68}' },
  ]);
});

test("splits off an alarm where it freezes", () => {
  assert.deepEqual(plugin().transform([{ payload: { temperature: -1 } }]), [
    { src: 0, action: "emit", payload: '{"temperature":-1,"fahrenheit":30.2}' },
    { src: 0, action: "emit", type: "frost" },
  ]);
});

test("refuses what has no temperature", () => {
  assert.deepEqual(plugin().transform([{ payload: { x: 1 } }]), [
    { src: 0, action: "error", reason: "there is no temperature" },
  ]);
});

test("reports a key that is misspelled", () => {
  assert.throws(() => plugin({ form: "t" }), /unknown key form; there are: from, to/);
});
