package sdk_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
	"github.com/edged/edged/sdk"
)

// merger loads the shipped merge plugin, or the same in another language.
func merger(t *testing.T, lang string, config string) (*wasm.Plugin, error) {
	t.Helper()
	m := wasm.Module{Name: "merge", Config: json.RawMessage(config)}
	if lang == "assemblyscript" {
		m.Code, _ = plugins.Builtin("merge")
	} else {
		m.Code = module(t, lang, "merge")
	}
	return load(t, wasm.Options{}, m)
}

// side makes a version of an object with a field for every rule, or a delete.
func (w *writer) side(device string) wasm.Version {
	v := wasm.Version{Key: "k", Device: device, DataType: "t", WallNS: w.Int64N(2), Counter: w.Uint64N(2)}
	v.ClockQuality = []wasm.ClockQuality{wasm.ClockSynced, wasm.ClockFloor, wasm.ClockUnknown}[w.IntN(3)]
	if w.IntN(12) == 0 {
		v.Deleted = true
		return v
	}
	var fields []string
	field := func(name, value string) {
		if w.IntN(20) > 0 {
			fields = append(fields, fmt.Sprintf("%q:%s%s", name, w.pick("", " "), value))
		}
	}
	few := func() string { return w.pick("1", "1", "1", "1", "2", "2.50", "-1", "-1", "2", `"x"`) }
	field("n", w.pick("1", "2", "2.5", "0.1", "1e2", "7", "1", "1", `"x"`))
	field("tags", w.pick(`["a"]`, `["a","b"]`, `["b", {"c":1}]`, `[{"c": 1},"a"]`, "[]", "[]", `["a", "a"]`, `["d"]`, "1"))
	field("hi", few())
	field("lo", few())
	field("who", few())
	field("at", few())
	field("hub", few())
	field("open", w.pick("1", "1", "1", "1", "1", "1", "1", "1", "2"))
	field("sub", fmt.Sprintf(`{"n":%s,"\u006d":%s}`, w.pick("1", "1", "2", "3"), w.pick("1", "1", "1", "1", "1", "1", "2")))
	line := func() string {
		return fmt.Sprintf(`{"id":%s,"qty":%s,"x":%s}`, w.pick("1", "2", `"1"`, "3"), w.pick("1", "2", "3"), w.pick("0", "0", "1"))
	}
	field("lines", w.pick("["+line()+"]", "["+line()+"]", "["+line()+"]", "["+line()+", "+line()+"]", "[]", "[]", "[]", `[{"qty":1}]`))
	w.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	v.Body = []byte("{" + strings.Join(fields, ",") + "}")
	return v
}

// TestMergesAgree gives the same conflicts to the merge of every language: edges
// that run different builds of one resolver must not drift apart.
func TestMergesAgree(t *testing.T) {
	w := &writer{Rand: rand.New(rand.NewPCG(3, 14))}
	var in []wasm.Conflict
	for range 2000 {
		c := wasm.Conflict{Local: w.side("a"), Remote: w.side("b")}
		if w.IntN(4) > 0 {
			base := w.side("b")
			c.Base = &base
		}
		in = append(in, c)
	}
	for _, config := range []string{
		`{"fields":{"n":"sum","tags":"union","hi":"max","lo":"min","who":"client","at":"latest","hub":"server","lines":"keyed by id","lines.qty":"sum","lines.x":"server","sub.n":"sum"}}`,
		`{"default":"latest","serve":"client","fields":{"tags":"union","lines":"keyed by id"}}`,
	} {
		var want wasm.ResolveOutput
		for i, lang := range append([]string{"assemblyscript"}, slices.DeleteFunc(sdk.Languages(), func(l string) bool { return l == "assemblyscript" })...) {
			plugin, err := merger(t, lang, config)
			if err != nil {
				t.Fatal(err)
			}
			var out wasm.ResolveOutput
			if err := plugin.Resolve(t.Context(), in, &out); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				want = out
				continue
			}
			for n := range in {
				if diff := cmp.Diff(want.Verdicts[n], out.Verdicts[n]); diff != "" {
					base := "none"
					if in[n].Base != nil {
						base = string(in[n].Base.Body)
					}
					t.Fatalf("%s differs from AssemblyScript:\nbase   %s\nlocal  %s\nremote %s\n%s", lang, base, in[n].Local.Body, in[n].Remote.Body, diff)
				}
			}
		}
		kinds := map[string]int{}
		for _, v := range want.Verdicts {
			kinds[v.Action.String()]++
		}
		if kinds["merged"] < 200 || kinds["manual"] < 200 {
			t.Errorf("the conflicts are too much alike: %v", kinds)
		}
	}
}

func TestMergeConfigurationsAgree(t *testing.T) {
	eachLanguage(t, func(t *testing.T, lang string) {
		for config, want := range map[string]string{
			`{"default":"sum"}`:               `default must be manual, latest, client or server, not "sum"`,
			`{"serve":"both"}`:                `serve must be client or server, not "both"`,
			`{"fields":{"a.b":"add"}}`:        `fields.a.b is "add"; rules are: manual, latest, client, server, max, min, sum, union, keyed by <member>`,
			`{"fields":{"a":"keyed by "}}`:    `fields.a is "keyed by "`,
			`{"fields":["a"]}`:                "fields must be an object with a string for every name",
			`{"fields":{"a":1},"default":""}`: `fields.a must be a string, not 1. default must be a string that is not empty, not ""`,
		} {
			if _, err := merger(t, lang, config); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got  %v\nwant %s", config, err, want)
			}
		}
	})
}
