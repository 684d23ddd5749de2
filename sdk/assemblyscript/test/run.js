// Builds the test plugin and the examples, and runs them: `npm test`.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Plugin } from "./harness.js";

const sdk = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const out = mkdtempSync(join(tmpdir(), "edged-sdk-"));
after(() => rmSync(out, { recursive: true }));

const testdata = (name) => JSON.parse(readFileSync(resolve(sdk, "../testdata", name), "utf8"));

const built = new Set();

/** Builds an entry file of the SDK, or of a project that has the SDK in edged/. */
function build(path, project) {
  const wasm = join(out, `${project ? basename(project) : basename(path)}.wasm`);
  if (built.has(wasm)) return wasm;
  const [cwd, from] = project ? [project, ""] : [resolve(sdk, "../.."), "sdk/assemblyscript/"];
  execFileSync(process.execPath, [
    join(sdk, "node_modules/assemblyscript/bin/asc.js"), `${from}${path}.ts`, "--config", `${from}asconfig.json`, "-o", wasm,
    "--optimizeLevel", "0", // three times as fast; sdk/modules_test.go runs them as they are shipped
  ], { cwd, stdio: "inherit" });
  built.add(wasm);
  return wasm;
}

/** Builds an example. What a new project begins with is one, too. */
function example(name) {
  const kind = { fahrenheit: "transform", work_order: "resolver" }[name];
  if (!kind) return build(`examples/${name}`);
  const project = join(out, name);
  if (!existsSync(project)) {
    cpSync(join(sdk, "template", kind), project, { recursive: true });
    symlinkSync(sdk, join(project, "edged"));
  }
  return build("index", project);
}

test("golden vectors", async (t) => {
  const plugin = new Plugin(build("test/vectors"));
  const dir = resolve(sdk, "../testdata");
  for (const v of JSON.parse(readFileSync(join(dir, "vectors.json"), "utf8"))) {
    await t.test(v.name, () => {
      const call = v.op === "resolve" ? plugin.exports.edged_resolve : plugin.exports.edged_transform;
      const answer = plugin.call(call, readFileSync(join(dir, `${v.name}.call.bin`)));
      assert.deepEqual(Buffer.from(answer), readFileSync(join(dir, `${v.name}.out.bin`)));
    });
  }
  await t.test("a call that is none fails as a whole", () => {
    for (const bad of [new Uint8Array(8), new Uint8Array(32), Buffer.from("EDG1\x02\0\x01\0".padEnd(32, "\0"))]) {
      assert.equal(plugin.call(plugin.exports.edged_transform, bad), null);
    }
  });
  await t.test("memory stays bounded", () => {
    const records = Array.from({ length: 64 }, (_, i) => ({ payload: { do: "payload", to: `{"n":${i}}`, more: "x".repeat(500) } }));
    plugin.transform(records);
    const before = plugin.exports.memory.buffer.byteLength;
    for (let i = 0; i < 500; i++) plugin.transform(records);
    assert.equal(plugin.exports.memory.buffer.byteLength, before);
  });
});

test("functions", () => {
  const plugin = new Plugin(build("test/vectors"));
  const call = (...args) => JSON.parse(plugin.transform([{ payload: { do: "call", args } }])[0].payload).result;
  for (const unit of testdata("functions.json")) {
    assert.equal(call(...unit.slice(0, -1)), unit.at(-1), JSON.stringify(unit));
  }
  // A broken escape is longer than what it stands for.
  assert.equal(call("unescape", "\\u".repeat(64) + "\\u00"), "\ufffd".repeat(65) + "00");
  // Cut short anywhere, nothing may trap.
  const long = '{"a":{"b":[1,"x\\u00e9\\\\",true,null]},"c":-1.5e3}';
  for (let n = 0; n <= long.length; n++) {
    for (const what of ["get", "set", "del", "names", "lookup", "string", "number", "members", "fields", "same", "delta"]) call(what, long.slice(0, n), "a.b.2", "1");
  }
});

test("examples", async (t) => {
  const side = (payload) => (payload === null ? { deleted: true } : { payload });
  for (const c of testdata("examples.json")) {
    await t.test(`${c.example}: ${c.doc}`, () => {
      const wasm = example(c.example);
      if (c.refused) {
        assert.throws(() => new Plugin(wasm, c.config), new Error(c.refused));
      } else if (c.records) {
        const plugin = new Plugin(wasm, c.config);
        plugin.device = new Map(Object.entries(c.device_config ?? {}));
        const records = c.records.map((r) => ({ ...r, timestamp: BigInt(r.timestamp ?? 0) }));
        assert.deepEqual(plugin.transform(records, BigInt(c.now ?? 0)), c.frames);
        assert.deepEqual(plugin.logs.map((line) => line.text), c.logs ?? []);
        assert.deepEqual(Object.fromEntries(plugin.metrics), c.metrics ?? {});
      } else {
        const conflicts = c.conflicts.map(({ base, local, remote }) => ({ base: base && side(base), local: side(local), remote: side(remote) }));
        assert.deepEqual(new Plugin(wasm).resolve(conflicts), c.verdicts);
      }
    });
  }
});

test("the README shows what a project begins with as it is", () => {
  const readme = readFileSync(join(sdk, "README.md"), "utf8");
  for (const kind of ["transform", "resolver"]) {
    const code = readFileSync(join(sdk, "template", kind, "index.ts"), "utf8");
    assert.ok(readme.includes(code.slice(code.indexOf("import "))), kind);
  }
});
