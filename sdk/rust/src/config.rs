//! The operator's configuration.

use crate::alloc::format;
use crate::alloc::string::{String, ToString};
use crate::alloc::vec::Vec;
use crate::json::{boolean, kind, member, Kind, Members};
use crate::number::{fixed, number};
use crate::text::string;

/// The operator's configuration, read key by key. Every mistake is collected and
/// reported at the end, all at once.
pub struct Config<'a> {
    json: &'a [u8],
    known: Vec<String>,
    errors: Vec<String>,
}

/// Bytes as they are shown to people.
fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value).to_string()
}

/// A number as it stands in a message.
fn figure(x: f64) -> String {
    match fixed(x, 9) {
        Some(text) if text.contains(&b'.') => shown(&text),
        Some(text) => shown(&text) + ".0",
        None => "a very large number".to_string(),
    }
}

impl<'a> Config<'a> {
    /// Has `set_up` read a configuration, a JSON object. The error says what is
    /// wrong with it.
    pub fn read<T>(json: &'a [u8], set_up: impl FnOnce(&mut Config) -> T) -> Result<T, String> {
        let mut config = Config { json, known: Vec::new(), errors: Vec::new() };
        let made = set_up(&mut config);
        for m in Members::new(json) {
            let name = shown(&m.name());
            if !config.known.contains(&name) {
                let there = match config.known.is_empty() {
                    true => "; there are none".to_string(),
                    false => "; there are: ".to_string() + &config.known.join(", "),
                };
                config.fail("unknown key ".to_string() + &name + &there);
            }
        }
        match config.errors.is_empty() {
            true => Ok(made),
            false => Err(config.errors.join(". ")),
        }
    }

    /// Adds a mistake that the plugin itself found.
    pub fn fail(&mut self, message: String) {
        self.errors.push(message);
    }

    fn value(&mut self, key: &str) -> Option<&'a [u8]> {
        self.known.push(key.to_string());
        member(self.json, key).filter(|v| kind(v) != Kind::Null)
    }

    fn wrong(&mut self, key: &str, want: &str, value: &[u8]) {
        self.fail(format!("{} must be {}, not {}", key, want, shown(value)));
    }

    /// What `read` makes of the value at the key, if it is as `want` says.
    fn checked<T>(&mut self, key: &str, want: impl FnOnce() -> String, fallback: T, read: impl FnOnce(&'a [u8]) -> Option<T>) -> T {
        let value = match self.value(key) {
            Some(value) => value,
            None => return fallback,
        };
        match read(value) {
            Some(made) => made,
            None => {
                self.wrong(key, &want(), value);
                fallback
            }
        }
    }

    /// A string that must not be empty; also a path in the payload.
    pub fn string(&mut self, key: &str, fallback: &str) -> String {
        let read = |v| string(v).filter(|s| !s.is_empty()).map(|s| s.to_string());
        self.checked(key, || "a string that is not empty".to_string(), fallback.to_string(), read)
    }

    /// A number from `low` to `high`.
    pub fn number(&mut self, key: &str, fallback: f64, low: f64, high: f64) -> f64 {
        let want = || format!("a number from {} to {}", figure(low), figure(high));
        self.checked(key, want, fallback, |v| number(v).filter(|x| *x >= low && *x <= high))
    }

    /// A whole number from `low` to `high`.
    pub fn integer(&mut self, key: &str, fallback: i32, low: i32, high: i32) -> i32 {
        let whole = |x: &f64| *x >= f64::from(low) && *x <= f64::from(high) && *x == f64::from(*x as i32);
        let want = || format!("a whole number from {} to {}", low, high);
        self.checked(key, want, fallback, |v| number(v).filter(whole).map(|x| x as i32))
    }

    /// True or false.
    pub fn boolean(&mut self, key: &str, fallback: bool) -> bool {
        self.checked(key, || "true or false".to_string(), fallback, boolean)
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &str) -> Vec<String> {
        let read = |v| match kind(v) {
            Kind::Array => Members::new(v).map(|m| string(m.value).map(|s| s.to_string())).collect(),
            _ => None,
        };
        self.checked(key, || "a list of strings".to_string(), Vec::new(), read)
    }

    /// An object with a string for every name, in its order.
    pub fn map(&mut self, key: &str) -> Vec<(String, String)> {
        let object = |v| if kind(v) == Kind::Object { Some(v) } else { None };
        let want = || "an object with a string for every name".to_string();
        let value = self.checked(key, want, b"{}".as_slice(), object);
        let mut out = Vec::new();
        for m in Members::new(value) {
            let name = shown(&m.name());
            match string(m.value) {
                Some(s) => out.push((name, s.to_string())),
                None => self.wrong(&format!("{}.{}", key, name), "a string", m.value),
            }
        }
        out
    }
}
