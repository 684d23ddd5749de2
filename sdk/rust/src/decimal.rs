//! Sums and comparisons of JSON numbers by their digits: 0.1 + 0.2 is 0.3.

use crate::alloc::vec::Vec;
use crate::number::{digits, Digits};
use core::cmp::Ordering;

const MAX_SCALE: i32 = 18;
const LIMIT: i64 = 99_999_999_999_999_999; // ten times as much still has 18 digits

/// A number as mantissa / 10^scale.
struct Decimal {
    mantissa: i64,
    scale: i32,
}

impl Decimal {
    /// None: the value is no number, or one with more than 18 digits or decimals.
    fn read(value: &[u8]) -> Option<Decimal> {
        let read = Digits::read(value)?;
        if read.long {
            return None;
        }
        let mut d = Decimal { mantissa: read.mantissa as i64, scale: read.scale };
        if d.mantissa == 0 {
            // The decimals that are written count, an exponent does not.
            d.scale = if read.exponent { 0 } else { d.scale.min(MAX_SCALE) };
        }
        while d.scale < 0 {
            d.shift()?;
        }
        while d.scale > MAX_SCALE && d.mantissa % 10 == 0 {
            d.mantissa /= 10;
            d.scale -= 1;
        }
        if read.negative {
            d.mantissa = -d.mantissa;
        }
        if d.scale > MAX_SCALE {
            return None;
        }
        Some(d)
    }

    /// Adds a decimal. None: that takes more than 18 digits.
    fn shift(&mut self) -> Option<()> {
        if self.mantissa > LIMIT || self.mantissa < -LIMIT {
            return None;
        }
        self.mantissa *= 10;
        self.scale += 1;
        Some(())
    }

    /// Shifts up to a scale.
    fn to(mut self, scale: i32) -> Option<Decimal> {
        while self.scale < scale {
            self.shift()?;
        }
        Some(self)
    }
}

/// `to` plus what `from` became on the way to `now`: to + (now - from), exact, with
/// as many decimals as the longest of them. None: one is no number, or more than 18
/// digits are needed.
pub fn add_delta(to: &[u8], now: &[u8], from: &[u8]) -> Option<Vec<u8>> {
    let (a, b, c) = (Decimal::read(to)?, Decimal::read(now)?, Decimal::read(from)?);
    let scale = a.scale.max(b.scale).max(c.scale);
    // Each is below 10^18, so three of them fit.
    let sum = a.to(scale)?.mantissa + b.to(scale)?.mantissa - c.to(scale)?.mantissa;
    Some(digits(sum.unsigned_abs(), scale as usize, sum < 0))
}

/// Compares two numbers by value. None: one is no number, or more than 18 digits
/// are needed.
pub fn compare_numbers(a: &[u8], b: &[u8]) -> Option<Ordering> {
    let (a, b) = (Decimal::read(a)?, Decimal::read(b)?);
    let scale = a.scale.max(b.scale);
    Some(a.to(scale)?.mantissa.cmp(&b.to(scale)?.mantissa))
}
