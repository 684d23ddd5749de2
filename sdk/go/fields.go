package edged

import "bytes"

// Fields are an object's members by name. Of several with the same name the first
// counts.
type Fields struct {
	names  []string
	quoted [][]byte
	values [][]byte
	index  map[string]int
}

// NewFields reads the members of an object; anything else has none.
func NewFields(json []byte) Fields {
	f := Fields{index: map[string]int{}}
	m := membersOf(json)
	for m.object && m.Next() {
		f.add(m.Name(), m.Quoted(), m.Value())
	}
	return f
}

func (f *Fields) add(name string, quoted, value []byte) {
	if _, there := f.index[name]; !there {
		f.index[name] = len(f.names)
	}
	f.names = append(f.names, name)
	f.quoted = append(f.quoted, quoted)
	f.values = append(f.values, value)
}

// Len returns how many members there are, repeated names counted in.
func (f *Fields) Len() int { return len(f.names) }

// Find returns the number of the member of that name, -1: there is none.
func (f *Fields) Find(name string) int {
	if i, ok := f.index[name]; ok {
		return i
	}
	return -1
}

// Get returns the value of the member of that name. Nil: there is none.
func (f *Fields) Get(name string) []byte {
	if i, ok := f.index[name]; ok {
		return f.values[i]
	}
	return nil
}

// Same reports whether two values say the same: white space and the order of
// members do not count, the text of numbers does. Nil is the same as nil only.
func Same(a, b []byte) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if bytes.Equal(a, b) {
		return true
	}
	kind := KindOf(a)
	if kind != KindOf(b) {
		return false
	}
	switch kind {
	case String:
		x, xok := AsString(a)
		y, yok := AsString(b)
		return xok && yok && x == y
	case Array:
		x, y := membersOf(a), membersOf(b)
		for x.Next() {
			if !y.Next() || !Same(x.Value(), y.Value()) {
				return false
			}
		}
		return !y.Next()
	case Object:
		x, y := NewFields(a), NewFields(b)
		if x.Len() != y.Len() {
			return false
		}
		for i, name := range x.names {
			if !Same(x.values[i], y.Get(name)) {
				return false
			}
		}
		return true
	}
	return false
}
