package expr

import (
	"slices"
	"strings"

	"github.com/edged/edged/engine/record"
)

// maxDepth bounds the nesting, as the record package does for what comes in.
const maxDepth = 128

// member is one member of an object that is being written.
type member struct {
	name  string
	value int // where its value starts
}

// appendRaw appends the JSON value at data[i] in the form that HCL would give
// it: compact, members sorted by name and the last of equal ones only, strings
// in normal form C, numbers as plain decimals. It returns the position after
// the value; ok is false if there is a number it cannot write.
func (ev *Evaluator) appendRaw(dst, data []byte, i, depth int) (_ []byte, end int, ok bool) {
	if i >= len(data) || depth > maxDepth {
		return dst, i, false
	}
	switch data[i] {
	case '{':
		return ev.appendObject(dst, data, i, depth+1)
	case '[':
		return ev.appendArray(dst, data, i, depth+1)
	case '"':
		end, isPlain := stringEnd(data, i)
		if isPlain {
			return append(dst, data[i:end]...), end, true
		}
		if end-i < 2 {
			return dst, end, false
		}
		return record.AppendString(dst, ev.unquote(data[i:end])), end, true
	case 't', 'f', 'n':
		end = scalarEnd(data, i)
		return append(dst, data[i:end]...), end, true
	}
	end = scalarEnd(data, i)
	n, ok := parseNumber(view(data[i:end]))
	if !ok {
		return dst, end, false
	}
	dst, ok = n.appendText(dst)
	return dst, end, ok
}

func (ev *Evaluator) appendArray(dst, data []byte, i, depth int) (_ []byte, end int, ok bool) {
	dst = append(dst, '[')
	i = space(data, i+1)
	for first := true; i < len(data) && data[i] != ']'; first = false {
		if !first {
			if data[i] != ',' {
				return dst, i, false
			}
			dst = append(dst, ',')
			i = space(data, i+1)
		}
		if dst, i, ok = ev.appendRaw(dst, data, i, depth); !ok {
			return dst, i, false
		}
		i = space(data, i)
	}
	return append(dst, ']'), i + 1, true
}

func (ev *Evaluator) appendObject(dst, data []byte, i, depth int) (_ []byte, end int, ok bool) {
	base := len(ev.members)
	i = space(data, i+1)
	for i < len(data) && data[i] == '"' {
		keyEnd, isPlain := stringEnd(data, i)
		if keyEnd-i < 2 {
			return dst, i, false
		}
		var name string
		if isPlain {
			name = view(data[i+1 : keyEnd-1])
		} else {
			name = ev.unquote(data[i:keyEnd])
		}
		i = space(data, space(data, keyEnd)+1)
		ev.members = append(ev.members, member{name, i})
		if i = space(data, valueEnd(data, i)); i < len(data) && data[i] == ',' {
			i = space(data, i+1)
		}
	}
	end = i + 1
	slices.SortStableFunc(ev.members[base:], func(a, b member) int { return strings.Compare(a.name, b.name) })
	dst = append(dst, '{')
	start := len(dst)
	last := len(ev.members)
	for m := base; m < last; m++ {
		if m+1 < last && ev.members[m].name == ev.members[m+1].name {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(record.AppendString(dst, ev.members[m].name), ':')
		if dst, _, ok = ev.appendRaw(dst, data, ev.members[m].value, depth); !ok {
			break
		}
	}
	ok = ok || last == base
	ev.members = ev.members[:base]
	return append(dst, '}'), end, ok
}
