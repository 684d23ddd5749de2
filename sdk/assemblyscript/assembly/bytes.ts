/** A run of bytes in memory. Without more said, valid until the call ends. */
export class Bytes {
  constructor(public ptr: usize, public len: i32) {}

  /** The UTF-8 bytes of `s`. */
  static of(s: string): Bytes {
    const len = String.UTF8.byteLength(s);
    const ptr = heap.alloc(len);
    String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, ptr);
    return new Bytes(ptr, len);
  }

  /** The address after the last byte. */
  @inline get end(): usize { return this.ptr + this.len; }

  /** The text, read as UTF-8. */
  toString(): string { return String.UTF8.decodeUnsafe(this.ptr, this.len); }

  equals(other: Bytes): bool {
    return this.len == other.len && memory.compare(this.ptr, other.ptr, this.len) == 0;
  }
}
