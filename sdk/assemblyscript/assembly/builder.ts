import { Bytes } from "./bytes";

/** Bytes that are put together piece by piece. */
export class Builder {
  private start: usize;
  private end: usize;
  private limit: usize;

  constructor(room: i32 = 256) {
    this.start = heap.alloc(max(room, 16));
    this.end = this.start;
    this.limit = this.start + max(room, 16);
  }

  get length(): i32 { return <i32>(this.end - this.start); }

  add(b: Bytes): this {
    this.room(b.len);
    memory.copy(this.end, b.ptr, b.len);
    this.end += b.len;
    return this;
  }

  /** One byte, like a bracket. */
  byte(c: u8): this {
    this.room(1);
    store<u8>(this.end++, c);
    return this;
  }

  /** What was put together so far; valid until the next piece. */
  bytes(): Bytes { return new Bytes(this.start, this.length); }

  private room(more: i32): void {
    const need = this.end + more - this.start;
    if (need <= this.limit - this.start) return;
    const used = this.end - this.start, size = max(need, (this.limit - this.start) << 1);
    this.start = heap.realloc(this.start, size);
    this.end = this.start + used;
    this.limit = this.start + size;
  }
}
