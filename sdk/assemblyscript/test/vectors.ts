// A plugin that does what each record asks for, as sdk/testdata/README.md says.

import {
  asF64, asString, Builder, Bytes, Conflict, Draft, get, integer, Output, Path, quote, Record, resolve, transform, Verdict, Version,
} from "../assembly";
import { call } from "./units";

export { edged_abi_v1, edged_alloc } from "../assembly";
import { call } from "./units";

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, obey); }

export function edged_resolve(ptr: usize, len: usize): u64 { return resolve(ptr, len, decide); }

const DO = Path.member("do");
const CODE = Path.member("code");
const TO = Path.member("to");

function field(r: Record, name: string): string | null { return asString(get(r.payload, Path.member(name))); }

function part(r: Record, name: string): Bytes | null {
  const s = field(r, name);
  return s === null ? null : Bytes.of(s);
}

function obey(r: Record, out: Output): void {
  const what = asString(get(r.payload, DO));
  if (what === null) return; // no answer at all
  const code = asF64(get(r.payload, CODE));
  const number: u16 = code > 0 ? <u16>code : 0;
  const reason = field(r, "reason");
  const to = asString(get(r.payload, TO));
  if (what == "pass") out.pass();
  else if (what == "drop") out.drop(reason === null ? "" : reason, number);
  else if (what == "error") out.error(reason!, number);
  else if (what == "payload") out.payload(Bytes.of(to!));
  else if (what == "keep") {
    out.pass();
    out.payload(Bytes.of(to!));
  } else if (what == "split") {
    for (let i = 0; i < 3; i++) {
      const draft = new Draft();
      draft.id = Bytes.of(asString(get(r.payload, Path.parse("ids." + i.toString())))!);
      out.emit(draft);
    }
  } else if (what == "emit") {
    const draft = new Draft();
    draft.id = part(r, "id");
    draft.device = part(r, "device");
    draft.type = part(r, "type");
    draft.payload = part(r, "to");
    const time = field(r, "timestamp");
    if (time !== null) draft.timestamp = I64.parseInt(time);
    out.emit(draft);
  } else if (what == "panic") {
    throw new Error("as it was asked");
  } else if (what == "call") {
    out.payload(new Builder().add(Bytes.of('{"result":')).add(quote(call(get(r.payload, Path.member("args"))!))).byte(0x7d).bytes());
  }
}

function decide(c: Conflict, out: Verdict): void {
  const local = c.local;
  if (local.deleted || local.payloadLeftOut || !local.isObject) {
    if (local.compareTo(c.remote) > 0) out.local();
    else out.remote();
    return;
  }
  const asked = local.payload;
  const what = asString(get(asked, DO));
  if (what === null) return; // no verdict at all
  const code = asF64(get(asked, CODE));
  const number: u16 = code > 0 ? <u16>code : 0;
  const given = asString(get(asked, Path.member("reason")));
  const reason = given === null ? "" : given;
  if (what == "local") out.local();
  else if (what == "remote") out.remote();
  else if (what == "delete") out.remove();
  else if (what == "merged") out.merged(Bytes.of(asString(get(asked, TO))!));
  else if (what == "manual") out.manual(reason, asString(get(asked, Path.member("serve"))) == "local");
  else if (what == "error") out.error(reason, number);
  else if (what == "tell") {
    const side = asString(get(asked, Path.member("side")))!;
    const version = side == "local" ? local : side == "remote" ? c.remote : c.base;
    out.merged(version === null ? Bytes.of("null") : tell(c.key, version));
  }
}

function tell(key: Bytes, v: Version): Bytes {
  const out = new Builder();
  out.add(Bytes.of('{"key":')).add(quote(key.toString()));
  out.add(Bytes.of(',"device":')).add(quote(v.device.toString()));
  out.add(Bytes.of(',"type":')).add(quote(v.type.toString()));
  out.add(Bytes.of(',"wall":')).add(integer(v.wall));
  out.add(Bytes.of(',"counter":' + v.counter.toString() + ',"revision":' + v.revision.toString()));
  out.add(Bytes.of(',"clock":"' + (v.clockUnknown ? "unknown" : v.clockRaised ? "floor" : "synced") + '"'));
  out.add(Bytes.of(',"deleted":' + (v.deleted ? "true" : "false") + ',"object":' + (v.isObject ? "true" : "false") + ',"body":'));
  return out.add(v.deleted ? Bytes.of("null") : v.payload).byte(0x7d).bytes();
}
