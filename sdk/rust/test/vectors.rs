//! A plugin that does what each record asks for, as sdk/testdata/README.md says.

use edged::decimal::{add_delta, compare_numbers};
use edged::json::{boolean, delete, get, kind, member, same, set, Fields};
use edged::number::{fixed, integer, number};
use edged::prelude::*;
use edged::text::{quote, string};

struct Vectors;

edged::plugin!(Vectors: transform, resolve);

impl Plugin for Vectors {
    fn configure(_: &mut Config) -> Self {
        Vectors
    }
}

fn field(json: &[u8], name: &str) -> Option<String> {
    member(json, name).and_then(string).map(|s| s.to_string())
}

fn code(json: &[u8]) -> u16 {
    member(json, "code").and_then(number).map_or(0, |n| n as u16)
}

impl Transform for Vectors {
    fn transform(&mut self, r: &Record, out: &mut Output) {
        let json = r.payload;
        let what = field(json, "do").unwrap_or_default();
        let reason = field(json, "reason").unwrap_or_default();
        let to = field(json, "to");
        let payload = to.as_deref().map(str::as_bytes);
        match what.as_str() {
            "pass" => out.pass(),
            "drop" => out.drop(&reason, code(json)),
            "error" => out.error(&reason, code(json)),
            "payload" => out.payload(payload.unwrap_or_default()),
            "keep" => {
                out.pass();
                out.payload(payload.unwrap_or_default());
            }
            "split" => {
                for id in Members::new(member(json, "ids").unwrap_or_default()) {
                    out.emit(&Draft { id: string(id.value).as_deref(), ..Draft::default() });
                }
            }
            "emit" => out.emit(&Draft {
                id: field(json, "id").as_deref(),
                device: field(json, "device").as_deref(),
                data_type: field(json, "type").as_deref(),
                payload,
                timestamp: field(json, "timestamp").and_then(|t| t.parse().ok()),
            }),
            "panic" => panic!("as it was asked"),
            "call" => {
                let result = quote(&call(member(json, "args").unwrap_or_default()));
                out.payload(&[b"{\"result\":", result.as_slice(), b"}"].concat());
            }
            _ => {}
        }
    }
}

impl Resolve for Vectors {
    fn resolve(&mut self, c: &Conflict, out: &mut Verdict) {
        let local = &c.local;
        if local.deleted || local.left_out || !local.is_object {
            return if local.is_later_than(&c.remote) { out.local() } else { out.remote() };
        }
        let json = local.payload;
        let what = field(json, "do").unwrap_or_default();
        let reason = field(json, "reason").unwrap_or_default();
        match what.as_str() {
            "local" => out.local(),
            "remote" => out.remote(),
            "delete" => out.delete(),
            "merged" => out.merged(field(json, "to").unwrap_or_default().as_bytes()),
            "manual" => out.manual(&reason, field(json, "serve").as_deref() == Some("local")),
            "error" => out.error(&reason, code(json)),
            "tell" => {
                let version = match field(json, "side").as_deref() {
                    Some("local") => Some(&c.local),
                    Some("remote") => Some(&c.remote),
                    _ => c.base.as_ref(),
                };
                out.merged(&version.map_or_else(|| b"null".to_vec(), |v| tell(c.key, v)));
            }
            _ => {}
        }
    }
}

fn tell(key: &str, v: &Version) -> Vec<u8> {
    let clock = match (v.clock_unknown, v.clock_raised) {
        (true, _) => "unknown",
        (_, true) => "floor",
        _ => "synced",
    };
    let quoted = |s: &str| text(&quote(s));
    let body = if v.deleted { "null".to_string() } else { text(v.payload) };
    format!(
        r#"{{"key":{},"device":{},"type":{},"wall":{},"counter":{},"revision":{},"clock":"{}","deleted":{},"object":{},"body":{}}}"#,
        quoted(key), quoted(v.device), quoted(v.data_type), v.wall, v.counter, v.revision, clock, v.deleted, v.is_object, body
    )
    .into_bytes()
}

fn text(b: &[u8]) -> String {
    String::from_utf8_lossy(b).to_string()
}

fn shown(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "null".to_string(), text)
}

/// Functions of the SDK, as sdk/testdata/functions.json calls them.
fn call(args: &[u8]) -> String {
    let mut texts = Members::new(args).map(|m| string(m.value).unwrap_or_default().to_string());
    let mut next = || texts.next().unwrap_or_default();
    let (what, a, y, z) = (next(), next(), next(), next());
    let x = a.as_bytes();
    match what.as_str() {
        "get" => shown(get(x, &y)),
        "set" => shown(set(x, &y, z.as_bytes()).as_deref()),
        "del" => text(&delete(x, &y)),
        "kind" => text(&integer(kind(x) as i64)),
        "bool" => text(&integer(boolean(x).map_or(-1, i64::from))),
        "string" => string(x).map_or_else(|| "null".to_string(), |s| s.to_string()),
        "quote" => text(&quote(&a)),
        "number" => number(x).unwrap_or(f64::NAN).to_bits().to_string(),
        "fixed" => shown(number(x).and_then(|n| fixed(n, y.parse().unwrap_or(0))).as_deref()),
        "integer" => text(&integer(a.parse().unwrap_or(0))),
        "names" if kind(x) == Kind::Object => Members::new(x).map(|m| text(&m.name())).collect::<Vec<_>>().join("|"),
        "names" => String::new(),
        "lookup" => lookup(x, &y, &z),
        "config" => config(x),
        "lists" => lists(x),
        "delta" => shown(add_delta(x, y.as_bytes(), z.as_bytes()).as_deref()),
        "compare" => text(&integer(compare_numbers(x, y.as_bytes()).map_or(2, |order| order as i64))),
        "same" => (if same(Some(x), Some(y.as_bytes())) { "yes" } else { "no" }).to_string(),
        "members" => Members::new(x).map(|m| format!("{}={};", text(&m.name()), text(m.value))).collect(),
        "fields" => {
            let f = Fields::new(x);
            let at = f.find(y.as_bytes()).map_or(-1, |i| i as i64);
            format!("{} {} {}", f.len(), at, shown(f.get(y.as_bytes())))
        }
        _ => format!("what is {}?", what),
    }
}

fn lookup(x: &[u8], y: &str, z: &str) -> String {
    let mut lookup = Lookup::new(&[y, z, "x.y"]);
    let found = lookup.run(x);
    let whole = if found.is_object() { "" } else { "no object: " };
    let (a, b) = (found.set(0, b"0"), found.set(2, b"1"));
    format!("{}{}|{}|{}|{}", whole, shown(found.value(0)), shown(found.value(1)), shown(a.as_deref()), shown(b.as_deref()))
}

fn config(json: &[u8]) -> String {
    Config::read(json, |c| {
        let (s, n) = (c.string("s", "S"), c.number("n", 1.5, 0.0, 10.0));
        format!("{}|{:?}|{}|{}", s, n, c.integer("i", 3, 0, 9), c.boolean("f", true))
    })
    .unwrap_or_else(|wrong| wrong)
}

fn lists(json: &[u8]) -> String {
    Config::read(json, |c| {
        let list = c.strings("l").join(",");
        let pairs: Vec<String> = c.map("m").iter().map(|(name, s)| format!("{}={}", name, s)).collect();
        list + "|" + &pairs.join(",")
    })
    .unwrap_or_else(|wrong| wrong)
}
