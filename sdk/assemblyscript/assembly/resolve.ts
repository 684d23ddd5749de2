// Conflicts, as sdk/abi.md draws them: a key that was changed on both sides.

import { Bytes } from "./bytes";
import { CALL_HEADER, MAGIC, Outbox, RECORD_HEADER } from "./frames";

const CONFLICT_HEADER: usize = 16;
const VERDICT_HEADER: i32 = 24;

// The bits of a version's flags.
const DELETED: u16 = 2;
const RAISED: u16 = 4;
const UNKNOWN: u16 = 8;
const LEFT_OUT: u16 = 16;

// The actions of a verdict.
const LOCAL: u16 = 1;
const REMOTE: u16 = 2;
const MERGED: u16 = 3;
const DELETE: u16 = 4;
const MANUAL: u16 = 5;
const ERROR: u16 = 6;

/** One version of a key. It belongs to its conflict: do not keep it. */
export class Version {
  private at: usize = 0;

  /** @internal */
  move(at: usize): usize {
    this.at = at;
    return at + load<u32>(at);
  }

  /** The version is a delete; it has no payload. */
  get deleted(): bool { return (this.flags & DELETED) != 0; }
  /** The clock of its writer lagged behind and was raised. */
  get clockRaised(): bool { return (this.flags & RAISED) != 0; }
  /** The clock of its writer says nothing. */
  get clockUnknown(): bool { return (this.flags & UNKNOWN) != 0; }
  /** There is a payload, and it was not asked for: `needs` is `headers`. */
  get payloadLeftOut(): bool { return (this.flags & LEFT_OUT) != 0; }
  /** The payload is one JSON object, and not another JSON value. */
  get isObject(): bool { return load<u16>(this.at, 6) == 1; }

  /** The wall time of its hybrid logical clock, in nanoseconds since 1970. */
  get wall(): i64 { return load<i64>(this.at, 24); }
  /** The counter among versions with the same wall time. */
  get counter(): u64 { return load<u64>(this.at, 40); }
  /** The revision at the hub; 0: it was never there. */
  get revision(): u64 { return load<u64>(this.at, 48); }

  /** Who wrote it. */
  get device(): Bytes { return new Bytes(this.at + RECORD_HEADER + this.keyLen, this.deviceLen); }
  get type(): Bytes { return new Bytes(this.at + RECORD_HEADER + this.keyLen + this.deviceLen, load<u16>(this.at, 12)); }
  /** The JSON value; empty when it is deleted or left out. */
  get payload(): Bytes {
    const at = this.at + RECORD_HEADER + this.keyLen + this.deviceLen + load<u16>(this.at, 12) + load<u32>(this.at, 16);
    return new Bytes(at, load<u32>(this.at, 20));
  }
  /** @internal */
  get key(): Bytes { return new Bytes(this.at + RECORD_HEADER, this.keyLen); }

  @inline private get flags(): u16 { return load<u16>(this.at, 4); }
  @inline private get keyLen(): i32 { return <i32>load<u16>(this.at, 8); }
  @inline private get deviceLen(): i32 { return <i32>load<u16>(this.at, 10); }

  /**
   * Which version is later: above 0 this one, below 0 the other, 0 neither. By
   * wall time, then the counter, then the device; every edge finds the same. 0
   * also when the clock of either is unknown: then only the hub's order counts.
   */
  compareTo(other: Version): i32 {
    if (this.clockUnknown || other.clockUnknown) return 0;
    if (this.wall != other.wall) return this.wall > other.wall ? 1 : -1;
    if (this.counter != other.counter) return this.counter > other.counter ? 1 : -1;
    const a = this.device, b = other.device;
    const order = memory.compare(a.ptr, b.ptr, min(a.len, b.len));
    return order != 0 ? order : a.len - b.len;
  }
}

/** A key that was changed here and at the hub since both last agreed. There is one, and it moves on: do not keep it. */
export class Conflict {
  private readonly was: Version = new Version();
  private based: bool = false;
  /** What this edge has. */
  readonly local: Version = new Version();
  /** What the hub has. */
  readonly remote: Version = new Version();

  /**
   * What both last agreed on. Null: that is not known, and what one side lacks
   * may be new on the other. A deleted base says that the key was not there.
   */
  get base(): Version | null { return this.based ? this.was : null; }
  get key(): Bytes { return this.local.key; }

  /** @internal */
  move(at: usize): void {
    this.based = (load<u32>(at, 4) & 1) != 0;
    let p = at + CONFLICT_HEADER;
    if (this.based) p = this.was.move(p);
    this.remote.move(this.local.move(p));
  }
}

/** Decides the conflict at hand, once. */
export class Verdict {
  private src: u32 = 0;
  private decided: bool = false;

  /** This edge's version wins. */
  local(): void { this.frame(LOCAL, 0, 0); }
  /** The hub's version wins. */
  remote(): void { this.frame(REMOTE, 0, 0); }
  /** Both sides become this JSON value. */
  merged(json: Bytes): void {
    const at = this.frame(MERGED, 0, json.len);
    memory.copy(at + VERDICT_HEADER, json.ptr, json.len);
  }
  /** Both sides lose the key. */
  remove(): void { this.frame(DELETE, 0, 0); }
  /** A person decides; until then the hub's version is served, or this edge's. */
  manual(reason: string, serveLocal: bool = false): void { this.reason(MANUAL, reason, serveLocal ? 1 : 0); }
  /** The next resolver of the chain is asked. */
  error(reason: string, code: u16 = 0): void { this.reason(ERROR, reason, code); }

  private reason(action: u16, reason: string, code: u16): void {
    const at = this.frame(action, code, String.UTF8.byteLength(reason));
    String.UTF8.encodeUnsafe(changetype<usize>(reason), reason.length, at + VERDICT_HEADER);
  }

  private frame(action: u16, code: u16, size: i32): usize {
    if (this.decided) unreachable(); // two verdicts: the host would refuse the whole call
    this.decided = true;
    const at = outbox.frame(VERDICT_HEADER, size, this.src, action, code);
    store<u32>(at, size, 12);
    return at;
  }

  /** @internal */
  turn(src: u32): void { this.src = src; this.decided = false; }
  /** @internal */
  get given(): bool { return this.decided; }
}

const outbox = new Outbox();
const conflict = new Conflict();
const verdict = new Verdict();

/** Calls `decide` for every conflict of a call. What edged_resolve returns. */
export function resolve(ptr: usize, len: usize, decide: (conflict: Conflict, verdict: Verdict) => void): u64 {
  if (len < CALL_HEADER || load<u32>(ptr) != MAGIC || load<u16>(ptr, 4) != 1 || load<u16>(ptr, 6) != 2) return 0;
  const count = load<u32>(ptr, 8);
  outbox.open(<usize>count * 64 + 1024);
  let at = ptr + CALL_HEADER;
  for (let i: u32 = 0; i < count; i++) {
    conflict.move(at);
    verdict.turn(i);
    decide(conflict, verdict);
    if (!verdict.given) verdict.error("the plugin gave no answer");
    at += load<u32>(at);
  }
  return outbox.close();
}
