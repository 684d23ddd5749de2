//! What record calls and conflict calls share.

use crate::alloc::vec::Vec;
use core::convert::TryInto;

pub const CALL: usize = 32;
pub const RECORD: usize = 64;
pub const NO_ANSWER: &str = "the plugin gave no answer";

pub fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(b[at..at + 2].try_into().unwrap_or([0; 2]))
}

pub fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap_or([0; 4]))
}

pub fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap_or([0; 8]))
}

/// Whether the bytes are a call of this version.
pub fn is_call(call: &[u8], op: u16) -> bool {
    call.len() >= CALL && call.starts_with(b"EDG1") && u16_at(call, 4) == 1 && u16_at(call, 6) == op
}

/// The answer at hand: frames, one behind the other.
pub struct Outbox<'a> {
    pub data: &'a mut Vec<u8>,
    pub src: u32,
    pub answers: u32,
}

impl Outbox<'_> {
    /// Adds a frame with a cleared header and these parts; returns where it begins.
    pub fn frame(&mut self, header: usize, parts: &[&[u8]], action: u16, code: u16) -> usize {
        let size: usize = parts.iter().map(|p| p.len()).sum();
        let (begin, whole) = (self.data.len(), (header + size + 7) & !7);
        self.data.reserve(whole);
        self.data.resize(begin + header, 0);
        for part in parts {
            self.data.extend_from_slice(part);
        }
        self.data.resize(begin + whole, 0);
        self.put32(begin, whole as u32);
        self.put32(begin + 4, self.src);
        self.put16(begin + 8, action);
        self.put16(begin + 10, code);
        self.answers += 1;
        begin
    }

    pub fn put16(&mut self, at: usize, n: u16) {
        self.data[at..at + 2].copy_from_slice(&n.to_le_bytes());
    }

    pub fn put32(&mut self, at: usize, n: u32) {
        self.data[at..at + 4].copy_from_slice(&n.to_le_bytes());
    }

    pub fn put64(&mut self, at: usize, n: u64) {
        self.data[at..at + 8].copy_from_slice(&n.to_le_bytes());
    }
}
