//! Adds the temperature in Fahrenheit, and splits off an alarm where it freezes.

use edged::number::{fixed, number};
use edged::prelude::*;

struct Fahrenheit {
    fields: Lookup,
}

edged::plugin!(Fahrenheit: transform);

// What the plugin says of itself: 'edged plugin sign' takes name and version from it.
edged::describe!(
    r#"{
      "name": "pluginname",
      "version": "0.1.0",
      "summary": "Adds the temperature in Fahrenheit, and splits off an alarm where it freezes",
      "kinds": ["transform"],
      "needs": "payload",
      "config": {
        "from": {"type": "string", "default": "temperature", "doc": "where the payload has the temperature, in degrees Celsius"},
        "to": {"type": "string", "default": "fahrenheit", "doc": "where to put the result"}
      }
    }"#
);

impl Plugin for Fahrenheit {
    /// Unknown keys and wrong values are reported all at once.
    fn configure(config: &mut Config) -> Self {
        let from = config.string("from", "temperature");
        let to = config.string("to", "fahrenheit");
        Fahrenheit { fields: Lookup::new(&[&from, &to]) }
    }
}

impl Transform for Fahrenheit {
    fn transform(&mut self, record: &Record, out: &mut Output) {
        let found = self.fields.run(record.payload);
        let celsius = match found.value(0).and_then(number) {
            Some(celsius) => celsius,
            None => return out.error("there is no temperature", 0),
        };
        let fahrenheit = match fixed(celsius * 1.8 + 32.0, 2) {
            Some(fahrenheit) => fahrenheit,
            None => return out.error("the temperature is too large", 0),
        };
        match found.set(1, &fahrenheit) {
            Some(payload) => out.payload(&payload),
            None => return out.error("the payload has no place for the result", 0),
        }
        if celsius < 0.0 {
            // A second record from the same source.
            out.emit(&Draft { data_type: Some("frost"), ..Draft::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edged::harness::{configure, transform, TestRecord};

    fn run(payload: &str) -> Vec<String> {
        let mut plugin: Fahrenheit = configure(r#"{"from":"t"}"#).unwrap();
        transform(&mut plugin, &[TestRecord::new(payload)])
    }

    #[test]
    fn adds_the_temperature() {
        assert_eq!(run(r#"{"t":20}"#), [r#"emit payload={"t":20,"fahrenheit":68}"#]);
        assert_eq!(run(r#"{"t":-1}"#), [r#"emit payload={"t":-1,"fahrenheit":30.2}"#, "emit type=frost"]);
        assert_eq!(run(r#"{"x":1}"#), ["error: there is no temperature"]);
    }

    #[test]
    fn reports_a_key_that_is_misspelled() {
        let wrong = configure::<Fahrenheit>(r#"{"form":"t"}"#).err();
        assert_eq!(wrong.as_deref(), Some("unknown key form; there are: from, to"));
    }
}
