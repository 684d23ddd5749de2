package wasm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestLoadRefuses(t *testing.T) {
	noTransform := newGuest().marker().allocAt(iconst(8))
	importing := func(module, name string, params, results []byte) *guest {
		g := newGuest()
		g.importFunc(module, name, params, results)
		return g.marker().allocAt(iconst(atInbox)).passUnless()
	}
	starting := func(start bool, code ...[]byte) *guest {
		g := evilGuest()
		name := "_initialize"
		if start {
			name = ""
		}
		i := g.fn(name, nil, nil, 0, 0, code...)
		if start {
			g.start = i
		}
		return g
	}
	configure := func(text string) *guest {
		g := evilGuest()
		g.segment(atData, []byte(text))
		g.fn("edged_configure", []byte{tI32, tI32}, []byte{tI64}, 0, 0, answer(atData, uint32(len(text))))
		return g
	}
	describe := func(text string) *guest {
		g := evilGuest()
		g.segment(atData, []byte(text))
		g.fn("edged_describe", nil, []byte{tI64}, 0, 0, answer(atData, uint32(len(text))))
		return g
	}
	big := evilGuest()
	big.pages = 300
	hidden := evilGuest()
	hidden.memory = "other"
	wrong := newGuest().marker()
	wrong.fn("edged_alloc", []byte{tI64}, []byte{tI32}, 0, 0, iconst(8))
	wrong.passUnless()
	for _, c := range []struct {
		name string
		m    Module
		want string
	}{
		{"empty", Module{}, "compiling"},
		{"no wasm", Module{Code: []byte("hello, world")}, "compiling"},
		{"too large", Module{Code: make([]byte, maxModuleBytes+1)}, "at most 16777216"},
		{"other code", Module{Code: evilGuest().build(), SHA256: strings.Repeat("AB", 32)}, "but " + strings.Repeat("ab", 32) + " is pinned"},
		{"no marker", Module{Code: newGuest().allocAt(iconst(8)).passUnless().build()}, "does not export edged_abi_v1"},
		{"no alloc", Module{Code: newGuest().marker().passUnless().build()}, "does not export edged_alloc"},
		{"no transform", Module{Code: noTransform.build()}, "neither edged_transform nor edged_resolve"},
		{"wrong signature", Module{Code: wrong.build()}, "edged_alloc as (i64) -> (i32), but ABI v1 has (i32) -> (i32)"},
		{"no memory", Module{Code: hidden.build()}, "does not export its memory"},
		{"memory over the limit", Module{Code: big.build()}, "needs at least 19660800 bytes of memory, its limit is 16777216"},
		{"unknown module", Module{Code: importing("env", "abort", nil, nil).build()}, "imports env.abort, which this host does not have"},
		{"unknown function", Module{Code: importing("edged_v1", "launch", nil, nil).build()}, "imports edged_v1.launch"},
		{"files", Module{Code: importing("wasi_snapshot_preview1", "path_open", nil, nil).build()}, "imports wasi_snapshot_preview1.path_open"},
		{"not granted", Module{Code: importing("edged_v1", "log", []byte{tI32, tI32, tI32}, nil).build()}, `edged_v1.log, which needs the capability "log"`},
		{"import signature", Module{Code: importing("edged_v1", "log", []byte{tI32}, nil).build(), Allow: []string{"log"}}, "log as (i32) -> (), but that is (i32, i32, i32) -> ()"},
		{"unknown capability", Module{Code: evilGuest().build(), Allow: []string{"root"}}, `capability "root"`},
		{"start spins", Module{Code: starting(true, spin).build()}, "longer"},
		{"start traps", Module{Code: starting(true, unreachable).build()}, "unreachable"},
		{"initialize spins", Module{Code: starting(false, spin).build()}, "longer"},
		{"initialize traps", Module{Code: starting(false, unreachable).build()}, "unreachable"},
		{"config refused", Module{Code: configure("decimals is 99,\nat most 6").build()}, "its config: decimals is 99, at most 6"},
		{"config no object", Module{Code: configure("").build(), Config: json.RawMessage("3")}, "object is expected"},
		{"config not taken", Module{Code: evilGuest().build(), Config: json.RawMessage("{}")}, "takes no config"},
		{"description no JSON", Module{Code: describe("hello").build()}, "edged_describe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := testHost(t)
			c.m.Name = "bad"
			c.m.Limits.Time = 5 * time.Millisecond
			p, err := h.Load(t.Context(), c.m)
			if err == nil {
				t.Fatalf("it was loaded: %+v", p.Description())
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `plugin "bad"`) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestLoadTellsAboutThePlugin(t *testing.T) {
	g := evilGuest()
	about := `{"name":"thing","version":"1.2.3","kinds":["transform"]}`
	g.segment(atData, []byte(about))
	g.fn("edged_describe", nil, []byte{tI64}, 0, 0, answer(atData, uint32(len(about))))
	p := load(t, testHost(t), Module{Name: "mine", Code: g.build()})
	if d := p.Description(); d.Name != "thing" || d.Version != "1.2.3" || p.Name() != "mine" || !p.Transforms() || p.Resolves() {
		t.Errorf("got %+v %s %v %v", d, p.Name(), p.Transforms(), p.Resolves())
	}
	if again := load(t, testHost(t), Module{Code: g.build(), SHA256: strings.ToUpper(p.SHA256())}); again.SHA256() != p.SHA256() {
		t.Errorf("sha256 %s, then %s", p.SHA256(), again.SHA256())
	}
}
