// What record calls and conflict calls share.

export const MAGIC: u32 = 0x31474445; // EDG1
export const CALL_HEADER: usize = 32;
export const RECORD_HEADER: usize = 64;

/** The bytes of an answer: frames, one behind the other. */
export class Outbox {
  private start: usize = 0;
  private end: usize = 0;
  private limit: usize = 0;

  /** Makes room. What was in it before is gone. */
  open(room: usize): void {
    this.start = heap.alloc(room);
    this.end = this.start;
    this.limit = this.start + room;
  }

  /** Adds a frame of a cleared header and `size` bytes behind it; returns where it begins. */
  frame(header: i32, size: i32, src: u32, action: u16, code: u16): usize {
    const whole = <usize>((header + size + 7) & ~7);
    if (this.end + whole > this.limit) this.grow(whole);
    const at = this.end;
    this.end = at + whole;
    store<u64>(this.end - 8, 0); // the padding
    for (let p = at; p < at + header; p += 8) store<u64>(p, 0);
    store<u32>(at, <u32>whole);
    store<u32>(at, src, 4);
    store<u16>(at, action, 8);
    store<u16>(at, code, 10);
    return at;
  }

  private grow(more: usize): void {
    const used = this.end - this.start;
    const room = max(this.limit - this.start + more, (this.limit - this.start) << 1);
    this.start = heap.realloc(this.start, room);
    this.end = this.start + used;
    this.limit = this.start + room;
  }

  /** What edged_transform and edged_resolve return. */
  close(): u64 { return <u64>this.start << 32 | <u64>(this.end - this.start); }
}
