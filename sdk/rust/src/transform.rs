//! Records in, records out.

use crate::alloc::vec::Vec;
use crate::frames::{is_call, u16_at, u32_at, u64_at, Outbox, CALL, NO_ANSWER, RECORD};
use core::str;

/// A record as the host handed it over. It belongs to its call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Its id.
    pub id: &'a str,
    /// The device it comes from.
    pub device: &'a str,
    /// What kind of data it is.
    pub data_type: &'a str,
    /// One JSON object.
    pub payload: &'a [u8],
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// The timestamp lies outside the years 1677 to 2262 and was cut.
    pub saturated: bool,
    /// When edged received it; 0: unknown.
    pub received: i64,
    /// Its number in the store; 0: it is not stored yet.
    pub seq: u64,
    /// The time of the call, in nanoseconds since 1970.
    pub call_time: i64,
}

impl<'a> Record<'a> {
    /// Reads the record frame at the start of `b`; returns how long it is.
    pub(crate) fn read(&mut self, b: &'a [u8]) -> usize {
        let mut at = RECORD;
        let mut part = |len: usize| {
            at += len;
            &b[at - len..at]
        };
        // The host hands over UTF-8; should it not, a text is empty.
        self.id = str::from_utf8(part(u16_at(b, 8).into())).unwrap_or("");
        self.device = str::from_utf8(part(u16_at(b, 10).into())).unwrap_or("");
        self.data_type = str::from_utf8(part(u16_at(b, 12).into())).unwrap_or("");
        part(u32_at(b, 16) as usize);
        self.payload = part(u32_at(b, 20) as usize);
        self.saturated = u16_at(b, 4) & 1 != 0;
        self.timestamp = u64_at(b, 24) as i64;
        self.received = u64_at(b, 32) as i64;
        self.seq = u64_at(b, 40);
        u32_at(b, 0) as usize
    }
}

/// A record to emit: what is there replaces what the input has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draft<'a> {
    /// Its id.
    pub id: Option<&'a str>,
    /// The device it comes from.
    pub device: Option<&'a str>,
    /// What kind of data it is.
    pub data_type: Option<&'a str>,
    /// One JSON object.
    pub payload: Option<&'a [u8]>,
    /// Nanoseconds since 1970.
    pub timestamp: Option<i64>,
}

const HEADER: usize = 40;

/// Answers the record at hand. A record gets pass, drop or error once, or any
/// number of emits (a split); pass beside emits keeps the original among them.
pub struct Output<'a> {
    pub(crate) outbox: Outbox<'a>,
}

impl Output<'_> {
    /// The record goes on as it is. Nothing is copied.
    pub fn pass(&mut self) {
        self.outbox.frame(HEADER, &[], 2, 0);
    }

    /// The record ends here, on purpose. The reason is kept; `code` is the plugin's
    /// own number, 0 for none.
    pub fn drop(&mut self, reason: &str, code: u16) {
        self.reason(3, reason, code);
    }

    /// The record cannot be processed: the pipeline decides what becomes of it.
    /// `code` is the plugin's own number, 0 for none.
    pub fn error(&mut self, reason: &str, code: u16) {
        self.reason(4, reason, code);
    }

    fn reason(&mut self, action: u16, reason: &str, code: u16) {
        let at = self.outbox.frame(HEADER, &[reason.as_bytes()], action, code);
        self.outbox.put32(at + 28, reason.len() as u32);
    }

    /// The record goes on with another payload, which must be one JSON object.
    pub fn payload(&mut self, json: &[u8]) {
        self.emit(&Draft { payload: Some(json), ..Draft::default() });
    }

    /// A record made from the one at hand. Call it several times to split; give
    /// each an id of its own, or the host numbers them.
    pub fn emit(&mut self, draft: &Draft) {
        let texts = [draft.id, draft.device, draft.data_type];
        let [id, device, data_type] = texts.map(|t| t.unwrap_or("").as_bytes());
        let payload = draft.payload.unwrap_or(&[]);
        let at = self.outbox.frame(HEADER, &[id, device, data_type, payload], 1, 0);
        let mut changed = 0;
        for (i, text) in texts.iter().enumerate() {
            if let Some(text) = text {
                changed |= 1 << i;
                self.outbox.put16(at + 16 + 2 * i, text.len() as u16);
            }
        }
        if draft.payload.is_some() {
            changed |= 32;
            self.outbox.put32(at + 28, payload.len() as u32);
        }
        if let Some(timestamp) = draft.timestamp {
            changed |= 8;
            self.outbox.put64(at + 32, timestamp as u64);
        }
        self.outbox.put32(at + 12, changed);
    }
}

/// Calls `handle` for every record of a call, and puts the answer into `outbox`.
/// False: the bytes are no call.
pub fn run(call: &[u8], outbox: &mut Vec<u8>, mut handle: impl FnMut(&Record, &mut Output)) -> bool {
    outbox.clear();
    if !is_call(call, 1) {
        return false;
    }
    let count = u32_at(call, 8);
    outbox.reserve(call.len() + count as usize * 64); // most transforms add a little to each record
    let mut record = Record { call_time: u64_at(call, 16) as i64, ..Record::default() };
    let mut out = Output { outbox: Outbox { data: outbox, src: 0, answers: 0 } };
    let mut at = CALL;
    for src in 0..count {
        at += record.read(&call[at..]);
        out.outbox.src = src;
        out.outbox.answers = 0;
        handle(&record, &mut out);
        if out.outbox.answers == 0 {
            out.error(NO_ANSWER, 0);
        }
    }
    true
}
