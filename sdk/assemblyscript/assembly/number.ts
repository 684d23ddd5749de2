import { Bytes } from "./bytes";
import { Kind, kind } from "./json";

// Powers of ten that a double holds exactly.
const POW10: StaticArray<f64> = [
  1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/**
 * The value of a JSON number. NaN: the value is none. A number of up to 15
 * digits with an exponent within 22 is read exactly; others may be off by one
 * unit in the last place.
 */
export function asF64(value: Bytes | null): f64 {
  if (kind(value) != Kind.Number) return NaN;
  let p = value!.ptr;
  const end = value!.end;
  const negative = load<u8>(p) == 0x2d;
  if (negative) p++;
  let digits: u64 = 0;
  let count = 0;
  let exponent = 0;
  let seen = false;
  let fraction = false;
  while (p < end) {
    const c = <u32>load<u8>(p);
    if (c == 0x2e && !fraction) {
      fraction = true;
    } else {
      const d = c - 0x30;
      if (d > 9) break;
      seen = true;
      if (count < 18) {
        digits = digits * 10 + d;
        if (digits) count++;
        if (fraction) exponent--;
      } else return slow(value!);
    }
    p++;
  }
  if (!seen) return NaN;
  if (p < end) {
    if ((load<u8>(p) | 0x20) != 0x65) return NaN;
    p++;
    const sign = p < end ? load<u8>(p) : 0;
    if (sign == 0x2b || sign == 0x2d) p++;
    if (p >= end) return NaN;
    let e = 0;
    while (p < end) {
      const d = <u32>load<u8>(p) - 0x30;
      if (d > 9) return NaN;
      e = min(e * 10 + d, 10000);
      p++;
    }
    exponent += sign == 0x2d ? -e : e;
  }
  // One correctly rounded operation on two exact doubles rounds correctly.
  if (digits >> 53 != 0 || exponent < -22 || exponent > 22) return digits == 0 ? (negative ? -0.0 : 0.0) : slow(value!);
  let x = <f64>digits;
  if (exponent < 0) x /= unchecked(POW10[-exponent]);
  else x *= unchecked(POW10[exponent]);
  return negative ? -x : x;
}

function slow(value: Bytes): f64 { return parseFloat(value.toString()); }

/**
 * `x` as a JSON number with at most `decimals` decimals (0 to 9), rounded to
 * the nearest, halves to even, trailing zeros and the sign of zero left out.
 * The same input gives the same bytes everywhere. Null: x is no finite number,
 * or too large for its last decimal to mean anything (2^53 of them and more).
 */
export function fixed(x: f64, decimals: i32): Bytes | null {
  decimals = min(max(decimals, 0), 9);
  const scaled = nearest(abs(x) * unchecked(POW10[decimals]));
  if (!(scaled < 9007199254740992.0)) return null;
  // Most numbers fit 32 bits, whose division is much faster.
  const end = heap.alloc(24) + 24; // sign, at most 16 digits, point
  let q = scaled < 4294967296.0 ? digits<u32>(<u32>scaled, decimals, end) : digits<u64>(<u64>scaled, decimals, end);
  if (x < 0 && scaled != 0) store<u8>(--q, 0x2d);
  return new Bytes(q, <i32>(end - q));
}

/** Writes n / 10^decimals so that it ends at `q`; returns where it begins. */
function digits<T>(n: T, decimals: i32, q: usize): usize {
  const ten = <T>10;
  let written = 0;
  let zeros = true; // at the end, behind the point
  while (n != 0 || written <= decimals) {
    const rest = n / ten;
    const digit = <u8>(n - rest * ten);
    n = rest;
    if (written == decimals) {
      if (!zeros) store<u8>(--q, 0x2e);
      zeros = false;
    }
    if (digit != 0) zeros = false;
    if (!zeros) store<u8>(--q, 0x30 + digit);
    written++;
  }
  return q;
}

/** `n` as a JSON number. */
export function integer(n: i64): Bytes { return Bytes.of(n.toString()); }
