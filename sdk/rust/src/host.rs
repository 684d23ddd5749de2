//! What a plugin may keep and count, and what it may ask of the device. Each needs
//! a grant in the pipeline file, like `allow = ["kv"]`, if the plugin calls it: a
//! module imports those that it uses.

use crate::alloc::string::String;
use crate::alloc::vec::Vec;

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For developers.
    Debug,
    /// For the curious.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

#[cfg(target_arch = "wasm32")]
mod abi {
    #[link(wasm_import_module = "edged_v1")]
    extern "C" {
        pub fn log(level: i32, ptr: *const u8, size: usize);
        pub fn log_enabled(level: i32) -> i32;
        pub fn now_ns() -> i64;
        pub fn config_get(key: *const u8, key_size: usize, buf: *mut u8, room: usize) -> i32;
        pub fn kv_get(key: *const u8, key_size: usize, buf: *mut u8, room: usize) -> i32;
        pub fn kv_put(key: *const u8, key_size: usize, ptr: *const u8, size: usize, ttl: i32) -> i32;
        pub fn kv_del(key: *const u8, key_size: usize) -> i32;
        pub fn metric_add(name: *const u8, name_size: usize, delta: f64) -> i32;
    }
}

#[cfg(not(target_arch = "wasm32"))]
use crate::harness::abi;

/// Whether a line of that level would be kept: ask before building a long one.
/// Needs `log`.
pub fn log_enabled(level: Level) -> bool {
    unsafe { abi::log_enabled(level as i32) != 0 }
}

/// Writes a line. The host keeps the first 2 KiB of it and 32 lines a call. Needs
/// `log`.
pub fn log(level: Level, line: &str) {
    unsafe { abi::log(level as i32, line.as_ptr(), line.len()) }
}

/// The time of the call in nanoseconds since 1970; a record has it, too, without a
/// grant. Needs `clock`.
pub fn now() -> i64 {
    unsafe { abi::now_ns() }
}

/// What the host writes into a buffer. Most values fit, and need one call.
fn fetch(key: &str, get: unsafe fn(*const u8, usize, *mut u8, usize) -> i32) -> Option<Vec<u8>> {
    let mut buf = crate::alloc::vec![0; 256];
    loop {
        let size = unsafe { get(key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) };
        if size < 0 {
            return None;
        }
        let (size, room) = (size as usize, buf.len());
        buf.resize(size, 0);
        if size <= room {
            return Some(buf);
        }
    }
}

unsafe fn config_get(key: *const u8, key_size: usize, buf: *mut u8, room: usize) -> i32 {
    abi::config_get(key, key_size, buf, room)
}

unsafe fn value_get(key: *const u8, key_size: usize, buf: *mut u8, room: usize) -> i32 {
    abi::kv_get(key, key_size, buf, room)
}

/// A value of the device configuration (`edged config set`). None: there is none.
/// Needs `config`.
pub fn device_config(key: &str) -> Option<String> {
    fetch(key, config_get).and_then(|value| String::from_utf8(value).ok())
}

/// The value of a key of this plugin in this pipeline. None: there is none. Needs
/// `kv`.
pub fn kv_get(key: &str) -> Option<Vec<u8>> {
    fetch(key, value_get)
}

/// Keeps a value, for `ttl` seconds or, with 0, for good. It becomes durable with
/// the records of the call. False: the key is empty or too long, or the quota is
/// used up. Needs `kv`.
#[must_use]
pub fn kv_put(key: &str, value: &[u8], ttl: i32) -> bool {
    unsafe { abi::kv_put(key.as_ptr(), key.len(), value.as_ptr(), value.len(), ttl) == 0 }
}

/// Removes a key. Needs `kv`.
pub fn kv_delete(key: &str) {
    unsafe { abi::kv_del(key.as_ptr(), key.len()) };
}

/// Adds to a counter of this plugin, which `edged status` shows. Needs `metric`.
pub fn count(name: &str, delta: f64) {
    unsafe { abi::metric_add(name.as_ptr(), name.len(), delta) };
}
