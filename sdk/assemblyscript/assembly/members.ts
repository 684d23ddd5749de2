import { Bytes } from "./bytes";
import { skipSpace, skipString, skipValue } from "./json";
import { unescape } from "./strings";

/** Walks through the members of an object or the elements of an array, in order. */
export class Members {
  private p: usize;
  private readonly end: usize;
  private readonly object: bool;
  /** The member's name with its quotes, as it is written; empty for an element. */
  quoted: Bytes = new Bytes(0, 0);
  /** The member or element. */
  value: Bytes = new Bytes(0, 0);

  constructor(json: Bytes) {
    this.end = json.end;
    this.p = skipSpace(json.ptr, this.end);
    const opening = this.p < this.end ? load<u8>(this.p) : 0;
    this.object = opening == 0x7b;
    if (opening == 0x7b || opening == 0x5b) this.p++;
    else this.p = this.end;
  }

  /** Moves to the next one. False: there is none. */
  next(): bool {
    const end = this.end;
    let p = skipSpace(this.p, end);
    if (p < end && load<u8>(p) == 0x2c) p = skipSpace(p + 1, end);
    if (p >= end || (load<u8>(p) | 0x20) == 0x7d) return false;
    if (this.object) {
      if (load<u8>(p) != 0x22) return false;
      const at = p;
      p = skipString(p, end);
      if (!p) return false;
      this.quoted = new Bytes(at, <i32>(p - at));
      p = skipSpace(p, end);
      if (p >= end || load<u8>(p) != 0x3a) return false;
      p = skipSpace(p + 1, end);
    }
    const at = p;
    p = skipValue(p, end);
    if (!p) return false;
    this.value = new Bytes(at, <i32>(p - at));
    this.p = p;
    return true;
  }

  /** The member's name as UTF-8. */
  get name(): Bytes {
    const q = this.quoted;
    return q.len < 2 ? q : unescape(q.ptr + 1, q.end - 1);
  }
}

/** An object's members by name. Of several with the same name the first counts. */
export class Fields {
  readonly names: Bytes[] = [];
  readonly quoted: Bytes[] = [];
  readonly values: Bytes[] = [];
  private table: StaticArray<i32> = []; // open addressing, index + 1
  private mask: u32 = 0;

  constructor(json: Bytes) {
    const members = new Members(json);
    while (members.next()) {
      this.names.push(members.name);
      this.quoted.push(members.quoted);
      this.values.push(members.value);
    }
    let size: u32 = 8;
    while (size < <u32>this.names.length << 1) size <<= 1;
    this.table = new StaticArray<i32>(size);
    this.mask = size - 1;
    for (let i = 0; i < this.names.length; i++) {
      let slot = hash(this.names[i]) & this.mask;
      while (this.table[slot] && !this.names[this.table[slot] - 1].equals(this.names[i])) slot = slot + 1 & this.mask;
      if (!this.table[slot]) this.table[slot] = i + 1;
    }
  }

  @inline get length(): i32 { return this.names.length; }

  /** The number of the member of that name, -1: there is none. */
  find(name: Bytes): i32 {
    let slot = hash(name) & this.mask;
    while (this.table[slot]) {
      const i = this.table[slot] - 1;
      if (this.names[i].equals(name)) return i;
      slot = slot + 1 & this.mask;
    }
    return -1;
  }

  /** The value of the member of that name. Null: there is none. */
  get(name: Bytes): Bytes | null {
    const i = this.find(name);
    return i < 0 ? null : this.values[i];
  }
}

/** FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
function hash(b: Bytes): u32 {
  let h: u32 = 2166136261;
  for (let p = b.ptr; p < b.end; p++) h = (h ^ load<u8>(p)) * 16777619;
  return h;
}
