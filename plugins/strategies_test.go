package plugins_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

// load starts a shipped plugin of any kind.
func load(t testing.TB, name, config string, allow ...string) *wasm.Plugin {
	t.Helper()
	h, err := wasm.NewHost(t.Context(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	code, ok := plugins.Builtin(name)
	if !ok {
		t.Fatalf("%s is not shipped", name)
	}
	m := wasm.Module{Name: name, Code: code, Allow: allow}
	if config != "" {
		m.Config = json.RawMessage(config)
	}
	p, err := h.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refused returns why a configuration is refused.
func refused(t testing.TB, name, config string) string {
	t.Helper()
	h, err := wasm.NewHost(t.Context(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	code, _ := plugins.Builtin(name)
	if _, err = h.Load(t.Context(), wasm.Module{Name: name, Code: code, Config: json.RawMessage(config), Allow: wasm.Capabilities()}); err == nil {
		t.Fatalf("%s takes %s", name, config)
	}
	return err.Error()
}

func resolve(t testing.TB, p *wasm.Plugin, in ...wasm.Conflict) []string {
	t.Helper()
	var out wasm.ResolveOutput
	if err := p.Resolve(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	got := make([]string, len(in))
	for i, v := range out.Verdicts {
		switch v.Action {
		case wasm.VerdictMerged:
			got[i] = string(v.Payload)
		case wasm.VerdictManual:
			got[i] = fmt.Sprintf("manual %d: %s", v.Code, v.Reason)
		case wasm.VerdictLocal:
			got[i] = "local"
		case wasm.VerdictRemote:
			got[i] = "remote"
		default:
			got[i] = fmt.Sprintf("%d: %s", v.Action, v.Reason)
		}
	}
	return got
}

// version is one side; an empty body is a delete.
func version(device string, wall int64, counter uint64, body string) wasm.Version {
	return wasm.Version{Key: "k", Device: device, DataType: "t", WallNS: wall, Counter: counter, Deleted: body == "", Body: []byte(body)}
}

func TestSidesWin(t *testing.T) {
	conflicts := []wasm.Conflict{
		{Local: version("a", 1, 0, `{"x":1}`), Remote: version("b", 2, 0, `{"x":2}`)},
		{Local: version("a", 1, 0, ""), Remote: version("b", 2, 0, `[2]`)},
	}
	for name, want := range map[string]string{"client_wins": "local", "server_wins": "remote"} {
		if got := resolve(t, load(t, name, ""), conflicts...); !slices.Equal(got, []string{want, want}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	for config, want := range map[string]string{"": "manual 0: changed on both sides", `{"serve":"client"}`: "manual 1: changed on both sides"} {
		if got := resolve(t, load(t, "manual", config), conflicts...); !slices.Equal(got, []string{want, want}) {
			t.Errorf("manual %s: %v", config, got)
		}
	}
}

// TestLatestWinsIsATotalOrder holds the plugin against the order it promises,
// with many ties.
func TestLatestWinsIsATotalOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	devices := []string{"a", "ab", "b", "é", "A"}
	var in []wasm.Conflict
	var want []string
	side := func() wasm.Version {
		v := version(devices[rnd.IntN(len(devices))], rnd.Int64N(3)-1, rnd.Uint64N(3)<<62, `{}`)
		v.ClockQuality = []wasm.ClockQuality{wasm.ClockSynced, wasm.ClockSynced, wasm.ClockFloor, wasm.ClockUnknown}[rnd.IntN(4)]
		return v
	}
	for range 2000 {
		c := wasm.Conflict{Local: side(), Remote: side()}
		l, r := c.Local, c.Remote
		later := l.WallNS > r.WallNS || l.WallNS == r.WallNS && (l.Counter > r.Counter || l.Counter == r.Counter && l.Device > r.Device)
		if later && l.ClockQuality != wasm.ClockUnknown && r.ClockQuality != wasm.ClockUnknown {
			want = append(want, "local")
		} else {
			want = append(want, "remote")
		}
		in = append(in, c)
	}
	for i, got := range resolve(t, load(t, "latest_wins", ""), in...) {
		if got != want[i] {
			t.Errorf("%+v: got %s, want %s", in[i], got, want[i])
		}
	}
}

const mergeRules = `{"fields":{"n":"sum","tags":"union","hi":"max","lo":"min","who":"client","at":"latest","hub":"server","lines":"keyed by id","lines.qty":"sum","sub.n":"sum"}}`

func TestMergeCases(t *testing.T) {
	for _, c := range []struct{ name, config, base, local, remote, want string }{
		{"other fields", "", `{"a":1,"b":1}`, `{"a":2,"b":1}`, `{"a":1,"b":3}`, `{"a":2,"b":3}`},
		{"same change", "", `{"a":1}`, `{"a":2}`, `{ "a" : 2 }`, "remote"},
		{"same field", "", `{"a":1,"b":{"c":1}}`, `{"a":2,"b":{"c":2}}`, `{"a":3,"b":{"c":3}}`, "manual 0: changed on both sides: a, b.c"},
		{"serve the client", `{"serve":"client"}`, `{"a":1}`, `{"a":2}`, `{"a":3}`, "manual 1: changed on both sides: a"},
		{"default server", `{"default":"server"}`, `{"a":1,"b":1}`, `{"a":2,"b":2}`, `{"a":3,"b":1}`, `{"a":3,"b":2}`},
		{"removed here", "", `{"a":1,"b":1}`, `{"a":1}`, `{"a":2,"b":1}`, `{"a":2}`},
		{"removed there, changed here", "", `{"a":1}`, `{"a":2}`, `{}`, "manual 0: changed on both sides: a"},
		{"null is a value", "", `{"a":1,"b":1}`, `{"a":null,"b":1}`, `{"a":1,"b":2}`, `{"a":null,"b":2}`},
		{"no base: absence is no delete", "", "-", `{"a":1,"b":2}`, `{"a":1,"c":3}`, `{"a":1,"c":3,"b":2}`},
		{"no base: differing", "", "-", `{"a":1}`, `{"a":2}`, "manual 0: changed on both sides: a"},
		{"was not there", mergeRules, "", `{"n":2}`, `{"n":3}`, `{"n":5}`},
		{"no base, no sum", mergeRules, "-", `{"n":2}`, `{"n":3}`, "manual 0: changed on both sides: n"},
		{"sum", mergeRules, `{"n":10.0}`, `{"n":10.3}`, `{"n":9.9}`, `{"n":10.2}`},
		{"equal changes of a sum are two", mergeRules, `{"n":10}`, `{"n":12}`, `{"n":12}`, `{"n":14}`},
		{
			"equal changes of sums deep down", mergeRules, `{"sub":{"n":1,"m":0},"hi":1,"lines":[{"id":1,"qty":1},{"id":2,"qty":5}]}`,
			`{"sub":{"n":3,"m":9},"hi":7,"lines":[{"id":1,"qty":2},{"id":2,"qty":5}]}`, `{"hi":7,"sub":{"m":9,"n":3},"lines":[{"id":1,"qty":2},{"id":2,"qty":5}]}`,
			`{"hi":7,"sub":{"m":9,"n":5},"lines":[{"id":1,"qty":3},{"id":2,"qty":5}]}`,
		},
		{"equal sums that were not there", mergeRules, `{}`, `{"n":2}`, `{"n":2}`, `{"n":4}`},
		{"equal sums, no base", mergeRules, "-", `{"n":2}`, `{"n":2}`, "remote"},
		{"equal sums, unchanged", mergeRules, `{"n":2,"hi":1}`, `{"n":2,"hi":3}`, `{ "hi":3, "n":2 }`, "remote"},
		{"equal sums, removed", mergeRules, `{"n":2}`, `{}`, `{}`, "remote"},
		{"equal sums of what is no number", mergeRules, `{"n":2}`, `{"n":"x"}`, `{"n":"x"}`, "remote"},
		{"equal sums beyond 18 digits", mergeRules, `{"n":1}`, `{"n":12345678901234567890}`, `{"n":12345678901234567890}`, "manual 0: changed on both sides: n"},
		{"equal arrays without keys", mergeRules, `{"lines":[]}`, `{"lines":[{"x":1}]}`, `{"lines":[{"x":1}]}`, "remote"},
		{"sum of what is no number", mergeRules, `{"n":10}`, `{"n":"x"}`, `{"n":11}`, "manual 0: changed on both sides: n"},
		{"union", mergeRules, `{"tags":["a","b"]}`, `{"tags":["b","c"]}`, `{"tags":["a","b","d"]}`, `{"tags":["b","d","c"]}`},
		{"max and min", mergeRules, `{"hi":1,"lo":1}`, `{"hi":5,"lo":-2.5}`, `{"hi":3,"lo":-2.50}`, `{"hi":5,"lo":-2.50}`},
		{"sides", mergeRules, `{"who":"","hub":""}`, `{"who":"c","hub":"c"}`, `{"who":"s","hub":"s"}`, `{"who":"c","hub":"s"}`},
		{"latest is local", mergeRules, `{"at":0}`, `{"at":1}`, `{"at":2}`, "local"},
		{
			"keyed", mergeRules, `{"lines":[{"id":1,"qty":1,"x":0},{"id":2,"qty":1}]}`, `{"lines":[{"id":1,"qty":3,"x":0},{"id":2,"qty":1},{"id":3,"qty":9}]}`,
			`{"lines":[{"id":"4","qty":8},{"id":1,"qty":2,"x":1}]}`, `{"lines":[{"id":"4","qty":8},{"id":1,"qty":4,"x":1},{"id":3,"qty":9}]}`,
		},
		{"keyed without a key", mergeRules, `{"lines":[]}`, `{"lines":[{"x":1}]}`, `{"lines":[{"id":2}]}`, "manual 0: changed on both sides: lines"},
		{"keyed twice", mergeRules, `{"lines":[]}`, `{"lines":[{"id":1},{"id":1}]}`, `{"lines":[{"id":2}]}`, "manual 0: changed on both sides: lines"},
		{"array is one value", "", `{"a":[1,2]}`, `{"a":[1,2,3]}`, `{"a":[1,2]}`, "local"},
		{"type change", "", `{"a":1}`, `{"a":{"b":1}}`, `{"a":[1]}`, "manual 0: changed on both sides: a"},
		{"no objects", "", `1`, `2`, `3`, "manual 0: changed on both sides: the whole value"},
		{"unknown fields stay", "", `{"v":1,"x":{"y":[1.50]}}`, `{"v":2,"x":{"y":[1.50]}}`, `{"v":1,"x":{"y":[1.50]},"new":1e400}`, `{"v":2,"x":{"y":[1.50]},"new":1e400}`},
		{"big integers stay", "", `{"i":1,"k":0}`, `{"i":12345678901234567890123,"k":0}`, `{"i":1,"k":1}`, `{"i":12345678901234567890123,"k":1}`},
		{"escaped names", "", `{"\u0061":1,"b":1}`, `{"a":2,"b":1}`, `{"\u0061":1,"b":2}`, `{"\u0061":2,"b":2}`},
		{"deleted here", "", `{"a":1}`, ``, `{"a":2}`, "manual 0: deleted on one side and changed on the other"},
		{"deleted on both sides", "", `{"a":1}`, ``, ``, "remote"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conflict := wasm.Conflict{Local: version("a", 2, 0, c.local), Remote: version("b", 1, 0, c.remote)}
			if c.base != "-" {
				base := version("b", 0, 0, c.base)
				conflict.Base = &base
			}
			if got := resolve(t, load(t, "merge", c.config), conflict)[0]; got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestStrategyConfigIsChecked(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"manual", `{"serve":"both"}`, `serve must be client or server, not "both"`},
		{"client_wins", `{"x":1}`, "unknown key x; there are none"},
		{"merge", `{"default":"sum"}`, `default must be manual, latest, client or server, not "sum"`},
		{"merge", `{"fields":{"a.b":"add"}}`, `fields.a.b is "add"; rules are: manual, latest, client, server, max, min, sum, union, keyed by <member>`},
		{"merge", `{"fields":["a"]}`, "fields must be an object with a string for every name"},
		{"merge", `{"fields":{"a":"keyed by "}}`, `fields.a is "keyed by "`},
	} {
		if got := refused(t, c.name, c.config); !strings.Contains(got, c.want) {
			t.Errorf("%s %s: got  %s\nwant %s", c.name, c.config, got, c.want)
		}
	}
}

// absent is a field that is not there.
type absent struct{}

// merger is the plugin's twin, written apart from it on decoded values.
type merger struct {
	rules  map[string]string
	latest bool // local
	open   []string
}

func decode(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func (m *merger) merge(base any, known bool, local, remote any, path string) any {
	equal := reflect.DeepEqual
	rule := m.rules[path]
	alike := equal(local, remote)
	switch {
	case alike && (!known || equal(base, remote)):
		return remote
	case known && equal(base, remote):
		return local
	case known && equal(base, local):
		return remote
	case !known && local == absent{}:
		return remote
	case !known && remote == absent{}:
		return local
	}
	l, lok := local.(map[string]any)
	r, rok := remote.(map[string]any)
	if rule == "" && lok && rok {
		return m.objects(base, known, l, r, path)
	}
	if alike && (rule != "sum" || numbers(rule, base, known, local, remote) == nil) {
		return remote
	}
	switch rule {
	case "client":
		return local
	case "server":
		return remote
	case "latest":
		if m.latest {
			return local
		}
		return remote
	case "sum", "max", "min":
		if v := numbers(rule, base, known, local, remote); v != nil {
			return v
		}
	case "union":
		la, lok := local.([]any)
		ra, rok := remote.([]any)
		if lok && rok {
			ba, _ := base.([]any)
			return united(ba, la, ra)
		}
	}
	m.open = append(m.open, path)
	return remote
}

func (m *merger) objects(base any, known bool, l, r map[string]any, path string) any {
	b, _ := base.(map[string]any)
	out := map[string]any{}
	names := map[string]bool{}
	for name := range l {
		names[name] = true
	}
	for name := range r {
		names[name] = true
	}
	field := func(m map[string]any, name string) any {
		if v, ok := m[name]; ok {
			return v
		}
		return absent{}
	}
	for name := range names {
		at := name
		if path != "" {
			at = path + "." + name
		}
		if v := m.merge(field(b, name), known, field(l, name), field(r, name), at); v != (absent{}) {
			out[name] = v
		}
	}
	return out
}

func numbers(rule string, base any, known bool, local, remote any) any {
	l, lok := local.(json.Number)
	r, rok := remote.(json.Number)
	if !lok || !rok {
		return nil
	}
	x, _ := new(big.Rat).SetString(l.String())
	y, _ := new(big.Rat).SetString(r.String())
	if rule != "sum" {
		if order := x.Cmp(y); rule == "max" && order > 0 || rule == "min" && order < 0 {
			return l
		}
		return r
	}
	b := json.Number("0")
	if base != any(absent{}) {
		var ok bool
		if b, ok = base.(json.Number); !ok {
			return nil
		}
	}
	if !known {
		return nil
	}
	z, _ := new(big.Rat).SetString(b.String())
	return sum{new(big.Rat).Add(y, new(big.Rat).Sub(x, z)).RatString()}
}

// sum is a number that is compared by value, not by text.
type sum struct{ exact string }

func united(base, local, remote []any) any {
	has := func(all []any, v any) bool {
		return slices.ContainsFunc(all, func(x any) bool { return reflect.DeepEqual(x, v) })
	}
	out := []any{}
	for _, v := range remote {
		if (!has(base, v) || has(local, v)) && !has(out, v) {
			out = append(out, v)
		}
	}
	for _, v := range local {
		if !has(base, v) && !has(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// settled compares a merged value to the twin's, sums by value.
func settled(want, got any) bool {
	switch w := want.(type) {
	case sum:
		n, ok := got.(json.Number)
		if !ok {
			return false
		}
		x, ok := new(big.Rat).SetString(n.String())
		return ok && x.RatString() == w.exact
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for name, v := range w {
			if x, ok := g[name]; !ok || !settled(v, x) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}

// random makes small objects in which both sides often touch the same fields.
func random(rnd *rand.Rand, depth int) any {
	switch rnd.IntN(9) {
	case 0:
		return nil
	case 1:
		return rnd.IntN(2) == 0
	case 2:
		return []string{"x", "é\"\\", ""}[rnd.IntN(3)]
	case 3, 4:
		return json.Number([]string{"0", "1", "1.0", "-2.5", "1e2", "0.10", "12345678901"}[rnd.IntN(7)])
	case 5:
		list := []any{}
		for range rnd.IntN(4) {
			list = append(list, json.Number(fmt.Sprint(rnd.IntN(4))))
		}
		return list
	}
	object := map[string]any{}
	if depth > 0 {
		for _, name := range []string{"n", "tags", "hi", "lo", "who", "at", "hub", "sub", "free", "é"} {
			if rnd.IntN(3) > 0 {
				object[name] = random(rnd, depth-1)
			}
		}
	}
	return object
}

func encode(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMergeAgreesWithItsTwin merges thousands of random conflicts.
func TestMergeAgreesWithItsTwin(t *testing.T) {
	p := load(t, "merge", mergeRules)
	rules := map[string]string{"n": "sum", "tags": "union", "hi": "max", "lo": "min", "who": "client", "at": "latest", "hub": "server", "sub.n": "sum"}
	merged, manual := 0, 0
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var in []wasm.Conflict
		for range 100 {
			object := func() string {
				for {
					if m, ok := random(rnd, 3).(map[string]any); ok {
						return encode(t, m)
					}
				}
			}
			c := wasm.Conflict{Local: version("a", rnd.Int64N(3), 0, object()), Remote: version("b", rnd.Int64N(3), 0, object())}
			if rnd.IntN(4) > 0 {
				base := version("b", 0, 0, object())
				c.Base = &base
				// Mostly one side is like the base, but for a few fields.
				for _, side := range []*wasm.Version{&c.Local, &c.Remote} {
					if rnd.IntN(3) == 0 {
						continue
					}
					changed, _ := decode(t, base.Body).(map[string]any)
					for range rnd.IntN(3) {
						changed[[]string{"n", "tags", "hi", "sub", "free"}[rnd.IntN(5)]] = random(rnd, 2)
					}
					side.Body = []byte(encode(t, changed))
				}
			}
			in = append(in, c)
		}
		for i, got := range resolve(t, p, in...) {
			c := in[i]
			m := merger{rules: rules, latest: c.Local.WallNS > c.Remote.WallNS}
			var base any = absent{}
			if c.Base != nil {
				base = decode(t, c.Base.Body)
			}
			want := m.merge(base, c.Base != nil, decode(t, c.Local.Body), decode(t, c.Remote.Body), "")
			describe := func() string {
				return fmt.Sprintf("base %+v\nlocal %s\nremote %s", c.Base, c.Local.Body, c.Remote.Body)
			}
			if len(m.open) > 0 {
				manual++
				list, ok := strings.CutPrefix(got, "manual 0: changed on both sides: ")
				open := strings.Split(list, ", ")
				sort.Strings(open)
				sort.Strings(m.open)
				if !ok || !slices.Equal(open, m.open) {
					t.Fatalf("%s\ngot %s, want manual: %v", describe(), got, m.open)
				}
				continue
			}
			merged++
			switch got {
			case "local":
				got = string(c.Local.Body)
			case "remote":
				got = string(c.Remote.Body)
			}
			if !json.Valid([]byte(got)) || !settled(want, decode(t, []byte(got))) {
				t.Fatalf("%s\ngot  %s\nwant %v", describe(), got, want)
			}
		}
	}
	if merged < 300 || manual < 300 {
		t.Errorf("%d merged and %d left to people: too few of one to prove anything", merged, manual)
	}
}

// FuzzMerge merges whatever is JSON: the plugin never faults, what it makes is
// JSON, and both sides being equal changes nothing, but for sums.
func FuzzMerge(f *testing.F) {
	f.Add(`{"n":1,"tags":[1]}`, `{"n":2,"tags":[1,2]}`, `{"n":3,"tags":[]}`)
	f.Add(`{"lines":[{"id":1}]}`, `{"lines":[{"id":1,"qty":1}]}`, `[{"\ud800":"\u0000"}]`)
	f.Add(`{"a":1,"a":2,"":{}}`, `{"a":2,"a":1}`, `{"hi":1e400,"lo":-0}`)
	p, even := load(f, "merge", mergeRules), load(f, "merge", `{"fields":{"tags":"union","hi":"max","lines":"keyed by id"}}`)
	f.Fuzz(func(t *testing.T, base, local, remote string) {
		for _, s := range []string{base, local, remote} {
			if !json.Valid([]byte(s)) || !utf8.ValidString(s) {
				return
			}
		}
		side := func(body string) wasm.Version { return version("a", 1, 0, strings.TrimSpace(body)) }
		b := side(base)
		for i, got := range resolve(t, p,
			wasm.Conflict{Base: &b, Local: side(local), Remote: side(remote)},
			wasm.Conflict{Local: side(local), Remote: side(remote)},
			wasm.Conflict{Base: &b, Local: side(local), Remote: side(local)},
			wasm.Conflict{Base: &b, Local: side(base), Remote: side(remote)},
		) {
			switch {
			case i == 3 && got != "remote":
				t.Errorf("nothing to settle: got %s", got)
			case got != "local" && got != "remote" && !strings.HasPrefix(got, "manual 0: ") && !json.Valid([]byte(got)):
				t.Errorf("%d: got %s", i, got)
			}
		}
		if got := resolve(t, even, wasm.Conflict{Base: &b, Local: side(local), Remote: side(local)}); got[0] != "remote" {
			t.Errorf("both sides equal, nothing to add up: got %s", got[0])
		}
	})
}
