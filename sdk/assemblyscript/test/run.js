// Builds the two test plugins and runs them: `npm test`.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Plugin } from "./harness.js";

const sdk = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const out = mkdtempSync(join(tmpdir(), "edged-sdk-"));
after(() => rmSync(out, { recursive: true }));

function build(path) {
  const wasm = join(out, `${basename(path)}.wasm`);
  execFileSync(process.execPath, [
    "sdk/assemblyscript/node_modules/assemblyscript/bin/asc.js", `sdk/assemblyscript/${path}.ts`,
    "--config", "sdk/assemblyscript/asconfig.json", "-o", wasm,
  ], { cwd: resolve(sdk, "../.."), stdio: "inherit" });
  return wasm;
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

const many = JSON.stringify(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`n${i}`, i])));

const units = [
  ["get", '{"a":1,"b":{"c":[10,{"d":"x"}]}}', "b.c.1.d", '"x"'],
  ["get", ' { "a" : 1.50 } ', "a", "1.50"],
  ["get", '{"a":1,"a":2}', "a", "1"],
  ["get", '{"\\u0061b":true}', "ab", "true"],
  ["get", '{"ab":1}', "a", "null"],
  ["get", '{"a":"}{\\"]","b":2}', "b", "2"],
  ["get", '{"a":[1,2,3]}', "a.2", "3"],
  ["get", '{"a":[1,2,3]}', "a.3", "null"],
  ["get", '{"a":[1,2,3]}', "a.x", "null"],
  ["get", '{"":{"":5}}', ".", "5"],
  ["get", "[1", "0", "1"],
  ["get", '{"a":', "a", "null"],
  ["get", '{"a":"bcdefghijkl', "a", "null"],
  ["get", '{"a":"\\', "a", "null"],
  ["get", "", "a", "null"],
  ["get", '{"long name of a member":"long value of a member","next":{"deep":["a","b\\\\"]}}', "next.deep.1", '"b\\\\"'],
  ["set", "{}", "a", "1", '{"a":1}'],
  ["set", "{ }", "a", "1", '{"a":1 }'],
  ["set", '{"a":0 }', "b", "1", '{"a":0,"b":1 }'],
  ["set", '{"a":[0, {"x":null}]}', "a.1.x", "{}", '{"a":[0, {"x":{}}]}'],
  ["set", '{"z":1}', "a.b.c", "1", '{"z":1,"a":{"b":{"c":1}}}'],
  ["set", '{"a":1}', "a.b", "1", "null"],
  ["set", '{"a":[]}', "a.0", "1", "null"],
  ["set", '{}', 'q"\n', "1", '{"q\\"\\u000a":1}'],
  ["del", '{"a":1,"b":2,"c":3}', "a", '{"b":2,"c":3}'],
  ["del", '{"a":1, "b":2 ,"c":3}', "b", '{"a":1 ,"c":3}'],
  ["del", '{"a":1,"b":2}', "b", '{"a":1}'],
  ["del", '{"a":1}', "a", "{}"],
  ["del", '{"a":[1,2,3]}', "a.1", '{"a":[1,3]}'],
  ["del", '{"a":{"b":1}}', "a.b", '{"a":{}}'],
  ["del", '{"a":1}', "x", '{"a":1}'],
  ["kind", "null", "1"], ["kind", "false", "2"], ["kind", "-1", "3"], ["kind", '""', "4"], ["kind", "[]", "5"], ["kind", "{}", "6"], ["kind", "", "0"],
  ["bool", "true", "1"], ["bool", "false", "0"], ["bool", "1", "-1"],
  ["string", '"a\\n\\u00e9\\ud83d\\ude00\\/"', "a\né😀/"], ["string", '"\\ud83d"', "\ufffd"], ["string", "1", "null"],
  ["quote", 'a"\\\u0001é', '"a\\"\\\\\\u0001é"'],
  ["fixed", "1.005", "2", "1"], ["fixed", "1.25", "1", "1.2"], ["fixed", "-1.239", "2", "-1.24"], ["fixed", "-0.001", "2", "0"],
  ["fixed", "0.05", "2", "0.05"], ["fixed", "100", "3", "100"], ["fixed", "1e300", "2", "null"], ["fixed", "123456789.123456", "6", "123456789.123456"],
  ["fixed", "0", "0", "0"], ["fixed", "10", "0", "10"], ["fixed", '"x"', "2", "null"],
  ["integer", "-9223372036854775808", "-9223372036854775808"],
  ["names", '{"a":1, "b" : {"c":2},"\\u0064":[3]}', "a|b|d"],
  ["lookup", '{"a":1,"b":2}', "a", "b", '1|2|{"a":0,"b":2}|{"a":1,"b":2,"x":{"y":1}}'],
  ["lookup", '{"b":{"c":5}, "x":{"y":7}}', "a", "b.c", 'null|5|{"b":{"c":5}, "x":{"y":7},"a":0}|{"b":{"c":5}, "x":{"y":1}}'],
  ["lookup", '{"\\u0061":{"b":1,"c":2}}', "a.b", "a.c", '1|2|{"\\u0061":{"b":0,"c":2}}|{"\\u0061":{"b":1,"c":2},"x":{"y":1}}'],
  ["lookup", "[1]", "a", "b", "no object: null|null|null|null"],
  ["lookup", "{}", "a", "b", 'null|null|{"a":0}|{"x":{"y":1}}'],
  ["members", '{"a":1, "b" : [2,{}] ,"\\u0063":"x"}', 'a=1;b=[2,{}];c="x";'], ["members", "[1, [2] ,{}]", "=1;=[2];={};"], ["members", "5", ""], ["members", "{}", ""],
  ["fields", many, "n99", "100 99 99"], ["fields", many, "n100", "100 -1 null"], ["fields", '{"a":1,"a":2}', "a", "2 0 1"], ["fields", "{}", "", "0 -1 null"],
  ["delta", "0.1", "0.3", "0.1", "0.3"], ["delta", "10", "7", "5", "12"], ["delta", "1", "1e2", "50", "51"], ["delta", "0.5", "-0.25", "0", "0.25"],
  ["delta", "0.01", "0", "0.02", "-0.01"], ["delta", "999999999999999999", "999999999999999999", "0", "1999999999999999998"], ["delta", "1e18", "1", "0", "null"],
  ["delta", "1", '"2"', "0", "null"], ["delta", "1", "0.1234567890123456789", "0", "null"], ["delta", "100000000000000000", "0.001", "0", "null"], ["delta", "0.0e5", "0e-400", "-0", "0"], ["delta", "0.00", "0", "0", "0.00"],
  ["compare", "1.0", "1", "0"], ["compare", "-2", "1e-3", "-1"], ["compare", "123456789012345678", "123456789012345677", "1"], ["compare", "1", "true", "2"],
  ["same", '{"a":1,"b":[1,{"c":null}]}', '{ "b" : [1, {"c":null}], "\\u0061":1 }', "yes"], ["same", "1", "1.0", "no"], ["same", '{"a":1}', '{"a":1,"b":2}', "no"],
  ["same", "[1,2]", "[1]", "no"], ["same", "[1]", "[1,2]", "no"], ["same", '"a"', '"\\u0061"', "yes"], ["same", "{}", "[]", "no"],
  ["config", "{}", "S|1.5|3|true"],
  ["config", '{"s":"t","n":2e0,"i":9,"f":false}', "t|2.0|9|false"],
  ["config", '{"s":null}', "S|1.5|3|true"],
  ["lists", '{"l":["a","b"],"m":{"x":"1","y":"2"}}', "a,b|x=1,y=2"], ["lists", "{}", "|"],
  ["lists", '{"l":[1],"m":{"x":2}}', 'l must be a list of strings, not [1]. m.x must be a string, not 2'], ["lists", '{"l":{},"m":[]}', "l must be a list of strings, not {}. m must be an object with a string for every name, not []"],
  ["config", '{"s":"","n":11,"i":1.5,"f":0,"x":1}',
    's must be a string that is not empty, not "". n must be a number from 0.0 to 10.0, not 11. i must be a whole number from 0 to 9, not 1.5. f must be true or false, not 0. unknown key x; there are: s, n, i, f'],
];

test("functions", () => {
  const plugin = new Plugin(build("test/units"));
  const run = (...args) => plugin.string(plugin.exports.run, new TextEncoder().encode(JSON.stringify(args)));
  for (const unit of units) {
    const args = unit.slice(0, -1), want = unit.at(-1);
    assert.equal(run(...args), want, JSON.stringify(args));
  }
  const bits = (x) => new BigUint64Array(new Float64Array([x]).buffer)[0].toString();
  for (const s of ["0", "-0", "1", "-1.5", "0.1", "123456.789", "1e22", "1e-22", "9007199254740991", "0.000001", "5E+3", "00012", "20.00000000000000000000"]) {
    assert.equal(run("number", s), bits(Number(s)), s);
  }
  // Cut short anywhere, nothing may trap.
  const long = '{"a":{"b":[1,"x\\u00e9\\\\",true,null]},"c":-1.5e3}';
  for (let n = 0; n <= long.length; n++) {
    for (const what of ["get", "set", "del", "names", "lookup", "string", "number", "members", "fields", "same", "delta"]) run(what, long.slice(0, n), "a.b.2", "1");
  }
});

test("example fahrenheit", () => {
  const plugin = new Plugin(build("examples/fahrenheit"), { from: "t" });
  assert.deepEqual(plugin.transform([{ payload: { t: 20 } }, { payload: { t: -1 } }, { payload: { x: 1 } }]), [
    { src: 0, action: "emit", payload: '{"t":20,"fahrenheit":68}' },
    { src: 1, action: "emit", payload: '{"t":-1,"fahrenheit":30.2}' },
    { src: 1, action: "emit", type: "frost" },
    { src: 2, action: "error", reason: "there is no temperature" },
  ]);
  assert.throws(() => new Plugin(join(out, "fahrenheit.wasm"), { form: "t" }), /unknown key form; there are: from, to/);
});

test("example work_order", () => {
  const plugin = new Plugin(build("examples/work_order"));
  const side = (payload) => ({ payload });
  const base = { status: "open", notes: ["a"], quantity: 5, by: "x" };
  assert.deepEqual(plugin.resolve([
    { base: side(base), local: side({ ...base, status: "done", notes: ["a", "b"], quantity: 7 }), remote: side({ ...base, status: "started", notes: ["a", "c"], quantity: 4 }) },
    { base: side(base), local: side({ ...base, status: "started" }), remote: side({ ...base, status: "done" }) },
    { base: side(base), local: side({ ...base, by: "y" }), remote: side({ ...base, by: "z" }) },
    { base: side(base), local: { deleted: true }, remote: side({ ...base, by: "z" }) },
  ]), [
    { src: 0, action: "merged", payload: '{"status":"done","notes":["a","c","b"],"quantity":6,"by":"x"}' },
    { src: 1, action: "merged", payload: '{"status":"done","notes":["a"],"quantity":5,"by":"x"}' },
    { src: 2, action: "manual", reason: "changed on both sides: by" },
    { src: 3, action: "manual", reason: "deleted on one side" },
  ]);
});

test("the README shows the examples as they are", () => {
  const readme = readFileSync(join(sdk, "README.md"), "utf8");
  for (const name of ["fahrenheit", "work_order"]) {
    const code = readFileSync(join(sdk, "examples", `${name}.ts`), "utf8").replaceAll('"../assembly"', '"../sdk/assemblyscript/assembly"');
    assert.ok(readme.includes(code.slice(code.indexOf("import "))), name);
  }
});
