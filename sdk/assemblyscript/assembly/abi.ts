// ABI v1 as sdk/abi.md draws it. A plugin exports what it needs of here from
// its entry file.

import { Bytes } from "./bytes";
import { CALL_HEADER, MAGIC, Outbox, RECORD_HEADER } from "./frames";

const OUT_HEADER: i32 = 40;

// The actions of an out frame.
const EMIT: u16 = 1;
const PASS: u16 = 2;
const DROP: u16 = 3;
const ERROR: u16 = 4;

// The bits of its changed mask.
const CHANGED_ID: u32 = 1;
const CHANGED_DEVICE: u32 = 2;
const CHANGED_TYPE: u32 = 4;
const CHANGED_TIMESTAMP: u32 = 8;
const CHANGED_PAYLOAD: u32 = 32;

/** Marks the module as a plugin of ABI v1. Export it. */
export function edged_abi_v1(): void {}

/** Makes room for the host's next call, and ends all that the last one allocated. Export it. */
export function edged_alloc(size: usize): usize {
  __edged_reset();
  return __edged_try(size);
}

/** A text as the result of edged_describe or edged_configure. */
export function text(s: string): u64 {
  const b = Bytes.of(s);
  return <u64>b.ptr << 32 | <u64>b.len;
}

/** A record as the host handed it over. There is one, and it moves on: do not keep it. */
export class Record {
  private at: usize = 0;

  /** @internal */
  move(at: usize): void { this.at = at; }
  /** @internal */
  next(): usize { return this.at + load<u32>(this.at); }

  /** Nanoseconds since 1970; see timestampSaturated. */
  get timestamp(): i64 { return load<i64>(this.at, 24); }
  /** True: the timestamp lies outside the years 1677 to 2262 and was cut. */
  get timestampSaturated(): bool { return (load<u16>(this.at, 4) & 1) != 0; }

  get id(): Bytes { return new Bytes(this.at + RECORD_HEADER, this.idLen); }
  get device(): Bytes { return new Bytes(this.at + RECORD_HEADER + this.idLen, this.deviceLen); }
  get type(): Bytes { return new Bytes(this.at + RECORD_HEADER + this.idLen + this.deviceLen, this.typeLen); }

  /** One JSON object. */
  get payload(): Bytes {
    const at = this.at + RECORD_HEADER + this.idLen + this.deviceLen + this.typeLen + load<u32>(this.at, 16);
    return new Bytes(at, load<u32>(this.at, 20));
  }

  @inline private get idLen(): i32 { return <i32>load<u16>(this.at, 8); }
  @inline private get deviceLen(): i32 { return <i32>load<u16>(this.at, 10); }
  @inline private get typeLen(): i32 { return <i32>load<u16>(this.at, 12); }
}

/** A record to emit: what is set here replaces what the input has. */
export class Draft {
  id: Bytes | null = null;
  device: Bytes | null = null;
  type: Bytes | null = null;
  payload: Bytes | null = null;
  private at: i64 = 0;
  private dated: bool = false;

  /** Nanoseconds since 1970. */
  set timestamp(ns: i64) { this.at = ns; this.dated = true; }
  get timestamp(): i64 { return this.at; }
  get hasTimestamp(): bool { return this.dated; }
}

/**
 * Answers the record at hand. A record gets pass, drop or error once, or any
 * number of emits (a split); pass beside emits keeps the original among them.
 */
export class Output {
  private src: u32 = 0;
  private answers: i32 = 0;

  /** The record goes on as it is. Nothing is copied. */
  pass(): void { this.frame(PASS, 0, 0, 0); }

  /** The record ends here, on purpose. The reason is kept. */
  drop(reason: string = "", code: u16 = 0): void { this.reason(DROP, reason, code); }

  /** The record cannot be processed: the pipeline decides what becomes of it. */
  error(reason: string, code: u16 = 0): void { this.reason(ERROR, reason, code); }

  /** The record goes on with another payload, which must be one JSON object. */
  payload(json: Bytes): void {
    const at = this.frame(EMIT, 0, CHANGED_PAYLOAD, json.len);
    store<u32>(at, json.len, 28);
    memory.copy(at + OUT_HEADER, json.ptr, json.len);
  }

  /**
   * A record made from the one at hand. Call it several times to split; give
   * each an id of its own, or the host numbers them.
   */
  emit(draft: Draft): void {
    const id = draft.id, device = draft.device, type = draft.type, payload = draft.payload;
    let changed: u32 = draft.hasTimestamp ? CHANGED_TIMESTAMP : 0;
    let size = 0;
    if (id !== null) { changed |= CHANGED_ID; size += id.len; }
    if (device !== null) { changed |= CHANGED_DEVICE; size += device.len; }
    if (type !== null) { changed |= CHANGED_TYPE; size += type.len; }
    if (payload !== null) { changed |= CHANGED_PAYLOAD; size += payload.len; }
    const at = this.frame(EMIT, 0, changed, size);
    let p = at + OUT_HEADER;
    if (id !== null) { store<u16>(at, id.len, 16); p = append(p, id); }
    if (device !== null) { store<u16>(at, device.len, 18); p = append(p, device); }
    if (type !== null) { store<u16>(at, type.len, 20); p = append(p, type); }
    if (payload !== null) { store<u32>(at, payload.len, 28); p = append(p, payload); }
    store<i64>(at, draft.timestamp, 32);
  }

  private reason(action: u16, reason: string, code: u16): void {
    const size = String.UTF8.byteLength(reason);
    const at = this.frame(action, code, 0, size);
    store<u32>(at, size, 28);
    String.UTF8.encodeUnsafe(changetype<usize>(reason), reason.length, at + OUT_HEADER);
  }

  /** Begins a frame whose parts have `size` bytes. */
  private frame(action: u16, code: u16, changed: u32, size: i32): usize {
    this.answers++;
    const at = outbox.frame(OUT_HEADER, size, this.src, action, code);
    store<u32>(at, changed, 12);
    return at;
  }

  /** @internal */
  turn(src: u32): void { this.src = src; this.answers = 0; }
  /** @internal */
  get answered(): bool { return this.answers > 0; }
}

function append(p: usize, part: Bytes): usize {
  memory.copy(p, part.ptr, part.len);
  return p + part.len;
}

const outbox = new Outbox();
const record = new Record();
const output = new Output();

/** The time of the call that runs, in nanoseconds since 1970. */
export let callTime: i64 = 0;

/** Calls `handle` for every record of a call. What edged_transform returns. */
export function transform(ptr: usize, len: usize, handle: (record: Record, out: Output) => void): u64 {
  if (len < CALL_HEADER || load<u32>(ptr) != MAGIC || load<u16>(ptr, 4) != 1 || load<u16>(ptr, 6) != 1) return 0;
  const count = load<u32>(ptr, 8);
  callTime = load<i64>(ptr, 16);
  // Most transforms add a little to each record.
  outbox.open(len + <usize>count * 64 + 1024);
  let at = ptr + CALL_HEADER;
  for (let i: u32 = 0; i < count; i++) {
    record.move(at);
    output.turn(i);
    handle(record, output);
    if (!output.answered) output.error("the plugin gave no answer");
    at = record.next();
  }
  return outbox.close();
}
