// A plugin that does what each record asks for: the golden vectors of
// sdk/testdata hold its calls and its answers.

import { asF64, asString, Bytes, Draft, get, Output, Path, Record, transform } from "../assembly";

export { edged_abi_v1, edged_alloc } from "../assembly";

export function edged_transform(ptr: usize, len: usize): u64 { return transform(ptr, len, obey); }

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
  }
}
