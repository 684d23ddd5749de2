// JSON without a tree: everything works on the bytes of a value as it stands,
// finds the bytes that matter, and leaves all others as they are. Numbers keep
// their text.
//
// The host hands over payloads that are valid JSON, so nothing here validates;
// but nothing reads outside the bytes it was given, whatever they hold.
//
// Of members with the same name the first counts.

import { Bytes } from "./bytes";
import { quote, unescape } from "./strings";

/** What a JSON value is. */
export enum Kind { Missing, Null, Boolean, Number, String, Array, Object }

/** A place in a JSON value, made once and used often. */
export class Path {
  /** The names as UTF-8. */
  readonly names: Bytes[] = [];
  /** The names as JSON strings, quoted and escaped. */
  readonly quoted: Bytes[] = [];

  /** Reads `a.b.0`: members, and elements of arrays by number. */
  static parse(dotted: string): Path {
    const path = new Path();
    const parts = dotted.split(".");
    for (let i = 0; i < parts.length; i++) path.push(parts[i]);
    return path;
  }

  /** The member of that name, dots and all. */
  static member(name: string): Path {
    const path = new Path();
    path.push(name);
    return path;
  }

  private push(name: string): void {
    this.names.push(Bytes.of(name));
    this.quoted.push(quote(name));
  }
}

// @ts-ignore: decorator
@inline function space(c: u8): bool { return c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09; }

/** Mostly there is no white space, and then there is no loop to enter. */
// @ts-ignore: decorator
@inline export function skipSpace(p: usize, end: usize): usize {
  return p < end && load<u8>(p) <= 0x20 ? skipSpaces(p, end) : p;
}

function skipSpaces(p: usize, end: usize): usize {
  while (p < end && space(load<u8>(p))) p++;
  return p;
}

// Eight bytes at a time: a byte of each result has its high bit set where the
// byte looked at has the value asked for. (The lowest such bit is exact.)
const LOW: u64 = 0x0101010101010101;
const HIGH: u64 = 0x8080808080808080;

// @ts-ignore: decorator
@inline function isByte(word: u64, value: u64): u64 {
  const x = word ^ (LOW * value);
  return (x - LOW) & ~x & HIGH;
}

/** Whether skipString met an escape since this was cleared. */
let escaped = false;

/** From the opening quote to after the closing one; 0: there is none. */
export function skipString(p: usize, end: usize): usize {
  p++;
  while (p + 8 <= end) {
    const word = load<u64>(p);
    const found = isByte(word, 0x22) | isByte(word, 0x5c);
    if (found == 0) {
      p += 8;
      continue;
    }
    p += <usize>(ctz(found) >> 3);
    if (load<u8>(p) == 0x22) return p + 1;
    escaped = true;
    p += 2;
  }
  while (p < end) {
    const c = load<u8>(p);
    if (c == 0x22) return p + 1;
    if (c == 0x5c) {
      escaped = true;
      p++;
    }
    p++;
  }
  return 0;
}

/** From the start of a value to after it; 0: the bytes end too early. */
export function skipValue(p: usize, end: usize): usize {
  if (p >= end) return 0;
  const c = load<u8>(p);
  if (c == 0x22) return skipString(p, end);
  if (c == 0x7b || c == 0x5b) return skipContainer(p + 1, end);
  const start = p;
  while (p + 8 <= end) {
    const word = load<u64>(p);
    const found = isByte(word, 0x2c) | isByte(word | (LOW * 0x20), 0x7d) | ((word - LOW * 0x21) & ~word & HIGH);
    if (found != 0) {
      p += <usize>(ctz(found) >> 3);
      return p > start ? p : 0;
    }
    p += 8;
  }
  while (p < end) {
    const c = load<u8>(p);
    if (c == 0x2c || (c | 0x20) == 0x7d || c <= 0x20) break;
    p++;
  }
  return p > start ? p : 0;
}

/** From after an opening bracket to after its closing one. */
function skipContainer(p: usize, end: usize): usize {
  let depth = 1;
  while (p < end) {
    if (p + 8 <= end) {
      const word = load<u64>(p);
      const folded = word | (LOW * 0x20);
      const found = isByte(word, 0x22) | isByte(folded, 0x7b) | isByte(folded, 0x7d);
      if (found == 0) {
        p += 8;
        continue;
      }
      p += <usize>(ctz(found) >> 3);
    }
    const c = load<u8>(p);
    if (c == 0x22) {
      p = skipString(p, end);
      if (!p) return 0;
      continue;
    }
    p++;
    const bracket = c | 0x20; // [ and {, ] and } differ in that bit only
    if (bracket == 0x7b) depth++;
    else if (bracket == 0x7d) {
      depth--;
      if (depth == 0) return p;
    }
  }
  return 0;
}

// Where the last walk through a container ended. Results of several parts
// would have to be allocated.
let memberAt: usize = 0; // the member's name, or the element
let valueAt: usize = 0;
let valueEnd: usize = 0;
let lastEnd: usize = 0; // after the value before: 0 if it is the first
let closingAt: usize = 0; // the closing bracket, when nothing was found

/** Compares the plain bytes of a name between quotes to UTF-8. */
// @ts-ignore: decorator
@inline function samePlain(p: usize, len: i32, name: Bytes): bool {
  return len == name.len && sameBytes(p, name.ptr, len);
}

// @ts-ignore: decorator
@inline function sameBytes(p: usize, q: usize, len: i32): bool {
  if (len == 0) return true;
  if (load<u8>(p) != load<u8>(q)) return false;
  let i = 1;
  while (i < len && load<u8>(p + i) == load<u8>(q + i)) i++; // short: a loop beats a call
  return i == len;
}

/**
 * Looks for a member, or for the element whose number `name` is. Sets the
 * places above. False: it is not there; then closingAt is 0 if the bytes are no
 * container.
 */
function find(p: usize, end: usize, name: Bytes): bool {
  closingAt = 0;
  lastEnd = 0;
  if (p >= end) return false;
  const opening = load<u8>(p);
  if (opening == 0x7b) return findMember(p + 1, end, name);
  if (opening == 0x5b) return findElement(p + 1, end, name);
  return false;
}

// The name of the member that was read last, between its quotes.
let nameAt: usize = 0;
let nameEnd: usize = 0;
let nameEscaped = false;

/** Reads the member whose opening quote is at p. */
function member(p: usize, end: usize): bool {
  memberAt = p;
  escaped = false;
  p = skipString(p, end);
  if (!p) return false;
  nameAt = memberAt + 1;
  nameEnd = p - 1;
  nameEscaped = escaped;
  p = skipSpace(p, end);
  if (p >= end || load<u8>(p) != 0x3a) return false;
  p = skipSpace(p + 1, end);
  valueAt = p;
  valueEnd = skipValue(p, end);
  return valueEnd != 0;
}

function findMember(p: usize, end: usize, name: Bytes): bool {
  while (true) {
    p = skipSpace(p, end);
    if (p >= end) return false;
    const c = load<u8>(p);
    if (c == 0x7d) {
      closingAt = p;
      return false;
    }
    if (c == 0x2c) {
      p++;
      continue;
    }
    if (c != 0x22) return false;
    if (!member(p, end)) return false;
    p = valueEnd;
    if (nameEscaped ? unescape(nameAt, nameEnd).equals(name) : samePlain(nameAt, <i32>(nameEnd - nameAt), name)) return true;
    lastEnd = p;
  }
}

function findElement(p: usize, end: usize, name: Bytes): bool {
  let wanted = index(name);
  if (wanted < 0) return false;
  while (true) {
    p = skipSpace(p, end);
    if (p >= end) return false;
    const c = load<u8>(p);
    if (c == 0x5d) {
      closingAt = p;
      return false;
    }
    if (c == 0x2c) {
      p++;
      continue;
    }
    const value = p;
    p = skipValue(p, end);
    if (!p) return false;
    if (wanted == 0) {
      memberAt = value;
      valueAt = value;
      valueEnd = p;
      return true;
    }
    wanted--;
    lastEnd = p;
  }
}

function index(name: Bytes): i32 {
  if (name.len == 0 || name.len > 9) return -1;
  let n = 0;
  for (let i = 0; i < name.len; i++) {
    const digit = <i32>load<u8>(name.ptr + i) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    n = n * 10 + digit;
  }
  return n;
}

// What a Lookup knows of a path, 16 bytes each: its first name, and where the
// value is. Raw memory, because every member is held against every path.
const SLOT: usize = 16; // name u32, name length u32, value u32, value length u32

/**
 * Several paths, looked for in one pass: the fast way for a transform that reads
 * some fields and writes another. Make it once.
 */
export class Lookup {
  private slots: usize;
  private slotsEnd: usize;
  private json: Bytes = new Bytes(0, 0);
  private last: usize = 0; // after the last member
  private first: usize = 0; // after the opening brace
  private closed: bool = false;

  constructor(private paths: Path[]) {
    const size = <usize>paths.length * SLOT;
    this.slots = heap.alloc(size);
    this.slotsEnd = this.slots + size;
    for (let i = 0; i < paths.length; i++) {
      const slot = this.slots + <usize>i * SLOT, name = paths[i].names[0];
      store<u32>(slot, <u32>name.ptr);
      store<u32>(slot, name.len, 4);
      store<u64>(slot, 0, 8);
    }
  }

  /** Looks for every path. False: the bytes are no object. */
  run(json: Bytes): bool {
    const slots = this.slots, slotsEnd = this.slotsEnd;
    for (let slot = slots; slot < slotsEnd; slot += SLOT) store<u64>(slot, 0, 8);
    this.json.ptr = json.ptr;
    this.json.len = json.len;
    this.last = 0;
    this.closed = false;
    const end = json.end;
    let p = skipSpace(json.ptr, end);
    if (p >= end || load<u8>(p) != 0x7b) return false;
    this.first = ++p;
    let last: usize = 0;
    while (true) {
      p = skipSpace(p, end);
      if (p >= end) return false;
      let c = load<u8>(p);
      if (c == 0x2c) {
        p = skipSpace(p + 1, end);
        if (p >= end) return false;
        c = load<u8>(p);
      }
      if (c != 0x22) {
        this.last = last;
        return this.closed = c == 0x7d;
      }
      if (!member(p, end)) return false;
      p = last = valueEnd;
      const at = valueAt;
      let name = nameAt, len = <u32>(nameEnd - nameAt);
      if (nameEscaped) {
        const plain = unescape(nameAt, nameEnd);
        name = plain.ptr;
        len = plain.len;
      }
      for (let slot = slots; slot < slotsEnd; slot += SLOT) {
        if (load<u32>(slot, 4) == len && sameBytes(name, load<u32>(slot), len) && !load<u32>(slot, 8)) {
          this.found(slot, at, p);
        }
      }
    }
  }

  private found(slot: usize, at: usize, end: usize): void {
    const names = this.paths[<i32>((slot - this.slots) / SLOT)].names;
    valueAt = at;
    valueEnd = end;
    for (let n = 1; n < names.length; n++) {
      if (!find(valueAt, valueEnd, unchecked(names[n]))) return;
    }
    store<u32>(slot, <u32>valueAt, 8);
    store<u32>(slot, <u32>(valueEnd - valueAt), 12);
  }

  /** The value at the path with that number. Null: there is none. */
  value(i: i32): Bytes | null {
    const slot = this.slots + <usize>i * SLOT;
    const at = load<u32>(slot, 8);
    return at ? new Bytes(at, load<u32>(slot, 12)) : null;
  }

  /** Does what `set` does for the path with that number, on the bytes of the last run. */
  set(i: i32, value: Bytes): Bytes | null {
    const old = this.value(i), path = this.paths[i];
    if (old !== null) return splice(this.json, old.ptr, old.end, value);
    if (!this.closed) return null;
    if (path.names.length > 1) return set(this.json, path, value);
    return insert(this.json, this.last ? this.last : this.first, this.last != 0, path, 0, value);
  }
}

/** Finds the value at `path`. Null: there is none. */
export function get(json: Bytes, path: Path): Bytes | null {
  const end = json.end;
  valueAt = skipSpace(json.ptr, end);
  valueEnd = end;
  for (let i = 0; i < path.names.length; i++) {
    if (!find(valueAt, valueEnd, unchecked(path.names[i]))) return null;
  }
  return new Bytes(valueAt, <i32>(valueEnd - valueAt));
}

/** Says what the value is; its first byte decides. */
export function kind(value: Bytes | null): Kind {
  if (value === null || value.len == 0) return Kind.Missing;
  switch (load<u8>(value.ptr)) {
    case 0x22: return Kind.String;
    case 0x7b: return Kind.Object;
    case 0x5b: return Kind.Array;
    case 0x74:
    case 0x66: return Kind.Boolean;
    case 0x6e: return Kind.Null;
    default: return Kind.Number;
  }
}

/**
 * Returns `json` with the value at `path` replaced, or added as the last member
 * of its object; objects on the way that are missing are made. No other byte
 * changes. Null: something on the way is no object, or a new element would have
 * to be put into an array.
 */
export function set(json: Bytes, path: Path, value: Bytes): Bytes | null {
  const end = json.end;
  valueAt = skipSpace(json.ptr, end);
  valueEnd = end;
  const names = path.names.length;
  for (let i = 0; i < names; i++) {
    const container = valueAt;
    if (find(container, valueEnd, unchecked(path.names[i]))) continue;
    if (!closingAt || load<u8>(container) != 0x7b) return null;
    return insert(json, lastEnd ? lastEnd : container + 1, lastEnd != 0, path, i, value);
  }
  return splice(json, valueAt, valueEnd, value);
}

/** Writes the member `path[from]` at `at`, with the objects it needs. */
function insert(json: Bytes, at: usize, comma: bool, path: Path, from: i32, value: Bytes): Bytes {
  const names = path.names.length;
  let size = <i32>comma + value.len;
  for (let i = from; i < names; i++) size += path.quoted[i].len + 1 + 2 * <i32>(i > from);
  const text = heap.alloc(size);
  let p = text;
  if (comma) store<u8>(p++, 0x2c);
  for (let i = from; i < names; i++) {
    if (i > from) store<u8>(p++, 0x7b);
    const name = unchecked(path.quoted[i]);
    memory.copy(p, name.ptr, name.len);
    p += name.len;
    store<u8>(p++, 0x3a);
  }
  memory.copy(p, value.ptr, value.len);
  p += value.len;
  for (let i = from + 1; i < names; i++) store<u8>(p++, 0x7d);
  return splice(json, at, at, new Bytes(text, size));
}

/** Returns `json` with the bytes from `at` to `to` replaced. */
function splice(json: Bytes, at: usize, to: usize, middle: Bytes): Bytes {
  const head = at - json.ptr;
  const tail = json.end - to;
  const size = head + middle.len + tail;
  const out = heap.alloc(size);
  memory.copy(out, json.ptr, head);
  memory.copy(out + head, middle.ptr, middle.len);
  memory.copy(out + head + middle.len, to, tail);
  return new Bytes(out, <i32>size);
}

/** Returns `json` without the member or element at `path`, or `json` itself if it is not there. */
export function del(json: Bytes, path: Path): Bytes {
  const end = json.end;
  valueAt = skipSpace(json.ptr, end);
  valueEnd = end;
  for (let i = 0; i < path.names.length; i++) {
    if (!find(valueAt, valueEnd, unchecked(path.names[i]))) return json;
  }
  let from = memberAt;
  let to = valueEnd;
  if (lastEnd) {
    from = lastEnd; // with the comma before it
  } else {
    const next = skipSpace(to, end);
    if (next < end && load<u8>(next) == 0x2c) to = skipSpace(next + 1, end);
  }
  return splice(json, from, to, new Bytes(0, 0));
}

/** True or false as 1 or 0; -1: the value is neither. */
export function asBool(value: Bytes | null): i32 {
  if (kind(value) != Kind.Boolean) return -1;
  return load<u8>(value!.ptr) == 0x74 ? 1 : 0;
}

/** Calls `visit` with the name of every member of an object. */
export function eachName(json: Bytes, visit: (name: string) => void): void {
  const end = json.end;
  let p = skipSpace(json.ptr, end);
  if (p >= end || load<u8>(p) != 0x7b) return;
  p++;
  while (true) {
    p = skipSpace(p, end);
    if (p < end && load<u8>(p) == 0x2c) p = skipSpace(p + 1, end);
    if (p >= end || load<u8>(p) != 0x22) return;
    const key = p + 1;
    p = skipString(p, end);
    if (!p) return;
    visit(unescape(key, p - 1).toString());
    p = skipSpace(p, end);
    if (p >= end) return;
    p = skipValue(skipSpace(p + 1, end), end);
    if (!p) return;
  }
}
