// Sums and comparisons of JSON numbers by their digits: 0.1 + 0.2 is 0.3.

import { Bytes } from "./bytes";
import { kind, Kind } from "./json";

const MAX_SCALE = 18;

/** A number as mantissa / 10^scale. */
class Decimal {
  constructor(public mantissa: i64, public scale: i32) {}
}

/** Null: no number, or one with more than 18 digits or decimals. */
function parse(value: Bytes): Decimal | null {
  if (kind(value) != Kind.Number) return null;
  let p = value.ptr;
  const end = value.end;
  const negative = p < end && load<u8>(p) == 0x2d;
  if (negative) p++;
  let mantissa: i64 = 0, scale = 0, count = 0, seen = false, fraction = false;
  while (p < end) {
    const c = load<u8>(p);
    if (c == 0x2e && !fraction) {
      fraction = true;
      p++;
      continue;
    }
    const d = <i64>c - 0x30;
    if (d < 0 || d > 9) break;
    seen = true;
    if (mantissa != 0 || d != 0) count++;
    if (count > MAX_SCALE) return null;
    mantissa = mantissa * 10 + d;
    if (fraction) scale++;
    p++;
  }
  if (!seen) return null;
  if (p < end) {
    if ((load<u8>(p) | 0x20) != 0x65 || ++p >= end) return null;
    const sign = load<u8>(p);
    if (sign == 0x2b || sign == 0x2d) p++;
    if (p >= end) return null;
    let e = 0;
    while (p < end) {
      const d = <i32>load<u8>(p) - 0x30;
      if (d < 0 || d > 9) return null;
      e = min(e * 10 + d, 1000);
      p++;
    }
    scale = mantissa == 0 ? 0 : scale + (sign == 0x2d ? e : -e);
  }
  while (scale < 0) {
    if (mantissa > 99999999999999999) return null;
    mantissa *= 10;
    scale++;
  }
  while (scale > MAX_SCALE && mantissa % 10 == 0 && mantissa != 0) {
    mantissa /= 10;
    scale--;
  }
  if (mantissa == 0) scale = min(scale, MAX_SCALE);
  return scale > MAX_SCALE ? null : new Decimal(negative ? -mantissa : mantissa, scale);
}

/** Brings both to one scale. False: that takes more than 18 digits. */
function align(a: Decimal, b: Decimal): bool {
  while (a.scale < b.scale) if (!shift(a)) return false;
  while (b.scale < a.scale) if (!shift(b)) return false;
  return true;
}

function shift(a: Decimal): bool {
  if (a.mantissa > 99999999999999999 || a.mantissa < -99999999999999999) return false;
  a.mantissa *= 10;
  a.scale++;
  return true;
}

function format(a: Decimal): Bytes {
  let s = abs(a.mantissa).toString();
  if (a.scale > 0) {
    while (s.length <= a.scale) s = "0" + s;
    s = s.substring(0, s.length - a.scale) + "." + s.substring(s.length - a.scale);
  }
  return Bytes.of(a.mantissa < 0 ? "-" + s : s);
}

/**
 * `to` plus what `from` became on the way to `now`: to + (now - from), exact, with
 * as many decimals as the longest of them. Null: one is no number, or more than
 * 18 digits are needed.
 */
export function addDelta(to: Bytes, now: Bytes, from: Bytes): Bytes | null {
  const a = parse(to), b = parse(now), c = parse(from);
  if (a === null || b === null || c === null) return null;
  if (!align(a, b) || !align(a, c) || !align(a, b)) return null;
  // Each is below 10^18, so three of them fit.
  return format(new Decimal(a.mantissa + b.mantissa - c.mantissa, a.scale));
}

/**
 * Compares two numbers by value: -1, 0 or 1. 2: one is no number, or more than 18
 * digits are needed.
 */
export function compareNumbers(a: Bytes, b: Bytes): i32 {
  const x = parse(a), y = parse(b);
  if (x === null || y === null || !align(x, y)) return 2;
  return x.mantissa < y.mantissa ? -1 : x.mantissa > y.mantissa ? 1 : 0;
}
