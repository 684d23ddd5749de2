//! Runs a plugin natively, in a unit test: writes calls as the host does, and reads
//! the answers.

use crate::frames::{u16_at, u32_at, u64_at};
use crate::{Config, Plugin, Resolve, Transform};
use std::cell::RefCell;
use std::collections::HashMap;

/// A record to transform.
#[derive(Clone, Debug)]
pub struct TestRecord {
    /// Its id.
    pub id: String,
    /// The device it comes from.
    pub device: String,
    /// What kind of data it is.
    pub data_type: String,
    /// One JSON object.
    pub payload: String,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
}

impl TestRecord {
    /// A record with that payload.
    pub fn new(payload: &str) -> TestRecord {
        let text = |s: &str| s.to_string();
        TestRecord { id: text("id"), device: text("device"), data_type: text("type"), payload: text(payload), timestamp: 0 }
    }
}

/// One side of a conflict.
#[derive(Clone, Debug, Default)]
pub struct TestVersion {
    /// Who wrote it.
    pub device: String,
    /// The JSON value. None: it is deleted.
    pub payload: Option<String>,
    /// The wall time of its clock.
    pub wall: i64,
    /// The counter among versions with the same wall time.
    pub counter: u64,
    /// The revision at the hub.
    pub revision: u64,
    /// The clock of its writer says nothing.
    pub clock_unknown: bool,
}

impl TestVersion {
    /// A version with that payload.
    pub fn new(payload: &str) -> TestVersion {
        TestVersion { device: "device".to_string(), payload: Some(payload.to_string()), ..TestVersion::default() }
    }

    /// A version that is a delete.
    pub fn deleted() -> TestVersion {
        TestVersion { device: "device".to_string(), ..TestVersion::default() }
    }
}

/// Makes the plugin from a configuration, a JSON object. The error is what the
/// operator would read.
pub fn configure<P: Plugin>(json: &str) -> Result<P, String> {
    Config::read(json.as_bytes(), P::configure)
}

/// Gives records to a plugin in one call. The answer has a text for each frame:
/// `pass`, `drop: reason`, `error 3: reason`, or `emit` with the parts that changed,
/// like `emit id=a payload={}`. With several records, its number stands before it.
pub fn transform<P: Transform>(plugin: &mut P, records: &[TestRecord]) -> Vec<String> {
    let mut call = header(1, records.len());
    for r in records {
        let at = call.len();
        frame(&mut call, [&r.id, &r.device, &r.data_type, &r.payload]);
        put(&mut call, at + 24, &r.timestamp.to_le_bytes());
    }
    let mut out = Vec::new();
    assert!(crate::transform::run(&call, &mut out, |record, out| plugin.transform(record, out)));
    let mut frames = Vec::new();
    let mut at = 0;
    while at < out.len() {
        let number = if records.len() > 1 { format!("{} ", u32_at(&out, at + 4)) } else { String::new() };
        frames.push(number + &told(&out[at..]));
        at += u32_at(&out, at) as usize;
    }
    frames
}

fn told(b: &[u8]) -> String {
    let mut text = ["", "emit", "pass", "drop", "error"][usize::from(u16_at(b, 8))].to_string();
    text += &code(b);
    let changed = u32_at(b, 12);
    let mut at = 40;
    for (i, name) in ["id", "device", "type", "payload"].iter().enumerate() {
        let (len, bit) = if i < 3 { (u16_at(b, 16 + 2 * i).into(), 1 << i) } else { (u32_at(b, 28) as usize, 32) };
        let part = String::from_utf8_lossy(&b[at..at + len]);
        if i == 3 && changed & 8 != 0 {
            text += &format!(" timestamp={}", u64_at(b, 32) as i64);
        }
        if changed & bit != 0 {
            text += &format!(" {}={}", name, part);
        } else if len > 0 {
            text += &format!(": {}", part);
        }
        at += len;
    }
    text
}

fn code(b: &[u8]) -> String {
    match u16_at(b, 10) {
        0 => String::new(),
        n => format!(" {}", n),
    }
}

/// Gives a conflict to a plugin; without a base it is unknown. The answer is
/// `local`, `merged: value`, `manual: reason`, `error 3: reason` and so on.
pub fn resolve<P: Resolve>(plugin: &mut P, base: Option<&TestVersion>, local: &TestVersion, remote: &TestVersion) -> String {
    let mut call = header(2, 1);
    let at = call.len();
    call.extend_from_slice(&[0; 16]);
    call[at + 4] = base.is_some().into();
    for v in base.into_iter().chain([local, remote]) {
        let at = call.len();
        frame(&mut call, ["key", &v.device, "type", v.payload.as_deref().unwrap_or("")]);
        put(&mut call, at + 4, &(u16::from(v.payload.is_none()) * 2 | u16::from(v.clock_unknown) * 8).to_le_bytes());
        put(&mut call, at + 24, &v.wall.to_le_bytes());
        put(&mut call, at + 40, &v.counter.to_le_bytes());
        put(&mut call, at + 48, &v.revision.to_le_bytes());
    }
    let len = (call.len() - at) as u32;
    put(&mut call, at, &len.to_le_bytes());
    let mut out = Vec::new();
    assert!(crate::resolve::run(&call, &mut out, |conflict, verdict| plugin.resolve(conflict, verdict)));
    let action = ["", "local", "remote", "merged", "delete", "manual", "error"][usize::from(u16_at(&out, 8))];
    match String::from_utf8_lossy(&out[24..24 + u32_at(&out, 12) as usize]) {
        payload if payload.is_empty() => action.to_string() + &code(&out),
        payload => format!("{}{}: {}", action, code(&out), payload),
    }
}

fn header(op: u16, count: usize) -> Vec<u8> {
    let mut call = b"EDG1\x01\0\0\0".to_vec();
    call.resize(32, 0);
    put(&mut call, 6, &op.to_le_bytes());
    put(&mut call, 8, &(count as u32).to_le_bytes());
    if op == 1 {
        put(&mut call, 16, &HOST.with(|h| h.borrow().now).to_le_bytes());
    }
    call
}

fn put(call: &mut [u8], at: usize, bytes: &[u8]) {
    call[at..at + bytes.len()].copy_from_slice(bytes);
}

fn frame(call: &mut Vec<u8>, parts: [&str; 4]) {
    let at = call.len();
    call.resize(at + 64, 0);
    for (i, part) in parts.iter().enumerate() {
        if i < 3 {
            put(call, at + 8 + 2 * i, &(part.len() as u16).to_le_bytes());
        } else {
            put(call, at + 20, &(part.len() as u32).to_le_bytes());
        }
        call.extend_from_slice(part.as_bytes());
    }
    call[at + 6] = if parts[3].trim_start().starts_with('{') { 1 } else { 2 };
    call.resize((call.len() + 7) & !7, 0);
    let len = (call.len() - at) as u32;
    put(call, at, &len.to_le_bytes());
}

/// The host's side of what needs a grant. Each test has its own.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The time of the calls that follow, in nanoseconds since 1970.
    pub now: i64,
    /// The device configuration.
    pub device: HashMap<String, String>,
    /// What the plugin keeps, and until when; 0: for good.
    pub kv: HashMap<String, (Vec<u8>, i64)>,
    /// What it counts.
    pub metrics: HashMap<String, f64>,
    /// The lines that it logged.
    pub logs: Vec<String>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// Reads or changes the host.
pub fn host<T>(f: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with(|h| f(&mut h.borrow_mut()))
}

/// The host's functions as the ABI has them.
pub(crate) mod abi {
    use super::host;

    unsafe fn bytes<'a>(at: *const u8, size: usize) -> &'a [u8] {
        std::slice::from_raw_parts(at, size)
    }

    unsafe fn text(at: *const u8, size: usize) -> String {
        String::from_utf8_lossy(bytes(at, size)).to_string()
    }

    unsafe fn give(value: Option<Vec<u8>>, buf: *mut u8, room: usize) -> i32 {
        match value {
            None => -1,
            Some(value) => {
                if value.len() <= room {
                    std::ptr::copy_nonoverlapping(value.as_ptr(), buf, value.len());
                }
                value.len() as i32
            }
        }
    }

    pub unsafe fn log(_level: i32, at: *const u8, size: usize) {
        let line = text(at, size);
        host(|h| h.logs.push(line));
    }

    pub unsafe fn log_enabled(level: i32) -> i32 {
        (level >= 0).into()
    }

    pub unsafe fn now_ns() -> i64 {
        host(|h| h.now)
    }

    pub unsafe fn config_get(key: *const u8, key_size: usize, buf: *mut u8, room: usize) -> i32 {
        let key = text(key, key_size);
        give(host(|h| h.device.get(&key).map(|v| v.as_bytes().to_vec())), buf, room)
    }

    pub unsafe fn kv_get(key: *const u8, key_size: usize, buf: *mut u8, room: usize) -> i32 {
        let key = text(key, key_size);
        let value = host(|h| h.kv.get(&key).filter(|(_, until)| *until == 0 || h.now < *until).map(|(v, _)| v.clone()));
        give(value, buf, room)
    }

    pub unsafe fn kv_put(key: *const u8, key_size: usize, at: *const u8, size: usize, ttl: i32) -> i32 {
        if key_size == 0 || key_size > 255 {
            return -4;
        }
        let (key, value) = (text(key, key_size), bytes(at, size).to_vec());
        host(|h| h.kv.insert(key, (value, if ttl > 0 { h.now + i64::from(ttl) * 1_000_000_000 } else { 0 })));
        0
    }

    pub unsafe fn kv_del(key: *const u8, key_size: usize) -> i32 {
        let key = text(key, key_size);
        host(|h| h.kv.remove(&key)).map_or(-1, |_| 0)
    }

    pub unsafe fn metric_add(name: *const u8, name_size: usize, delta: f64) -> i32 {
        let name = text(name, name_size);
        host(|h| *h.metrics.entry(name).or_insert(0.0) += delta);
        0
    }
}
