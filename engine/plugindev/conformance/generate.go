package conformance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// precious are values that a decoder which knows only float64, or only so much
// nesting, does not hand on as they are.
var precious = []string{
	`123456789012345678901234567890`, `0.1000`, `1e400`, `-0`, `1E+2`, `9007199254740993`, `1.0`,
	`"\u0000"`, `"\ud83d"`, `"a\/b"`, `"ä€😀"`, `"\"\\"`, `null`, `{}`, `[]`, `[1,[2,{"x":null}]]`,
	`{"a":1,"a":2}`, `{"":0}`, `""`,
}

// deep is JSON as deep as a payload may be, one level in it.
func deep() string { return strings.Repeat("[", 126) + strings.Repeat("]", 126) }

// epoch is the time of what is generated.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// generator makes records and conflicts at random.
type generator struct {
	*rand.Rand
	// names are of members that the plugin may look at.
	names   []string
	samples []record.Record
}

func newGenerator(r *rand.Rand, about wasm.Description, opts Options) *generator {
	g := &generator{Rand: r, samples: opts.Records}
	var arguments map[string]struct {
		Default json.RawMessage `json:"default"`
	}
	if json.Unmarshal(about.Config, &arguments) == nil {
		for _, a := range arguments {
			g.learn(a.Default)
		}
	}
	g.learn(opts.Module.Config)
	for i := range opts.Records[:min(len(opts.Records), 100)] {
		_ = record.EachMember(opts.Records[i].Payload, func(key, _ []byte) error {
			g.names = append(g.names, string(key))
			return nil
		})
	}
	slices.Sort(g.names)
	g.names = slices.Compact(g.names)
	return g
}

// learn takes from a config what may be names of members: its strings, and the
// names of its objects' members.
func (g *generator) learn(config json.RawMessage) {
	var value any
	if len(config) == 0 || json.Unmarshal(config, &value) != nil {
		return
	}
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case string:
			if v != "" && len(v) < 64 {
				g.names = append(g.names, v)
			}
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			for name, item := range v {
				walk(name)
				walk(item)
			}
		}
	}
	walk(value)
}

func (g *generator) name() string {
	if len(g.names) > 0 && g.IntN(10) < 7 {
		return g.names[g.IntN(len(g.names))]
	}
	return []string{"a", "b", "c", "d", "x.y", "", "temperature", "ünï", `q"`, "edged"}[g.IntN(10)]
}

// value returns a JSON value.
func (g *generator) value(depth int) string {
	switch n := g.IntN(12); {
	case n < 4:
		return fmt.Sprint(g.IntN(200) - 50)
	case n < 6:
		return fmt.Sprintf("%.2f", g.Float64()*120-20)
	case n < 8:
		return precious[g.IntN(len(precious))]
	case n < 9:
		return []string{"true", "false"}[g.IntN(2)]
	case n < 10 || depth > 2:
		return `"` + strings.Repeat("x", g.IntN(40)) + `"`
	case n < 11:
		items := make([]string, g.IntN(4))
		for i := range items {
			items[i] = g.value(depth + 1)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	return g.object(depth + 1)
}

// object returns a JSON object. A few have members of one name.
func (g *generator) object(depth int) string {
	items := make([]string, g.IntN(7))
	for i := range items {
		items[i] = string(record.AppendString(nil, g.name())) + ":" + g.value(depth)
	}
	if g.IntN(8) == 0 {
		return "{ " + strings.Join(items, " ,\n") + " }"
	}
	return "{" + strings.Join(items, ",") + "}"
}

// record returns a valid record; number makes its id.
func (g *generator) record(number int) record.Record {
	r := record.Record{
		ID: fmt.Sprintf("r%d", number), DeviceID: fmt.Sprintf("d%d", g.IntN(3)), DataType: "reading",
		Timestamp: epoch.Add(time.Duration(number) * time.Second),
	}
	if len(g.samples) > 0 && g.IntN(2) == 0 {
		sample := g.samples[g.IntN(len(g.samples))]
		r.DeviceID, r.DataType, r.Payload = sample.DeviceID, sample.DataType, sample.Payload
		if g.IntN(2) == 0 {
			r.Payload = g.mutate(r.Payload)
		}
		return r
	}
	r.Payload = []byte(g.object(0))
	if len(g.names) > 0 && g.IntN(3) == 0 {
		r.Payload = g.mutate(g.plausible())
	}
	return r
}

// mutate puts another value for one member.
func (g *generator) mutate(object []byte) []byte {
	items := split(object)
	if len(items) == 0 {
		return []byte(g.object(0))
	}
	items[g.IntN(len(items))].value = g.value(0)
	return join(items)
}

// plausible returns an object that has a number wherever the plugin may look.
func (g *generator) plausible() []byte {
	var items []item
	for i, name := range g.names {
		items = append(items, item{string(record.AppendString(nil, name)), fmt.Sprint(20 + i)})
	}
	return join(items)
}

func (g *generator) records(n int) []record.Record {
	records := make([]record.Record, n)
	for i := range records {
		records[i] = g.record(i)
	}
	return records
}

// item is one member of an object, as it is written.
type item struct{ name, value string }

func split(object []byte) []item {
	var items []item
	_ = record.EachMember(object, func(key, value []byte) error { // only valid objects come here
		items = append(items, item{string(record.AppendString(nil, string(key))), string(value)})
		return nil
	})
	return items
}

func join(items []item) []byte {
	out := []byte{'{'}
	for i, it := range items {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, it.name...), ':'), it.value...)
	}
	return append(out, '}')
}

// shrinkTries bounds how often a smaller input is tried.
const shrinkTries = 400

// shrink makes input smaller as long as it still fails: fewer of it, and fewer
// and plainer members in each. smaller lists what to try for one of it.
func shrink[T any](input []T, fails func([]T) bool, smaller func(T) []T) []T {
	tries := 0
	try := func(candidate []T) bool {
		if tries == shrinkTries {
			return false
		}
		tries++
		return len(candidate) > 0 && fails(candidate)
	}
	for size := len(input) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(input); {
			if without := slices.Delete(slices.Clone(input), at, at+size); try(without) {
				input = without
			} else {
				at += size
			}
		}
	}
	for i := 0; i < len(input); i++ {
		for again := true; again; {
			again = false
			for _, one := range smaller(input[i]) {
				candidate := slices.Clone(input)
				if candidate[i] = one; try(candidate) {
					input, again = candidate, true
					break
				}
			}
		}
	}
	return input
}

// smallerObjects lists objects with one member less, and with a plainer value.
func smallerObjects(object []byte) [][]byte {
	items := split(object)
	var out [][]byte
	for i := range items {
		out = append(out, join(slices.Delete(slices.Clone(items), i, i+1)))
	}
	for i := range items {
		for _, plain := range append(inside(items[i].value), "1", `""`) {
			if len(plain) < len(items[i].value) {
				other := slices.Clone(items)
				other[i].value = plain
				out = append(out, join(other))
			}
		}
	}
	return out
}

// inside lists the values that an array or object has.
func inside(value string) []string {
	var values []json.RawMessage
	if value[0] == '[' && json.Unmarshal([]byte(value), &values) == nil {
		out := make([]string, len(values))
		for i := range values {
			out[i] = string(values[i])
		}
		return out
	}
	var out []string
	for _, it := range split([]byte(value)) {
		out = append(out, it.value)
	}
	return out
}

func smallerRecords(r record.Record) []record.Record {
	var out []record.Record
	for _, payload := range smallerObjects(r.Payload) {
		one := r
		one.Payload = payload
		out = append(out, one)
	}
	return out
}
