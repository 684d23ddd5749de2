//! JSON strings to text and back.

use crate::alloc::borrow::Cow;
use crate::alloc::string::String;
use crate::alloc::vec::Vec;
use core::str;

/// The text of a JSON string. None: the value is no string, or no UTF-8.
pub fn string(value: &[u8]) -> Option<Cow<str>> {
    if value.len() < 2 || value[0] != b'"' {
        return None;
    }
    let inner = &value[1..value.len() - 1];
    if inner.contains(&b'\\') {
        return String::from_utf8(unescape(inner)).ok().map(Cow::Owned);
    }
    str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// The UTF-8 of what stands between two quotes.
pub(crate) fn unescape(b: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(b.len());
    let mut p = 0;
    while p < b.len() {
        let c = b[p];
        p += 1;
        if c != b'\\' || p == b.len() {
            out.push(c);
            continue;
        }
        let c = b[p];
        p += 1;
        out.push(match c {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (c, len) = unicode(&b[p..]);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                p += len;
                continue;
            }
            c => c,
        });
    }
    out
}

/// What follows `\u`, both halves of a pair; a lone one is U+FFFD.
fn unicode(b: &[u8]) -> (char, usize) {
    let high = match hex4(b) {
        Some(high) => high,
        None => return (char::REPLACEMENT_CHARACTER, 0),
    };
    if let Some(c) = char::from_u32(high) {
        return (c, 4);
    }
    if high < 0xdc00 && b.get(4) == Some(&b'\\') && b.get(5) == Some(&b'u') {
        if let Some(low @ 0xdc00..=0xdfff) = hex4(&b[6..]) {
            let c = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            return (c.unwrap_or(char::REPLACEMENT_CHARACTER), 10);
        }
    }
    (char::REPLACEMENT_CHARACTER, 4)
}

fn hex4(b: &[u8]) -> Option<u32> {
    b.get(..4)?.iter().try_fold(0, |n, c| Some(n << 4 | char::from(*c).to_digit(16)?))
}

/// A text as a JSON string, quoted and escaped.
pub fn quote(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    for c in text.bytes() {
        match c {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', c]),
            0..=31 => {
                let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(c >> 4), digit(c & 15)]);
            }
            _ => out.push(c),
        }
    }
    out.push(b'"');
    out
}
