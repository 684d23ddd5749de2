// Functions of the SDK, one by one, as sdk/testdata/functions.json calls them: a
// JSON array of strings, what to do and its arguments. The result is a text.

import {
  addDelta, asBool, asF64, asString, Bytes, compareNumbers, Config, del, eachName, Fields, fixed, get, integer, kind, Lookup, Members, Path,
  quote, same, set,
} from "../assembly";
import { unescape } from "../assembly/strings";

let names: string[] = [];

function argument(json: Bytes, i: i32): string {
  const s = asString(get(json, Path.parse(i.toString())));
  return s === null ? "" : s;
}

function shown(b: Bytes | null): string { return b === null ? "null" : b.toString(); }

export function call(json: Bytes): string {
  const what = argument(json, 0);
  const a = argument(json, 1), b = argument(json, 2), c = argument(json, 3);
  const value = Bytes.of(a);
  if (what == "get") return shown(get(value, Path.parse(b)));
  if (what == "set") return shown(set(value, Path.parse(b), Bytes.of(c)));
  if (what == "del") return del(value, Path.parse(b)).toString();
  if (what == "kind") return (<i32>kind(value)).toString();
  if (what == "bool") return asBool(value).toString();
  if (what == "string") {
    const s = asString(value);
    return s === null ? "null" : s;
  }
  if (what == "unescape") {
    const text = unescape(value.ptr, value.end), next = heap.alloc(8);
    return next >= text.end || next < text.ptr ? text.toString() : "it ends in what is allocated next";
  }
  if (what == "quote") return quote(a).toString();
  if (what == "number") return reinterpret<u64>(asF64(value)).toString();
  if (what == "fixed") return shown(fixed(asF64(value), <i32>asF64(Bytes.of(b))));
  if (what == "integer") return integer(I64.parseInt(a)).toString();
  if (what == "names") {
    names = [];
    eachName(value, (name: string): void => { names.push(name); });
    return names.join("|");
  }
  if (what == "lookup") {
    const lookup = new Lookup([Path.parse(b), Path.parse(c), Path.parse("x.y")]);
    const ok = lookup.run(value);
    return (ok ? "" : "no object: ") + shown(lookup.value(0)) + "|" + shown(lookup.value(1)) + "|" +
      shown(lookup.set(0, Bytes.of("0"))) + "|" + shown(lookup.set(2, Bytes.of("1")));
  }
  if (what == "config") {
    const config = new Config(value.ptr, value.len);
    const s = config.string("s", "S");
    const n = config.number("n", 1.5, 0, 10);
    const i = config.integer("i", 3, 0, 9);
    const f = config.boolean("f", true);
    const result = config.finish();
    if (result != 0) return new Bytes(<usize>(result >> 32), <i32>result).toString();
    return s + "|" + n.toString() + "|" + i.toString() + "|" + f.toString();
  }
  if (what == "lists") {
    const config = new Config(value.ptr, value.len);
    const list = config.strings("l"), map = config.map("m");
    const result = config.finish();
    if (result != 0) return new Bytes(<usize>(result >> 32), <i32>result).toString();
    const names = map.keys(), pairs: string[] = [];
    for (let i = 0; i < names.length; i++) pairs.push(names[i] + "=" + map.get(names[i]));
    return list.join(",") + "|" + pairs.join(",");
  }
  if (what == "delta") return shown(addDelta(value, Bytes.of(b), Bytes.of(c)));
  if (what == "compare") return compareNumbers(value, Bytes.of(b)).toString();
  if (what == "same") return same(value, Bytes.of(b)) ? "yes" : "no";
  if (what == "members") {
    const members = new Members(value);
    let all = "";
    while (members.next()) all += members.name.toString() + "=" + members.value.toString() + ";";
    return all;
  }
  if (what == "fields") {
    const fields = new Fields(value);
    return fields.length.toString() + " " + fields.find(Bytes.of(b)).toString() + " " + shown(fields.get(Bytes.of(b)));
  }
  return "what is " + what + "?";
}
