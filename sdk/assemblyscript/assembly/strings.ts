// JSON strings to text and back.

import { Bytes } from "./bytes";

/** The text of a JSON string. Null: the value is no string. */
export function asString(value: Bytes | null): string | null {
  if (value === null || value.len < 2 || load<u8>(value.ptr) != 0x22) return null;
  return unescape(value.ptr + 1, value.end - 1).toString();
}

function hex4(p: usize, end: usize): i32 {
  if (p + 4 > end) return -1;
  let n = 0;
  for (let i = 0; i < 4; i++) {
    const c = <i32>load<u8>(p + i);
    let digit = c - 0x30;
    if (digit > 9) digit = (c | 0x20) - 0x61 + 10;
    if (digit < 0 || digit > 15) return -1;
    n = n << 4 | digit;
  }
  return n;
}

function putRune(q: usize, c: i32): usize {
  if (c < 0x80) {
    store<u8>(q, c);
    return q + 1;
  }
  if (c < 0x800) {
    store<u8>(q, 0xc0 | c >> 6);
    store<u8>(q + 1, 0x80 | c & 0x3f);
    return q + 2;
  }
  if (c < 0x10000) {
    store<u8>(q, 0xe0 | c >> 12);
    store<u8>(q + 1, 0x80 | c >> 6 & 0x3f);
    store<u8>(q + 2, 0x80 | c & 0x3f);
    return q + 3;
  }
  store<u8>(q, 0xf0 | c >> 18);
  store<u8>(q + 1, 0x80 | c >> 12 & 0x3f);
  store<u8>(q + 2, 0x80 | c >> 6 & 0x3f);
  store<u8>(q + 3, 0x80 | c & 0x3f);
  return q + 4;
}

/** The UTF-8 of what stands between two quotes. */
export function unescape(p: usize, end: usize): Bytes {
  // An escape is never shorter than what it says, but for a broken one: of the two
  // bytes of its beginning become three.
  const room = end - p;
  const out = heap.alloc(room + room / 2);
  let q = out;
  while (p < end) {
    let c = <i32>load<u8>(p++);
    if (c != 0x5c || p >= end) {
      store<u8>(q++, c);
      continue;
    }
    c = load<u8>(p++);
    switch (c) {
      case 0x62: c = 0x08; break;
      case 0x66: c = 0x0c; break;
      case 0x6e: c = 0x0a; break;
      case 0x72: c = 0x0d; break;
      case 0x74: c = 0x09; break;
      case 0x75: {
        c = hex4(p, end);
        if (c < 0) {
          c = 0xfffd;
          break;
        }
        p += 4;
        if (c >= 0xd800 && c < 0xe000) {
          let low = -1;
          if (c < 0xdc00 && p + 6 <= end && load<u16>(p) == 0x755c) low = hex4(p + 2, end);
          if (low >= 0xdc00 && low < 0xe000) {
            p += 6;
            c = 0x10000 + (c - 0xd800 << 10) + (low - 0xdc00);
          } else c = 0xfffd;
        }
        break;
      }
    }
    q = putRune(q, c);
  }
  return new Bytes(out, <i32>(q - out));
}

/** `s` as a JSON string, quoted and escaped. */
export function quote(s: string): Bytes {
  const plain = Bytes.of(s);
  const out = heap.alloc(2 + 6 * plain.len);
  let q = out;
  store<u8>(q++, 0x22);
  for (let p = plain.ptr; p < plain.end; p++) {
    const c = load<u8>(p);
    if (c == 0x22 || c == 0x5c) {
      store<u8>(q++, 0x5c);
      store<u8>(q++, c);
    } else if (c < 0x20) {
      store<u32>(q, 0x3030755c); // \u00
      store<u8>(q + 4, 0x30 + (c >> 4));
      const low = c & 15;
      store<u8>(q + 5, low < 10 ? 0x30 + low : 0x57 + low);
      q += 6;
    } else store<u8>(q++, c);
  }
  store<u8>(q++, 0x22);
  return new Bytes(out, <i32>(q - out));
}
