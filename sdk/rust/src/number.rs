//! Numbers keep their text until it is asked for their value.

use crate::alloc::vec::Vec;
use crate::json::{kind, Kind};
use core::str;

/// Powers of ten that a double holds exactly.
const POW10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22,
];

/// What the text of a number says: mantissa / 10^scale.
#[derive(Default)]
pub(crate) struct Digits {
    pub mantissa: u64,
    pub scale: i32,
    pub negative: bool,
    /// There is an `e` in it.
    pub exponent: bool,
    /// It has more than 18 digits, zeros in front left out: the mantissa is not all
    /// of it.
    pub long: bool,
}

impl Digits {
    /// Reads a number. None: the value is none.
    pub fn read(value: &[u8]) -> Option<Digits> {
        if kind(value) != Kind::Number {
            return None;
        }
        let mut d = Digits { negative: value[0] == b'-', ..Digits::default() };
        let mut rest = &value[usize::from(d.negative)..];
        let (mut seen, mut fraction, mut count) = (false, false, 0);
        while let [c, more @ ..] = rest {
            match c {
                b'0'..=b'9' => {
                    seen = true;
                    d.long |= count == 18;
                    if !d.long {
                        d.mantissa = d.mantissa * 10 + u64::from(c - b'0');
                        count += i32::from(d.mantissa != 0);
                        d.scale += i32::from(fraction);
                    }
                }
                b'.' if !fraction => fraction = true,
                b'e' | b'E' if seen => {
                    d.exponent = true;
                    d.scale -= exponent(more)?;
                    return Some(d);
                }
                _ => return None,
            }
            rest = more;
        }
        if seen {
            Some(d)
        } else {
            None
        }
    }
}

/// Reads what follows an `e`.
fn exponent(b: &[u8]) -> Option<i32> {
    let (negative, digits) = match b {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let e = digits.iter().try_fold(0i32, |e, c| if c.is_ascii_digit() { Some((e * 10 + i32::from(c - b'0')).min(10000)) } else { None })?;
    Some(if negative { -e } else { e })
}

/// The value of a JSON number. None: the value is none.
pub fn number(value: &[u8]) -> Option<f64> {
    let d = Digits::read(value)?;
    if d.long || d.mantissa >> 53 != 0 || d.scale > 22 || d.scale < -22 {
        return str::from_utf8(value).ok()?.parse().ok();
    }
    // One correctly rounded operation on two exact doubles rounds correctly.
    let mut x = d.mantissa as f64;
    if d.scale > 0 {
        x /= POW10[d.scale as usize];
    } else {
        x *= POW10[-d.scale as usize];
    }
    Some(if d.negative { -x } else { x })
}

/// The nearest whole number, halves to even; x is not negative.
fn nearest(x: f64) -> f64 {
    const WHOLE: f64 = 4503599627370496.0; // 2^52: from there on there are no fractions
    if x < WHOLE {
        x + WHOLE - WHOLE
    } else {
        x
    }
}

/// `x` as a JSON number with at most `decimals` decimals (up to 9), rounded to the
/// nearest, halves to even, trailing zeros and the sign of zero left out. The same
/// input gives the same bytes everywhere. None: x is no finite number, or too large
/// for its last decimal to mean anything (2^53 of them and more).
pub fn fixed(x: f64, decimals: usize) -> Option<Vec<u8>> {
    let decimals = decimals.min(9);
    let scaled = nearest(if x < 0.0 { -x } else { x } * POW10[decimals]);
    if !(scaled < 9007199254740992.0) {
        return None;
    }
    let mut n = scaled as u64;
    let mut decimals = decimals;
    while decimals > 0 && n % 10 == 0 {
        n /= 10;
        decimals -= 1;
    }
    Some(digits(n, decimals, x < 0.0 && scaled != 0.0))
}

/// Writes n / 10^decimals.
pub(crate) fn digits(mut n: u64, decimals: usize, negative: bool) -> Vec<u8> {
    let mut buf = [0; 48];
    let mut q = buf.len();
    let mut push = |c| {
        q -= 1;
        buf[q] = c;
    };
    let mut written = 0;
    while n != 0 || written <= decimals {
        if written == decimals && written > 0 {
            push(b'.');
        }
        push(b'0' + (n % 10) as u8);
        n /= 10;
        written += 1;
    }
    if negative {
        push(b'-');
    }
    buf[q..].to_vec()
}

/// `n` as a JSON number.
pub fn integer(n: i64) -> Vec<u8> {
    digits(n.unsigned_abs(), 0, n < 0)
}
