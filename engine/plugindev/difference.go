package plugindev

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/edged/edged/engine/record"
)

// Change is one difference between two JSON values. Before is empty for what
// was added, After for what was removed. Both are JSON as it was written.
type Change struct {
	Path   string
	Before string
	After  string
}

// Compare lists what differs between two JSON values, in the order of before
// and then of what after has more. Objects are compared member by member, in
// whatever order they stand; everything else as it is written, less white space:
// 1.0 and 1 differ. path names the values themselves.
func Compare(path string, before, after []byte) []Change {
	before, after = bytes.TrimSpace(before), bytes.TrimSpace(after)
	if !isObject(before) || !isObject(after) {
		a, b := compact(before), compact(after)
		if a == b {
			return nil
		}
		return []Change{{path, a, b}}
	}
	old, olds := members(before)
	now, nows := members(after)
	var changes []Change
	for _, name := range olds {
		value, there := now[name]
		if !there {
			changes = append(changes, Change{member(path, name), compact(old[name]), ""})
			continue
		}
		changes = append(changes, Compare(member(path, name), old[name], value)...)
	}
	for _, name := range nows {
		if _, there := old[name]; !there {
			changes = append(changes, Change{member(path, name), "", compact(now[name])})
		}
	}
	return changes
}

func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// members returns an object's members and their names in order; of several with
// one name the first counts, as everywhere in edged.
func members(object []byte) (values map[string][]byte, names []string) {
	values = map[string][]byte{}
	err := record.EachMember(object, func(key, value []byte) error {
		if _, twice := values[string(key)]; !twice {
			names = append(names, string(key))
			values[string(key)] = value
		}
		return nil
	})
	if err != nil {
		// Both come from the host, which lets only valid JSON pass, or were
		// checked when they were read.
		panic("plugindev: comparing what is no JSON: " + err.Error())
	}
	return values, names
}

// member appends a name to a path, quoted where it would be read as another.
func member(path, name string) string {
	if name == "" || strings.ContainsAny(name, ". \"\n") {
		name = strconv.Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// compact takes the white space out of a JSON value.
func compact(value []byte) string {
	var out bytes.Buffer
	if err := json.Compact(&out, value); err != nil {
		return string(value)
	}
	return out.String()
}

// Row is one place in several JSON values, with what each has there; empty: it
// has nothing.
type Row struct {
	Path   string
	Values []string
}

// SideBySide lists the places in which values are not all the same; of objects,
// member by member. An empty value is one that is not there.
func SideBySide(values ...[]byte) []Row {
	var rows []Row
	sideBySide("", values, &rows)
	return rows
}

func sideBySide(path string, values [][]byte, rows *[]Row) {
	objects, others := 0, 0
	for _, v := range values {
		switch {
		case isObject(bytes.TrimSpace(v)):
			objects++
		case len(v) > 0:
			others++
		}
	}
	if objects > 0 && others == 0 {
		split := make([]map[string][]byte, len(values))
		var order []string
		seen := map[string]bool{}
		for i, v := range values {
			if len(v) == 0 {
				continue
			}
			var names []string
			split[i], names = members(v)
			for _, name := range names {
				if !seen[name] {
					seen[name] = true
					order = append(order, name)
				}
			}
		}
		for _, name := range order {
			parts := make([][]byte, len(values))
			for i := range values {
				parts[i] = split[i][name]
			}
			sideBySide(member(path, name), parts, rows)
		}
		return
	}
	row := Row{Path: path}
	same := true
	for i, v := range values {
		row.Values = append(row.Values, compact(v))
		same = same && row.Values[i] == row.Values[0]
	}
	if !same {
		*rows = append(*rows, row)
	}
}
