package edged

import (
	"bytes"
	"errors"
	"strings"
)

// Rule settles a field that both sides changed differently.
type Rule string

// The rules. A field without one is settled by Merge.Fallback.
const (
	Manual Rule = "manual" // a person does
	Latest Rule = "latest" // the later version, by its clock; the hub's when the clocks do not tell
	Client Rule = "client" // this edge's
	Server Rule = "server" // the hub's
	Max    Rule = "max"    // the larger number
	Min    Rule = "min"    // the smaller number
	Sum    Rule = "sum"    // both changes of a number, added up; equal ones, too, are two
	Union  Rule = "union"  // what either side added to an array; what either removed is gone
)

const keyed = "keyed by "

// KeyedBy is the rule of an array of objects that are matched by a member of
// theirs, and merged.
func KeyedBy(member string) Rule { return Rule(keyed + member) }

// RuleNames are the names of rules, for messages to people.
const RuleNames = "manual, latest, client, server, max, min, sum, union, keyed by <member>"

// ParseRule reads a rule as it is written.
func ParseRule(s string) (Rule, error) {
	switch r := Rule(s); r {
	case Manual, Latest, Client, Server, Max, Min, Sum, Union:
		return r, nil
	}
	if strings.HasPrefix(s, keyed) && len(s) > len(keyed) {
		return Rule(s), nil
	}
	return "", errors.New("there is no rule \"" + s + "\"; rules are: " + RuleNames)
}

// maxDepth bounds a merge: below it, a value is taken or left as a whole.
const maxDepth = 64

// Merge merges conflicts three ways: what only one side changed is taken, what both
// changed alike too, but under Sum, where each change counts; what both changed
// differently is settled by a rule, field by field.
type Merge struct {
	// Rules are by paths like lines.quantity. Elements of keyed arrays have no name
	// in a path.
	Rules map[string]Rule
	// Fallback settles what has no rule of its own; one of Manual (if empty),
	// Latest, Client and Server.
	Fallback Rule
	// Open says where both sides changed what no rule settled, in the merge that
	// ran last.
	Open []string

	known, localLater bool
	sums              bool // some field is a sum
}

// sides are three values of one field; nil stands for a field that is not there.
type sides struct{ base, local, remote []byte }

// numeric says whether a number, or nothing, became the remote number.
func (s sides) numeric() bool {
	return KindOf(s.remote) == Number && (s.base == nil || KindOf(s.base) == Number)
}

// Run merges the payloads of a conflict, of which neither is deleted. Nil: they
// cannot be merged without a person; Open says where.
func (m *Merge) Run(c *Conflict) []byte {
	m.Open, m.known, m.localLater = nil, c.Base != nil, c.Local.Compare(&c.Remote) > 0
	m.sums = false
	for _, rule := range m.Rules {
		m.sums = m.sums || rule == Sum
	}
	s := sides{local: c.Local.Payload, remote: c.Remote.Payload}
	if c.Base != nil && !c.Base.Deleted {
		s.base = c.Base.Payload
	}
	merged := m.value(s, "", 0)
	switch {
	case len(m.Open) > 0:
		return nil
	case m.sums && Same(merged, s.remote):
		return s.remote // as it is written there
	}
	return merged
}

// alike says whether both sides are the same and nothing in them is left to add up.
func (m *Merge) alike(s sides) bool {
	return Same(s.local, s.remote) && (!m.sums || !m.known || Same(s.base, s.remote))
}

// oneSided returns what no rule is needed for. False: both sides have changed.
func (m *Merge) oneSided(s sides) (value []byte, ok bool) {
	switch {
	case m.alike(s), m.known && Same(s.base, s.local):
		return s.remote, true
	case m.known && Same(s.base, s.remote):
		return s.local, true
	// What one side lacks may be new on the other: it is never a delete.
	case !m.known && s.local == nil:
		return s.remote, true
	case !m.known && s.remote == nil:
		return s.local, true
	}
	return nil, false
}

func (m *Merge) value(s sides, path string, depth int) []byte {
	if value, ok := m.oneSided(s); ok {
		return value
	}
	rule, ruled := m.Rules[path]
	if !ruled && KindOf(s.local) == Object && KindOf(s.remote) == Object && depth < maxDepth {
		return m.objects(s, path, depth)
	}
	if !ruled {
		rule = m.Fallback
	}
	equal := m.sums && Same(s.local, s.remote)
	twice := equal && rule == Sum && s.numeric()
	if !equal || twice || strings.HasPrefix(string(rule), keyed) {
		if value, settled := m.settle(rule, s, path, depth); settled {
			return value
		}
	}
	if equal && !twice {
		return s.remote
	}
	if path == "" {
		path = "the whole value"
	}
	m.Open = append(m.Open, path)
	return s.remote
}

// settle settles a field by its rule. False: the rule does not apply.
func (m *Merge) settle(rule Rule, s sides, path string, depth int) (value []byte, settled bool) {
	switch rule {
	case Latest:
		if m.localLater {
			return s.local, true
		}
		return s.remote, true
	case Client:
		return s.local, true
	case Server:
		return s.remote, true
	}
	if s.local == nil || s.remote == nil {
		return nil, false
	}
	switch rule {
	case Max, Min, Sum:
		value = m.numbers(rule, s)
		return value, value != nil
	}
	return m.arrays(rule, s, path, depth)
}

// numbers settles two numbers. Nil: the rule does not apply.
func (m *Merge) numbers(rule Rule, s sides) []byte {
	if rule == Sum {
		if !m.known {
			return nil
		}
		if s.base == nil {
			s.base = []byte("0")
		}
		return AddDelta(s.remote, s.local, s.base)
	}
	order, ok := CompareNumbers(s.local, s.remote)
	switch {
	case !ok:
		return nil
	case rule == Max && order > 0, rule == Min && order < 0:
		return s.local
	}
	return s.remote
}

// arrays settles two arrays. False: the rule does not apply.
func (m *Merge) arrays(rule Rule, s sides, path string, depth int) (value []byte, settled bool) {
	if KindOf(s.local) != Array || KindOf(s.remote) != Array {
		return nil, false
	}
	if KindOf(s.base) != Array {
		s.base = nil
	}
	switch key, isKeyed := strings.CutPrefix(string(rule), keyed); {
	case rule == Union:
		return union(s), true
	case isKeyed && depth < maxDepth:
		value = m.elements(s, key, path, depth)
	}
	return value, value != nil
}

func (m *Merge) objects(s sides, path string, depth int) []byte {
	if KindOf(s.base) != Object {
		s.base = nil
	}
	b, l, r := NewFields(s.base), NewFields(s.local), NewFields(s.remote)
	out := append(make([]byte, 0, len(s.local)+len(s.remote)), '{')
	add := func(name string, quoted []byte) {
		field := sides{b.Get(name), l.Get(name), r.Get(name)}
		value := m.value(field, below(path, name), depth+1)
		if value == nil {
			return
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted...), ':'), value...)
	}
	for i, name := range r.names {
		if r.index[name] == i {
			add(name, r.quoted[i])
		}
	}
	for i, name := range l.names {
		if _, there := r.index[name]; !there && l.index[name] == i {
			add(name, l.quoted[i])
		}
	}
	return append(out, '}')
}

func below(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// elements merges two arrays of objects. Nil: an element has no key, or two have
// the same.
func (m *Merge) elements(s sides, key, path string, depth int) []byte {
	b, _ := byKey(s.base, key)
	l, lok := byKey(s.local, key)
	r, rok := byKey(s.remote, key)
	if !lok || !rok {
		return nil
	}
	out := append(make([]byte, 0, len(s.local)+len(s.remote)), '[')
	add := func(name string) {
		value := m.element(sides{b.Get(name), l.Get(name), r.Get(name)}, path, name, depth)
		if value == nil {
			return
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, value...)
	}
	for _, name := range r.names {
		add(name)
	}
	for _, name := range l.names {
		if _, there := r.index[name]; !there {
			add(name)
		}
	}
	return append(out, ']')
}

func (m *Merge) element(s sides, path, key string, depth int) []byte {
	if KindOf(s.local) == Object && KindOf(s.remote) == Object && !m.alike(s) {
		return m.objects(s, path, depth+1)
	}
	return m.value(s, path+"."+key, depth+1)
}

// byKey returns the elements of an array by the member key of theirs. False: one
// has none, or two have the same.
func byKey(array []byte, key string) (f Fields, ok bool) {
	f.index = map[string]int{}
	for elements := membersOf(array); elements.Next(); {
		value := elements.Value()
		if KindOf(value) != Object {
			return Fields{}, false
		}
		name := Member(value, key)
		var text string
		// A number and a string with the same text are one key: both name one thing.
		switch KindOf(name) {
		case String:
			text, _ = AsString(name)
		case Number:
			text = string(name)
		default:
			return Fields{}, false
		}
		if _, there := f.index[text]; there {
			return Fields{}, false
		}
		f.add(text, nil, value)
	}
	return f, true
}

// union returns what both have, and what either added since the base; what either
// removed is gone.
func union(s sides) []byte {
	base, local, remote := list(s.base), list(s.local), list(s.remote)
	var kept [][]byte
	for _, one := range remote {
		if (!has(base, one) || has(local, one)) && !has(kept, one) {
			kept = append(kept, one)
		}
	}
	for _, one := range local {
		if !has(base, one) && !has(kept, one) {
			kept = append(kept, one)
		}
	}
	return append(append([]byte{'['}, bytes.Join(kept, []byte{','})...), ']')
}

func list(array []byte) (out [][]byte) {
	for elements := membersOf(array); elements.Next(); {
		out = append(out, elements.Value())
	}
	return out
}

func has(all [][]byte, one []byte) bool {
	for _, other := range all {
		if Same(other, one) {
			return true
		}
	}
	return false
}
