//! Conflicts: a key that was changed on both sides.

use crate::alloc::vec::Vec;
use crate::frames::{is_call, u16_at, u32_at, u64_at, Outbox, CALL, NO_ANSWER};
use crate::transform::Record;
use core::cmp::Ordering;

/// One version of a key. It belongs to its call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Version<'a> {
    /// Who wrote it.
    pub device: &'a str,
    /// What kind of data it is.
    pub data_type: &'a str,
    /// The JSON value; empty when it is deleted or left out.
    pub payload: &'a [u8],
    /// The wall time of its hybrid logical clock, in nanoseconds since 1970.
    pub wall: i64,
    /// The counter among versions with the same wall time.
    pub counter: u64,
    /// The revision at the hub; 0: it was never there.
    pub revision: u64,
    /// The version is a delete; it has no payload.
    pub deleted: bool,
    /// The clock of its writer lagged behind and was raised.
    pub clock_raised: bool,
    /// The clock of its writer says nothing.
    pub clock_unknown: bool,
    /// There is a payload, and it was not asked for: `needs` is `headers`.
    pub left_out: bool,
    /// The payload is one JSON object, and not another JSON value.
    pub is_object: bool,
}

impl<'a> Version<'a> {
    /// Reads the record frame at the start of `b`; returns it, its key and its length.
    fn read(b: &'a [u8]) -> (Version<'a>, &'a str, usize) {
        let mut r = Record::default();
        let len = r.read(b);
        let flags = u16_at(b, 4);
        let version = Version {
            device: r.device,
            data_type: r.data_type,
            payload: r.payload,
            wall: r.timestamp,
            counter: r.seq,
            revision: u64_at(b, 48),
            deleted: flags & 2 != 0,
            clock_raised: flags & 4 != 0,
            clock_unknown: flags & 8 != 0,
            left_out: flags & 16 != 0,
            is_object: u16_at(b, 6) == 1,
        };
        (version, r.id, len)
    }

    /// Which version is later: `Greater` this one, `Less` the other, `Equal`
    /// neither. By wall time, then the counter, then the device; every edge finds
    /// the same. `Equal` also when the clock of either is unknown: then only the
    /// hub's order counts.
    pub fn order(&self, other: &Version) -> Ordering {
        if self.clock_unknown || other.clock_unknown {
            return Ordering::Equal;
        }
        let (a, b) = (self, other);
        (a.wall, a.counter, a.device).cmp(&(b.wall, b.counter, b.device))
    }

    /// Whether this version is later than the other.
    pub fn is_later_than(&self, other: &Version) -> bool {
        self.order(other) == Ordering::Greater
    }
}

/// A key that was changed here and at the hub since both last agreed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conflict<'a> {
    /// The key.
    pub key: &'a str,
    /// What both last agreed on. None: that is not known, and what one side lacks
    /// may be new on the other. A deleted base says that the key was not there.
    pub base: Option<Version<'a>>,
    /// What this edge has.
    pub local: Version<'a>,
    /// What the hub has.
    pub remote: Version<'a>,
}

const HEADER: usize = 24;

/// Decides the conflict at hand, once: a second decision panics.
pub struct Verdict<'a> {
    outbox: Outbox<'a>,
}

impl Verdict<'_> {
    /// This edge's version wins.
    pub fn local(&mut self) {
        self.decide(1, &[], 0);
    }

    /// The hub's version wins.
    pub fn remote(&mut self) {
        self.decide(2, &[], 0);
    }

    /// Both sides become this JSON value.
    pub fn merged(&mut self, json: &[u8]) {
        self.decide(3, json, 0);
    }

    /// Both sides lose the key.
    pub fn delete(&mut self) {
        self.decide(4, &[], 0);
    }

    /// A person decides; until then the hub's version is served, or this edge's.
    pub fn manual(&mut self, reason: &str, serve_local: bool) {
        self.decide(5, reason.as_bytes(), serve_local.into());
    }

    /// The next resolver of the chain is asked. `code` is the plugin's own number, 0
    /// for none.
    pub fn error(&mut self, reason: &str, code: u16) {
        self.decide(6, reason.as_bytes(), code);
    }

    fn decide(&mut self, action: u16, payload: &[u8], code: u16) {
        if self.outbox.answers > 0 {
            panic!("two verdicts for one conflict");
        }
        let at = self.outbox.frame(HEADER, &[payload], action, code);
        self.outbox.put32(at + 12, payload.len() as u32);
    }
}

/// Calls `decide` for every conflict of a call, and puts the answer into `outbox`.
/// False: the bytes are no call.
pub fn run(call: &[u8], outbox: &mut Vec<u8>, mut decide: impl FnMut(&Conflict, &mut Verdict)) -> bool {
    outbox.clear();
    if !is_call(call, 2) {
        return false;
    }
    outbox.reserve(1024);
    let mut verdict = Verdict { outbox: Outbox { data: outbox, src: 0, answers: 0 } };
    let mut at = CALL;
    for src in 0..u32_at(call, 8) {
        let frame = &call[at..];
        let mut p = 16;
        let mut next = || {
            let (version, key, len) = Version::read(&frame[p..]);
            p += len;
            (version, key)
        };
        let base = if u32_at(frame, 4) & 1 != 0 { Some(next().0) } else { None };
        let (local, key) = next();
        let (remote, _) = next();
        verdict.outbox.src = src;
        verdict.outbox.answers = 0;
        decide(&Conflict { key, base, local, remote }, &mut verdict);
        if verdict.outbox.answers == 0 {
            verdict.error(NO_ANSWER, 0);
        }
        at += u32_at(frame, 0) as usize;
    }
    true
}
