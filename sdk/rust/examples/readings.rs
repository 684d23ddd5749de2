//! Makes readings of many kinds of sensors alike: names without spaces below the
//! site's, temperatures in Celsius; and raises an alarm above a limit.

use edged::json::{delete, get, set};
use edged::number::{fixed, number};
use edged::prelude::*;
use edged::text::{quote, string};

struct Readings {
    site: String,
    limit: f64,
}

edged::plugin!(Readings: transform);

impl Plugin for Readings {
    fn configure(config: &mut Config) -> Self {
        Readings { site: config.string("site", "site"), limit: config.number("limit", 80.0, -273.15, 10000.0) }
    }
}

/// What becomes of a record that is not emitted.
enum Refusal {
    Pass,
    Drop(&'static str),
    Error(String, u16),
}

fn error<T>(reason: &str, code: u16) -> Result<T, Refusal> {
    Err(Refusal::Error(reason.to_string(), code))
}

/// A reading, and what there is of an alarm in it.
struct Reading {
    payload: Vec<u8>,
    sensor: Vec<u8>,
    celsius: f64,
    text: Vec<u8>,
}

impl Readings {
    fn read(&self, payload: &[u8]) -> Result<Reading, Refusal> {
        if get(payload, "status").and_then(string).as_deref() == Some("test") {
            return Err(Refusal::Drop("a test reading"));
        }
        let name = slug(&get(payload, "sensor").and_then(string).unwrap_or_default());
        if name.is_empty() {
            return error("the sensor has no name", 1);
        }
        let temperature = get(payload, "values.temperature").ok_or(Refusal::Pass)?;
        let value = match get(temperature, "value").and_then(number) {
            Some(value) => value,
            None => return error("values.temperature.value is no number", 2),
        };
        let unit = get(temperature, "unit").and_then(string).unwrap_or_else(|| "C".into());
        let celsius = match unit.as_ref() {
            "C" => value,
            "F" => (value - 32.0) / 1.8,
            "K" => value - 273.15,
            _ => return error(&format!("the unit {} is not C, F or K", unit), 3),
        };
        let text = match fixed(celsius, 2) {
            Some(text) => text,
            None => return error("values.temperature.value is too large", 2),
        };
        let sensor = quote(&format!("{}/{}", self.site, name));
        let temperature = [&b"{\"value\":"[..], &text, b",\"unit\":\"C\"}"].concat();
        let payload = set(payload, "sensor", &sensor).and_then(|p| set(&p, "values.temperature", &temperature));
        match payload {
            Some(payload) => Ok(Reading { payload: delete(&payload, "raw").into_owned(), sensor, celsius, text }),
            None => error("the payload is no object", 4),
        }
    }
}

impl Transform for Readings {
    fn transform(&mut self, record: &Record, out: &mut Output) {
        let reading = match self.read(record.payload) {
            Ok(reading) => reading,
            Err(Refusal::Pass) => return out.pass(),
            Err(Refusal::Drop(reason)) => return out.drop(reason, 0),
            Err(Refusal::Error(reason, code)) => return out.error(&reason, code),
        };
        out.payload(&reading.payload);
        if reading.celsius > self.limit {
            let limit = fixed(self.limit, 2).unwrap_or_default();
            let parts = [&b"{\"sensor\":"[..], &reading.sensor, b",\"celsius\":", &reading.text, b",\"limit\":", &limit, b"}"];
            out.emit(&Draft {
                id: Some(&format!("{}/alarm", record.id)),
                data_type: Some("alarm"),
                payload: Some(&parts.concat()),
                ..Draft::default()
            });
        }
    }
}

/// Lower case; whatever is no letter and no digit becomes one hyphen between those
/// that are.
fn slug(name: &str) -> String {
    let mut out = String::new();
    let mut gap = false;
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            gap = true;
            continue;
        }
        if gap && !out.is_empty() {
            out.push('-');
        }
        out.push(c);
        gap = false;
    }
    out
}
