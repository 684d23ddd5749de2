package edged

// JSON without a tree: everything works on the bytes of a value as it stands,
// finds the bytes that matter, and leaves all others as they are. Numbers keep
// their text.
//
// The host hands over payloads that are valid JSON, so nothing here validates;
// but nothing reads outside the bytes it was given, whatever they hold.

import "math/bits"

// Kind is what a JSON value is.
type Kind int

// The kinds. Missing is that of no value at all.
const (
	Missing Kind = iota
	Null
	Boolean
	Number
	String
	Array
	Object
)

// KindOf says what the value is; its first byte decides.
func KindOf(value []byte) Kind {
	if len(value) == 0 {
		return Missing
	}
	switch value[0] {
	case '"':
		return String
	case '{':
		return Object
	case '[':
		return Array
	case 't', 'f':
		return Boolean
	case 'n':
		return Null
	}
	return Number
}

func skipSpace(b []byte, p int) int {
	for p < len(b) && b[p] <= ' ' && (b[p] == ' ' || b[p] == '\n' || b[p] == '\r' || b[p] == '\t') {
		p++
	}
	return p
}

// Eight bytes at a time: a byte of each result has its high bit set where the byte
// looked at has the value asked for. (The lowest such bit is exact.)
const (
	low  = 0x0101010101010101
	high = 0x8080808080808080
)

func isByte(word uint64, value byte) uint64 {
	x := word ^ low*uint64(value)
	return (x - low) &^ x & high
}

// skipString goes from the opening quote to after the closing one; 0: there is
// none.
func skipString(b []byte, p int) (after int, escaped bool) {
	p++
	for p+8 <= len(b) {
		word := u64(b[p:])
		found := isByte(word, '"') | isByte(word, '\\')
		if found == 0 {
			p += 8
			continue
		}
		p += bits.TrailingZeros64(found) >> 3
		if b[p] == '"' {
			return p + 1, escaped
		}
		escaped = true
		p += 2
	}
	for p < len(b) {
		switch b[p] {
		case '"':
			return p + 1, escaped
		case '\\':
			escaped = true
			p++
		}
		p++
	}
	return 0, escaped
}

// skipContainer goes from after an opening bracket to after its closing one; 0:
// there is none.
func skipContainer(b []byte, p int) int {
	depth := 1
	for p < len(b) {
		if p+8 <= len(b) {
			word := u64(b[p:])
			folded := word | low*0x20
			found := isByte(word, '"') | isByte(folded, '{') | isByte(folded, '}')
			if found == 0 {
				p += 8
				continue
			}
			p += bits.TrailingZeros64(found) >> 3
		}
		c := b[p]
		if c == '"' {
			if p, _ = skipString(b, p); p == 0 {
				return 0
			}
			continue
		}
		p++
		switch c | 0x20 { // [ and {, ] and } differ in that bit only
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return p
			}
		}
	}
	return 0
}

// skipValue goes from the start of a value to after it; 0: the bytes end too early.
func skipValue(b []byte, p int) int {
	if p >= len(b) {
		return 0
	}
	switch b[p] {
	case '"':
		after, _ := skipString(b, p)
		return after
	case '{', '[':
		return skipContainer(b, p+1)
	}
	start := p
	for p < len(b) && b[p] != ',' && b[p]|0x20 != '}' && b[p] > ' ' {
		p++
	}
	if p == start {
		return 0
	}
	return p
}

// Members walks through the members of an object or the elements of an array, in
// order.
type Members struct {
	json   []byte
	p      int // after the value before
	object bool

	quotedAt, quotedEnd, valueAt int
	escaped                      bool
}

// NewMembers begins a walk. What is neither object nor array has no members.
func NewMembers(json []byte) *Members {
	m := membersOf(json)
	return &m
}

func membersOf(json []byte) Members {
	m := Members{json: json, p: skipSpace(json, 0)}
	if m.p < len(json) && (json[m.p] == '{' || json[m.p] == '[') {
		m.object = json[m.p] == '{'
		m.p++
	} else {
		m.p = len(json)
	}
	return m
}

// Next moves to the next one. False: there is none.
func (m *Members) Next() bool {
	b, p := m.json, skipSpace(m.json, m.p)
	if p < len(b) && b[p] == ',' {
		p = skipSpace(b, p+1)
	}
	if p >= len(b) || b[p]|0x20 == '}' {
		return false
	}
	if m.object {
		if b[p] != '"' {
			return false
		}
		at := p
		if p, m.escaped = skipString(b, p); p == 0 {
			return false
		}
		m.quotedAt, m.quotedEnd = at, p
		p = skipSpace(b, p)
		if p >= len(b) || b[p] != ':' {
			return false
		}
		p = skipSpace(b, p+1)
	}
	after := skipValue(b, p)
	if after == 0 {
		return false
	}
	m.valueAt, m.p = p, after
	return true
}

// Value returns the member or element.
func (m *Members) Value() []byte { return m.json[m.valueAt:m.p:m.p] }

// Quoted returns the member's name with its quotes, as it is written; empty for an
// element.
func (m *Members) Quoted() []byte { return m.json[m.quotedAt:m.quotedEnd:m.quotedEnd] }

// Name returns the member's name; empty for an element.
func (m *Members) Name() string {
	s, _ := AsString(m.Quoted())
	return s
}

// named reports whether the member has that name.
func (m *Members) named(name string) bool {
	if m.escaped {
		return m.Name() == name
	}
	return m.quotedEnd-m.quotedAt == len(name)+2 && string(m.json[m.quotedAt+1:m.quotedEnd-1]) == name
}

// closing returns where the closing bracket is after a walk to the end; -1: the
// bytes ended too early, or were no container.
func (m *Members) closing() int {
	p := skipSpace(m.json, m.p)
	if p < len(m.json) && m.json[p] == ',' {
		p = skipSpace(m.json, p+1)
	}
	bracket := byte(']')
	if m.object {
		bracket = '}'
	}
	if p < len(m.json) && m.json[p] == bracket {
		return p
	}
	return -1
}

// step takes the first name off a path like a.b.0.
func step(path string) (name, rest string, more bool) {
	for i := range len(path) {
		if path[i] == '.' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// index reads the number of an element; -1: it is none.
func index(name string) int {
	if name == "" || len(name) > 9 {
		return -1
	}
	n := 0
	for i := range len(name) {
		if name[i] < '0' || name[i] > '9' {
			return -1
		}
		n = n*10 + int(name[i]-'0')
	}
	return n
}

// spot is where a member or an element is, or would be.
type spot struct {
	Members
	last int // after the value before; 0: it is the first
}

// find looks for a member, or for the element whose number name is.
func find(json []byte, name string) (s spot, found bool) {
	s.Members = membersOf(json)
	wanted := -1
	if !s.object {
		if wanted = index(name); wanted < 0 {
			return s, false
		}
	}
	for s.Next() {
		if s.object && s.named(name) || !s.object && wanted == 0 {
			return s, true
		}
		wanted--
		s.last = s.p
	}
	return s, false
}

// Get returns the value at a path like a.b.0: members, and elements of arrays by
// number. Nil: there is none. Of members with the same name the first counts.
func Get(json []byte, path string) []byte {
	value := json[skipSpace(json, 0):]
	for more := true; more; {
		var name string
		name, path, more = step(path)
		s, found := find(value, name)
		if !found {
			return nil
		}
		value = s.Value()
	}
	return value
}

// Member returns the member of that name, dots and all. Nil: there is none.
func Member(json []byte, name string) []byte {
	if s, found := find(json, name); found && s.object {
		return s.Value()
	}
	return nil
}

// splice returns json with the bytes from at to end replaced.
func splice(json []byte, at, end int, middle ...[]byte) []byte {
	size := len(json) - (end - at)
	for _, m := range middle {
		size += len(m)
	}
	out := append(make([]byte, 0, size), json[:at]...)
	for _, m := range middle {
		out = append(out, m...)
	}
	return append(out, json[end:]...)
}

// insert writes the member name at at, with the objects that the rest of the path
// needs.
func insert(json []byte, at int, comma bool, path string, value []byte) []byte {
	var text []byte
	if comma {
		text = append(text, ',')
	}
	depth := 0
	for more := true; more; {
		var name string
		name, path, more = step(path)
		text = append(AppendQuoted(text, name), ':')
		if more {
			text = append(text, '{')
			depth++
		}
	}
	text = append(text, value...)
	for range depth {
		text = append(text, '}')
	}
	return splice(json, at, at, text)
}

// Set returns json with the value at path replaced, or added as the last member of
// its object; objects on the way that are missing are made. No other byte changes,
// and json stays as it is. Nil: something on the way is no object, or a new element
// would have to be put into an array.
func Set(json []byte, path string, value []byte) []byte {
	at := skipSpace(json, 0)
	end := len(json)
	for more := true; more; {
		s, found := find(json[at:end], firstOf(path))
		if !found {
			if s.closing() < 0 || !s.object {
				return nil
			}
			if s.last > 0 {
				return insert(json, at+s.last, true, path, value)
			}
			return insert(json, at+1, false, path, value)
		}
		_, path, more = step(path)
		at, end = at+s.valueAt, at+s.p
	}
	return splice(json, at, end, value)
}

func firstOf(path string) string {
	name, _, _ := step(path)
	return name
}

// Delete returns json without the member or element at path, or json itself if it
// is not there.
func Delete(json []byte, path string) []byte {
	at, end := skipSpace(json, 0), len(json)
	var from, last int
	for more := true; more; {
		var name string
		name, path, more = step(path)
		s, found := find(json[at:end], name)
		if !found {
			return json
		}
		from, last = at+s.valueAt, 0
		if s.object {
			from = at + s.quotedAt
		}
		if s.last > 0 {
			last = at + s.last
		}
		at, end = at+s.valueAt, at+s.p
	}
	if last > 0 {
		return splice(json, last, end) // with the comma before it
	}
	if next := skipSpace(json, end); next < len(json) && json[next] == ',' {
		end = skipSpace(json, next+1)
	}
	return splice(json, from, end)
}

// AsBool returns a true or false; ok says whether it is one of them.
func AsBool(value []byte) (b, ok bool) {
	if KindOf(value) != Boolean {
		return false, false
	}
	return value[0] == 't', true
}
