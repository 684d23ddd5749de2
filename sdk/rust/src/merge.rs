//! Three-way merge of JSON values: what only one side changed is taken, what both
//! changed alike too, but under the rule sum, where each change counts; what both
//! changed differently is settled by a rule, field by field.

use crate::alloc::borrow::Cow;
use crate::alloc::string::{String, ToString};
use crate::alloc::vec::Vec;
use crate::decimal::{add_delta, compare_numbers};
use crate::json::{kind_of, member, same, Fields, Kind, Members};
use crate::resolve::Conflict;
use crate::text::unescape;
use core::cmp::Ordering;

/// What settles a field that both sides changed differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A person does.
    Manual,
    /// The later version, by its clock; the hub's when the clocks do not tell.
    Latest,
    /// This edge's.
    Client,
    /// The hub's.
    Server,
    /// The larger number.
    Max,
    /// The smaller number.
    Min,
    /// Both changes of a number, added up; equal ones, too, are two.
    Sum,
    /// What either side added to an array; what either removed is gone.
    Union,
    /// The elements of an array are objects, matched by this member of theirs, and
    /// merged.
    Keyed(String),
}

/// The names of rules, for messages to people.
pub const RULE_NAMES: &str = "manual, latest, client, server, max, min, sum, union, keyed by <member>";

impl Rule {
    /// Reads a rule as it is written. None: there is none of that name.
    pub fn parse(s: &str) -> Option<Rule> {
        Some(match s {
            "manual" => Rule::Manual,
            "latest" => Rule::Latest,
            "client" => Rule::Client,
            "server" => Rule::Server,
            "max" => Rule::Max,
            "min" => Rule::Min,
            "sum" => Rule::Sum,
            "union" => Rule::Union,
            _ => Rule::Keyed(s.strip_prefix("keyed by ").filter(|key| !key.is_empty())?.to_string()),
        })
    }
}

/// Below that, a value is taken or left as a whole.
const MAX_DEPTH: u32 = 64;

/// Merges conflicts by rules. Make it once.
#[derive(Clone, Debug)]
pub struct Merge {
    rules: Vec<(String, Rule)>,
    fallback: Rule,
}

/// Three values of one field; none stands for a field that is not there.
#[derive(Clone, Copy)]
struct Sides<'a> {
    base: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
    remote: Option<&'a [u8]>,
}

type Value<'a> = Option<Cow<'a, [u8]>>;

/// One merge that runs.
struct Run<'r> {
    merge: &'r Merge,
    known: bool,
    local_later: bool,
    /// Some field is a sum.
    sums: bool,
    open: Vec<String>,
}

impl Merge {
    /// `fallback` settles what has no rule of its own; one of `Manual`, `Latest`,
    /// `Client` and `Server`.
    pub fn new(fallback: Rule) -> Merge {
        Merge { rules: Vec::new(), fallback }
    }

    /// Settles the field at a path like `lines.quantity` by a rule. Elements of
    /// keyed arrays have no name in a path.
    pub fn rule(mut self, path: &str, rule: Rule) -> Merge {
        self.rules.retain(|(p, _)| p != path);
        self.rules.push((path.to_string(), rule));
        self
    }

    /// Merges the payloads of a conflict, of which neither is deleted. The error
    /// says where both sides changed what no rule settles.
    pub fn run(&self, c: &Conflict) -> Result<Vec<u8>, Vec<String>> {
        let mut run = Run {
            merge: self,
            known: c.base.is_some(),
            local_later: c.local.is_later_than(&c.remote),
            sums: self.rules.iter().any(|(_, rule)| *rule == Rule::Sum),
            open: Vec::new(),
        };
        let base = c.base.as_ref().filter(|b| !b.deleted).map(|b| b.payload);
        let merged = run.value(Sides { base, local: Some(c.local.payload), remote: Some(c.remote.payload) }, "", 0);
        match run.open.is_empty() {
            // As it is written there.
            true if run.sums && same(merged.as_deref(), Some(c.remote.payload)) => Ok(c.remote.payload.to_vec()),
            true => Ok(merged.map_or_else(Vec::new, Cow::into_owned)),
            false => Err(run.open),
        }
    }
}

fn only<'a>(value: Option<&'a [u8]>, kind: Kind) -> Option<&'a [u8]> {
    value.filter(|v| crate::json::kind(v) == kind)
}

fn below(path: &str, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if path.is_empty() {
        return name.to_string();
    }
    [path, ".", &name].concat()
}

impl Run<'_> {
    /// Whether both sides are the same and nothing in them is left to add up.
    fn alike(&self, s: Sides) -> bool {
        same(s.local, s.remote) && (!self.sums || !self.known || same(s.base, s.remote))
    }

    fn value<'a>(&mut self, s: Sides<'a>, path: &str, depth: u32) -> Value<'a> {
        if self.alike(s) {
            return s.remote.map(Cow::Borrowed);
        }
        if self.known {
            if same(s.base, s.remote) {
                return s.local.map(Cow::Borrowed);
            }
            if same(s.base, s.local) {
                return s.remote.map(Cow::Borrowed);
            }
        } else if s.local.is_none() || s.remote.is_none() {
            // What one side lacks may be new on the other: it is never a delete.
            return s.local.or(s.remote).map(Cow::Borrowed);
        }
        let merge = self.merge;
        let rule = merge.rules.iter().find(|(p, _)| p == path).map(|(_, rule)| rule);
        if let (None, Some(local), Some(remote)) = (rule, only(s.local, Kind::Object), only(s.remote, Kind::Object)) {
            if depth < MAX_DEPTH {
                return Some(Cow::Owned(self.objects(s.base, local, remote, path, depth)));
            }
        }
        let rule = rule.unwrap_or(&merge.fallback);
        let equal = self.sums && same(s.local, s.remote);
        let number = |v| matches!(kind_of(v), Kind::Number);
        let twice = equal && *rule == Rule::Sum && number(s.remote) && (s.base.is_none() || number(s.base));
        if !equal || twice || matches!(rule, Rule::Keyed(_)) {
            if let Some(settled) = self.settle(rule, s, path, depth) {
                return settled;
            }
        }
        if equal && !twice {
            return s.remote.map(Cow::Borrowed);
        }
        self.open.push(if path.is_empty() { "the whole value".to_string() } else { path.to_string() });
        s.remote.map(Cow::Borrowed)
    }

    /// Settles a field by its rule. None: the rule does not apply.
    fn settle<'a>(&mut self, rule: &Rule, s: Sides<'a>, path: &str, depth: u32) -> Option<Value<'a>> {
        let whole = |side: Option<&'a [u8]>| Some(side.map(Cow::Borrowed));
        match rule {
            Rule::Manual => return None,
            Rule::Latest => return whole(if self.local_later { s.local } else { s.remote }),
            Rule::Client => return whole(s.local),
            Rule::Server => return whole(s.remote),
            _ => {}
        }
        let (local, remote) = (s.local?, s.remote?);
        let made = match rule {
            Rule::Max | Rule::Min => {
                let wins = if *rule == Rule::Max { Ordering::Greater } else { Ordering::Less };
                return whole(if compare_numbers(local, remote)? == wins { s.local } else { s.remote });
            }
            Rule::Sum if self.known => add_delta(remote, local, s.base.unwrap_or(b"0"))?,
            Rule::Sum => return None,
            _ => {
                let (local, remote, base) = (only(s.local, Kind::Array)?, only(s.remote, Kind::Array)?, only(s.base, Kind::Array));
                match rule {
                    Rule::Keyed(key) if depth < MAX_DEPTH => self.elements(base, local, remote, key, path, depth)?,
                    Rule::Union => union(base, local, remote),
                    _ => return None,
                }
            }
        };
        Some(Some(Cow::Owned(made)))
    }

    fn objects(&mut self, base: Option<&[u8]>, local: &[u8], remote: &[u8], path: &str, depth: u32) -> Vec<u8> {
        let b = only(base, Kind::Object).map_or_else(Fields::default, Fields::new);
        let (l, r) = (Fields::new(local), Fields::new(remote));
        let mut out = Vec::with_capacity(local.len() + remote.len());
        out.push(b'{');
        let theirs = r.members.iter().enumerate().filter(|(i, m)| r.find(&m.0) == Some(*i));
        let ours = l.members.iter().enumerate().filter(|(i, m)| l.find(&m.0) == Some(*i) && r.find(&m.0).is_none());
        for (_, (name, quoted, _)) in theirs.chain(ours) {
            let s = Sides { base: b.get(name), local: l.get(name), remote: r.get(name) };
            // The name is needed only where there is something to settle.
            let at = if self.alike(s) { String::new() } else { below(path, name) };
            if let Some(value) = self.value(s, &at, depth + 1) {
                if out.len() > 1 {
                    out.push(b',');
                }
                out.extend_from_slice(quoted);
                out.push(b':');
                out.extend_from_slice(&value);
            }
        }
        out.push(b'}');
        out
    }

    /// None: an element has no key, or two have the same.
    fn elements(&mut self, base: Option<&[u8]>, local: &[u8], remote: &[u8], key: &str, path: &str, depth: u32) -> Option<Vec<u8>> {
        let b = base.and_then(|b| keyed(b, key)).unwrap_or_default();
        let (l, r) = (keyed(local, key)?, keyed(remote, key)?);
        let mut out = Vec::with_capacity(local.len() + remote.len());
        out.push(b'[');
        let ours = l.members.iter().filter(|m| r.find(&m.0).is_none());
        for (name, _, _) in r.members.iter().chain(ours) {
            let s = Sides { base: b.get(name), local: l.get(name), remote: r.get(name) };
            let value = match (only(s.local, Kind::Object), only(s.remote, Kind::Object)) {
                (Some(local), Some(remote)) if !self.alike(s) => {
                    Some(Cow::Owned(self.objects(s.base, local, remote, path, depth + 1)))
                }
                _ => self.value(s, &below(path, name), depth + 1),
            };
            if let Some(value) = value {
                if out.len() > 1 {
                    out.push(b',');
                }
                out.extend_from_slice(&value);
            }
        }
        out.push(b']');
        Some(out)
    }
}

/// The elements of an array by the member `key` of theirs. None: one has none, or
/// two have the same.
fn keyed<'a>(array: &'a [u8], key: &str) -> Option<Fields<'a>> {
    let mut members = Vec::new();
    for element in Members::new(array) {
        let name = only(Some(element.value), Kind::Object).and_then(|object| member(object, key));
        // A number and a string with the same text are one key: both name one thing.
        let name = match (kind_of(name), name) {
            (Kind::String, Some(name)) => Cow::Owned(unescape(&name[1..name.len() - 1])),
            (Kind::Number, Some(name)) => Cow::Borrowed(name),
            _ => return None,
        };
        members.push((name, &array[..0], element.value));
    }
    let fields = Fields::of(members);
    if (0..fields.len()).any(|i| fields.find(&fields.members[i].0) != Some(i)) {
        return None;
    }
    Some(fields)
}

/// What both have, and what either added since the base; what either removed is gone.
fn union(base: Option<&[u8]>, local: &[u8], remote: &[u8]) -> Vec<u8> {
    let list = |array| Members::new(array).map(|m| m.value).collect::<Vec<&[u8]>>();
    let has = |all: &[&[u8]], one: &[u8]| all.iter().any(|other| same(Some(other), Some(one)));
    let (b, l, r) = (base.map_or_else(Vec::new, list), list(local), list(remote));
    let mut kept = Vec::new();
    for one in r {
        if !(has(&b, one) && !has(&l, one)) && !has(&kept, one) {
            kept.push(one);
        }
    }
    for one in &l {
        if !has(&b, one) && !has(&kept, one) {
            kept.push(one);
        }
    }
    [b"[", kept.join(&b","[..]).as_slice(), b"]"].concat()
}
