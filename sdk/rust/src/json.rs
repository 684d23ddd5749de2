//! JSON without a tree: everything works on the bytes of a value as it stands,
//! finds the bytes that matter, and leaves all others as they are. Numbers keep
//! their text.
//!
//! The host hands over payloads that are valid JSON, so nothing here validates;
//! but nothing reads outside the bytes it was given, whatever they hold.
//!
//! A path is a text like `a.b.0`: members, and elements of arrays by number. Of
//! members with the same name the first counts.

use crate::alloc::borrow::Cow;
use crate::alloc::string::String;
use crate::alloc::vec::Vec;
use crate::frames::u64_at;
use crate::text::{quote, unescape};

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no value.
    Missing,
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Says what the value is; its first byte decides.
pub fn kind(value: &[u8]) -> Kind {
    match value.first() {
        None => Kind::Missing,
        Some(b'"') => Kind::String,
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'n') => Kind::Null,
        Some(_) => Kind::Number,
    }
}

/// Says what the value is, if there is one.
pub fn kind_of(value: Option<&[u8]>) -> Kind {
    value.map_or(Kind::Missing, kind)
}

/// A true or false. None: the value is neither.
pub fn boolean(value: &[u8]) -> Option<bool> {
    match kind(value) {
        Kind::Boolean => Some(value[0] == b't'),
        _ => None,
    }
}

fn skip_space(b: &[u8], mut p: usize) -> usize {
    while p < b.len() && matches!(b[p], b' ' | b'\n' | b'\r' | b'\t') {
        p += 1;
    }
    p
}

// Eight bytes at a time: a byte of each result has its high bit set where the byte
// looked at has the value asked for. (The lowest such bit is exact.)
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

fn is_byte(word: u64, value: u8) -> u64 {
    let x = word ^ (LOW * value as u64);
    x.wrapping_sub(LOW) & !x & HIGH
}

/// From the opening quote to after the closing one, and whether there were
/// escapes. None: there is no closing one.
fn skip_string(b: &[u8], mut p: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    p += 1;
    while p + 8 <= b.len() {
        let word = u64_at(b, p);
        let found = is_byte(word, b'"') | is_byte(word, b'\\');
        if found == 0 {
            p += 8;
            continue;
        }
        p += found.trailing_zeros() as usize >> 3;
        if b[p] == b'"' {
            return Some((p + 1, escaped));
        }
        escaped = true;
        p += 2;
    }
    while p < b.len() {
        match b[p] {
            b'"' => return Some((p + 1, escaped)),
            b'\\' => {
                escaped = true;
                p += 2;
            }
            _ => p += 1,
        }
    }
    None
}

/// From after an opening bracket to after its closing one.
fn skip_container(b: &[u8], mut p: usize) -> Option<usize> {
    let mut depth = 1;
    while p < b.len() {
        if p + 8 <= b.len() {
            let word = u64_at(b, p);
            let folded = word | (LOW * 0x20);
            let found = is_byte(word, b'"') | is_byte(folded, b'{') | is_byte(folded, b'}');
            if found == 0 {
                p += 8;
                continue;
            }
            p += found.trailing_zeros() as usize >> 3;
        }
        if b[p] == b'"' {
            p = skip_string(b, p)?.0;
            continue;
        }
        // [ and {, ] and } differ in that bit only.
        match b[p] | 0x20 {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        p += 1;
        if depth == 0 {
            return Some(p);
        }
    }
    None
}

/// From the start of a value to after it. None: the bytes end too early.
fn skip_value(b: &[u8], start: usize) -> Option<usize> {
    match b.get(start)? {
        b'"' => return skip_string(b, start).map(|(p, _)| p),
        b'{' | b'[' => return skip_container(b, start + 1),
        _ => {}
    }
    let mut p = start;
    while p < b.len() && b[p] != b',' && b[p] | 0x20 != b'}' && b[p] > b' ' {
        p += 1;
    }
    if p > start {
        Some(p)
    } else {
        None
    }
}

/// A member of an object or an element of an array.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The member's name with its quotes, as it is written; empty for an element.
    pub quoted: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    escaped: bool,
    at: usize,  // where it begins
    from: usize, // where its value does
    end: usize, // after it
}

impl<'a> Member<'a> {
    /// The member's name as UTF-8; empty for an element.
    pub fn name(&self) -> Cow<'a, [u8]> {
        match self.quoted.len() {
            0 | 1 => Cow::Borrowed(&[]),
            n if self.escaped => Cow::Owned(unescape(&self.quoted[1..n - 1])),
            n => Cow::Borrowed(&self.quoted[1..n - 1]),
        }
    }

    fn is_named(&self, name: &[u8]) -> bool {
        if self.escaped {
            return *self.name() == *name;
        }
        self.quoted.len() == name.len() + 2 && &self.quoted[1..name.len() + 1] == name
    }
}

/// Walks through the members of an object or the elements of an array, in order.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    json: &'a [u8],
    p: usize,
    object: bool,
}

impl<'a> Members<'a> {
    /// Begins a walk. What is neither object nor array has no members.
    pub fn new(json: &'a [u8]) -> Members<'a> {
        let p = skip_space(json, 0);
        match json.get(p) {
            Some(&c) if c == b'{' || c == b'[' => Members { json, p: p + 1, object: c == b'{' },
            _ => Members { json, p: json.len(), object: false },
        }
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.object
    }

    /// Where the closing bracket is after a walk to the end. None: the bytes ended
    /// too early, or are no container.
    fn closing(&self) -> Option<usize> {
        let mut p = skip_space(self.json, self.p);
        if self.json.get(p) == Some(&b',') {
            p = skip_space(self.json, p + 1);
        }
        let bracket = if self.object { b'}' } else { b']' };
        if self.json.get(p) == Some(&bracket) {
            Some(p)
        } else {
            None
        }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let b = self.json;
        let mut p = skip_space(b, self.p);
        if b.get(p) == Some(&b',') {
            p = skip_space(b, p + 1);
        }
        let (at, c) = (p, *b.get(p)?);
        if c | 0x20 == b'}' {
            return None;
        }
        let (mut quoted, mut escaped): (&[u8], bool) = (&[], false);
        if self.object {
            if c != b'"' {
                return None;
            }
            let (after, escapes) = skip_string(b, p)?;
            quoted = &b[p..after];
            escaped = escapes;
            p = skip_space(b, after);
            if b.get(p) != Some(&b':') {
                return None;
            }
            p = skip_space(b, p + 1);
        }
        let end = skip_value(b, p)?;
        self.p = end;
        Some(Member { quoted, value: &b[p..end], escaped, at, from: p, end })
    }
}

/// Takes the first name off a path.
fn step(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|c| c == b'.') {
        Some(i) => (&path[..i], Some(&path[i + 1..])),
        None => (path, None),
    }
}

/// Reads the number of an element.
fn index(name: &str) -> Option<usize> {
    if name.is_empty() || name.len() > 9 {
        return None;
    }
    name.bytes().try_fold(0, |n, c| if c.is_ascii_digit() { Some(n * 10 + usize::from(c - b'0')) } else { None })
}

/// Where something is, or would be.
struct Spot<'a> {
    found: Option<Member<'a>>,
    /// After the value before. None: it is the first.
    last: Option<usize>,
    /// The closing bracket, when nothing was found.
    closing: Option<usize>,
    object: bool,
}

/// Looks for a member, or for the element whose number `name` is.
fn find<'a>(json: &'a [u8], name: &str) -> Spot<'a> {
    let mut members = Members::new(json);
    let object = members.object;
    let mut spot = Spot { found: None, last: None, closing: None, object };
    let wanted = index(name);
    if !object && wanted.is_none() {
        return spot;
    }
    let mut n = 0;
    while let Some(m) = members.next() {
        if if object { m.is_named(name.as_bytes()) } else { wanted == Some(n) } {
            spot.found = Some(m);
            return spot;
        }
        n += 1;
        spot.last = Some(m.end);
    }
    spot.closing = members.closing();
    spot
}

/// The value at `path`. None: there is none.
pub fn get<'a>(json: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let mut value = &json[skip_space(json, 0)..];
    let mut rest = Some(path);
    while let Some(path) = rest {
        let (name, more) = step(path);
        value = find(value, name).found?.value;
        rest = more;
    }
    Some(value)
}

/// The member of that name, dots and all. None: there is none.
pub fn member<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let spot = find(json, name);
    if spot.object {
        spot.found.map(|m| m.value)
    } else {
        None
    }
}

/// Returns `json` with the bytes from `at` to `end` replaced.
fn splice(json: &[u8], at: usize, end: usize, middle: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() - (end - at) + middle.len());
    out.extend_from_slice(&json[..at]);
    out.extend_from_slice(middle);
    out.extend_from_slice(&json[end..]);
    out
}

/// Writes a member at `at`, with the objects that the rest of the path needs.
fn insert(json: &[u8], at: usize, comma: bool, path: &str, value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len() + value.len() + 8);
    if comma {
        text.push(b',');
    }
    let mut depth = 0;
    let mut rest = Some(path);
    while let Some(path) = rest {
        let (name, more) = step(path);
        text.extend_from_slice(&quote(name));
        text.push(b':');
        if more.is_some() {
            text.push(b'{');
            depth += 1;
        }
        rest = more;
    }
    text.extend_from_slice(value);
    text.resize(text.len() + depth, b'}');
    splice(json, at, at, &text)
}

/// Returns `json` with the value at `path` replaced, or added as the last member
/// of its object; objects on the way that are missing are made. No other byte
/// changes. None: something on the way is no object, or a new element would have
/// to be put into an array.
pub fn set(json: &[u8], path: &str, value: &[u8]) -> Option<Vec<u8>> {
    let (mut at, mut end) = (skip_space(json, 0), json.len());
    let mut rest = Some(path);
    while let Some(path) = rest {
        let (name, more) = step(path);
        let spot = find(&json[at..end], name);
        match spot.found {
            Some(m) => {
                end = at + m.end;
                at += m.from;
            }
            None if spot.closing.is_some() && spot.object => {
                return Some(insert(json, at + spot.last.unwrap_or(1), spot.last.is_some(), path, value));
            }
            None => return None,
        }
        rest = more;
    }
    Some(splice(json, at, end, value))
}

/// Returns `json` without the member or element at `path`, as it is if there is
/// none.
pub fn delete<'a>(json: &'a [u8], path: &str) -> Cow<'a, [u8]> {
    let (mut at, mut end) = (skip_space(json, 0), json.len());
    let (mut from, mut last) = (at, None);
    let mut rest = Some(path);
    while let Some(path) = rest {
        let (name, more) = step(path);
        let spot = find(&json[at..end], name);
        let m = match spot.found {
            Some(m) => m,
            None => return Cow::Borrowed(json),
        };
        from = at + m.at;
        last = spot.last.map(|p| at + p);
        end = at + m.end;
        at += m.from;
        rest = more;
    }
    if let Some(last) = last {
        return Cow::Owned(splice(json, last, end, &[])); // with the comma before it
    }
    let next = skip_space(json, end);
    if json.get(next) == Some(&b',') {
        end = skip_space(json, next + 1);
    }
    Cow::Owned(splice(json, from, end, &[]))
}

/// Several paths, looked for in one pass: the fast way for a transform that reads
/// some fields and writes another. Make it once.
#[derive(Clone, Debug)]
pub struct Lookup {
    paths: Vec<(String, usize)>,  // with the length of the first name
    values: Vec<Option<(usize, usize)>>,
}

/// What a lookup found in one value.
#[derive(Debug)]
pub struct Found<'l, 'a> {
    lookup: &'l Lookup,
    json: &'a [u8],
    begin: usize,        // after the opening brace
    last: Option<usize>, // after the last member
    closed: bool,
}

impl Lookup {
    /// A lookup of these paths; see [`get`].
    pub fn new(paths: &[&str]) -> Lookup {
        Lookup {
            paths: paths.iter().map(|p| (String::from(*p), step(p).0.len())).collect(),
            values: crate::alloc::vec![None; paths.len()],
        }
    }

    /// Looks for every path.
    pub fn run<'l, 'a>(&'l mut self, json: &'a [u8]) -> Found<'l, 'a> {
        self.values.iter_mut().for_each(|v| *v = None);
        let mut members = Members::new(json);
        let (object, begin, mut last) = (members.object, members.p, None);
        while let (true, Some(m)) = (object, members.next()) {
            last = Some(m.end);
            for ((path, first), value) in self.paths.iter().zip(self.values.iter_mut()) {
                if value.is_none() && m.is_named(&path.as_bytes()[..*first]) {
                    *value = below(json, m.from, m.end, path.get(*first + 1..));
                }
            }
        }
        let closed = object && members.closing().is_some();
        Found { lookup: self, json, begin, last, closed }
    }
}

/// Where the value at the rest of a path is.
fn below(json: &[u8], at: usize, end: usize, rest: Option<&str>) -> Option<(usize, usize)> {
    let path = match rest {
        Some(path) => path,
        None => return Some((at, end)),
    };
    let (name, more) = step(path);
    let m = find(&json[at..end], name).found?;
    below(json, at + m.from, at + m.end, more)
}

impl<'l, 'a> Found<'l, 'a> {
    /// Whether the value is a whole object.
    pub fn is_object(&self) -> bool {
        self.closed
    }

    /// The value at the path with that number. None: there is none.
    pub fn value(&self, i: usize) -> Option<&'a [u8]> {
        self.lookup.values[i].map(|(at, end)| &self.json[at..end])
    }

    /// Does what [`set`] does for the path with that number.
    pub fn set(&self, i: usize, value: &[u8]) -> Option<Vec<u8>> {
        let (path, first) = &self.lookup.paths[i];
        if let Some((at, end)) = self.lookup.values[i] {
            return Some(splice(self.json, at, end, value));
        }
        if !self.closed {
            return None;
        }
        if path.len() > *first {
            return set(self.json, path, value);
        }
        Some(insert(self.json, self.last.unwrap_or(self.begin), self.last.is_some(), path, value))
    }
}

/// An object's members by name. Of several with the same name the first counts.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    pub(crate) members: Vec<(Cow<'a, [u8]>, &'a [u8], &'a [u8])>, // name, quoted, value
    table: Vec<u32>,                                              // open addressing, index + 1
}

/// FNV-1a, 32 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>
fn hash(name: &[u8]) -> usize {
    name.iter().fold(2166136261u32, |h, c| (h ^ u32::from(*c)).wrapping_mul(16777619)) as usize
}

impl<'a> Fields<'a> {
    /// The members of an object.
    pub fn new(json: &'a [u8]) -> Fields<'a> {
        Fields::of(Members::new(json).map(|m| (m.name(), m.quoted, m.value)).collect())
    }

    pub(crate) fn of(members: Vec<(Cow<'a, [u8]>, &'a [u8], &'a [u8])>) -> Fields<'a> {
        let size = (members.len() * 2).next_power_of_two().max(8);
        let mut fields = Fields { members, table: crate::alloc::vec![0; size] };
        for i in 0..fields.members.len() {
            let slot = fields.slot(&fields.members[i].0);
            if fields.table[slot] == 0 {
                fields.table[slot] = i as u32 + 1;
            }
        }
        fields
    }

    /// Where the name stands in the table, or would.
    fn slot(&self, name: &[u8]) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = hash(name) & mask;
        while self.table[slot] != 0 && *self.members[self.table[slot] as usize - 1].0 != *name {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// How many members there are, repeated names counted in.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The number of the member of that name. None: there is none.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        match self.table[self.slot(name)] {
            0 => None,
            n => Some(n as usize - 1),
        }
    }

    /// The value of the member of that name. None: there is none.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(name).map(|i| self.members[i].2)
    }
}

/// Deeper values are the same if their bytes are: the stack of a module is small.
const DEPTH: u32 = 256;

/// Whether two values say the same: white space and the order of members do not
/// count, the text of numbers does.
pub fn same(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same_within(a, b, DEPTH),
        _ => a == b,
    }
}

fn same_within(a: &[u8], b: &[u8], depth: u32) -> bool {
    if a == b {
        return true;
    }
    if kind(a) != kind(b) || depth == 0 {
        return false;
    }
    match kind(a) {
        Kind::String => match (crate::text::string(a), crate::text::string(b)) {
            (Some(x), Some(y)) => x == y,
            _ => false,
        },
        Kind::Array => {
            let mut y = Members::new(b);
            Members::new(a).all(|x| y.next().map_or(false, |y| same_within(x.value, y.value, depth - 1))) && y.next().is_none()
        }
        Kind::Object => {
            let (x, y) = (Fields::new(a), Fields::new(b));
            x.len() == y.len()
                && x.members.iter().all(|(name, _, v)| y.get(name).map_or(false, |w| same_within(v, w, depth - 1)))
        }
        _ => false,
    }
}
