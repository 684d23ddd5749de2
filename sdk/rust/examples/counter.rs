//! Numbers the records of each device, says how old they are and where. It keeps its
//! numbers in kv: the pipeline grants it `allow = ["clock", "config", "kv", "log",
//! "metric"]`.

use edged::host::{count, device_config, kv_delete, kv_get, kv_put, log, log_enabled, now, Level};
use edged::json::{boolean, get, set};
use edged::number::{integer, number};
use edged::prelude::*;
use edged::text::quote;

struct Counter;

edged::plugin!(Counter: transform);

impl Plugin for Counter {
    fn configure(_: &mut Config) -> Self {
        Counter
    }
}

impl Transform for Counter {
    fn transform(&mut self, record: &Record, out: &mut Output) {
        let key = format!("number/{}", record.device);
        if get(record.payload, "reset").and_then(boolean) == Some(true) {
            kv_delete(&key);
            count("resets", 1.0);
            if log_enabled(Level::Info) {
                log(Level::Info, &format!("{} begins anew", record.device));
            }
            return out.pass();
        }
        let last = kv_get(&key).and_then(|n| number(&n)).unwrap_or(0.0);
        let next = integer(last as i64 + 1);
        if !kv_put(&key, &next, 0) {
            return out.error("there is no room for another device", 1);
        }
        count("records", 1.0);
        let age = integer((now() - record.timestamp) / 1_000_000);
        let mut payload = set(record.payload, "number", &next).and_then(|p| set(&p, "age_ms", &age));
        if let Some(site) = device_config("site") {
            payload = payload.and_then(|p| set(&p, "site", &quote(&site)));
        }
        match payload {
            Some(payload) => out.payload(&payload),
            None => out.error("the payload is no object", 2),
        }
    }
}
