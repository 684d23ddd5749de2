package wasm

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/record"
)

// extismGuests are the same plugin, built by the Extism PDKs for AssemblyScript
// (committed) and for Go (built here).
func extismGuests(t *testing.T) map[string][]byte {
	t.Helper()
	dir := filepath.Join("testdata", "extism")
	small, err := os.ReadFile(filepath.Join(dir, "assemblyscript", "guest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "guest.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s", "-o", path, ".")
	build.Dir = filepath.Join(dir, "go")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	large, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"AssemblyScript": small, "Go": large}
}

// extismHost compiles each guest once for all of its functions.
func extismHost(t *testing.T, log io.Writer) *Host {
	t.Helper()
	h, err := NewHost(t.Context(), Options{CacheDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Errorf("closing the host: %v", err)
		}
	})
	return h
}

// extismModule is how the guests are loaded for one of their functions.
func extismModule(code []byte, function string) Module {
	return Module{
		Code: code, Allow: []string{CapabilityKV, CapabilityLog}, Config: []byte(`{"unit":"°C","n":[1]}`),
		Extism: &Extism{Function: function}, Limits: Limits{Time: 10 * time.Second, Memory: 32 << 20},
	}
}

func TestExtism(t *testing.T) {
	const payload = `{"temperature":21.5,"place":"Zürich"}`
	src := testRecord("r1")
	src.Payload = []byte(payload)
	renamed := src
	renamed.ID = "x-r1"
	with := func(payloads ...string) []record.Record {
		var out []record.Record
		for i, p := range payloads {
			r := src
			if r.Payload = []byte(p); i > 0 {
				r.ID += ".2"
			}
			out = append(out, r)
		}
		return out
	}
	type answer struct {
		Action  Action
		Records []record.Record
		Code    uint16
		Reason  string
	}
	cases := []struct {
		function string
		input    ExtismInput
		want     answer
	}{
		{"transform", "", answer{Action: Emit, Records: with(`{"input":` + payload + `,"unit":"°C"}`)}},
		{"split", "", answer{Action: Emit, Records: with(`{"n":1}`, `{"n":2}`)}},
		{"nothing", "", answer{Action: Drop, Reason: "nothing returned nothing"}},
		{"refuse", "", answer{Action: Error, Code: 3, Reason: "not " + payload}},
		{"whole", ExtismRecord, answer{Action: Emit, Records: []record.Record{renamed}}},
	}
	var log bytes.Buffer
	h := extismHost(t, &log)
	for language, code := range extismGuests(t) {
		for _, c := range cases {
			t.Run(language+"/"+c.function, func(t *testing.T) {
				m := extismModule(code, c.function)
				m.Extism.Input = c.input
				p := load(t, h, m)
				out := Output{KV: NewKV(0)}
				if err := p.Transform(t.Context(), []record.Record{src, src}, testTime, &out); err != nil {
					t.Fatal(err)
				}
				for i := range out.Results {
					r := &out.Results[i]
					got := answer{r.Action, r.Records, r.Code, r.Reason}
					if diff := cmp.Diff(c.want, got); diff != "" {
						t.Errorf("record %d (-want +got):\n%s", i, diff)
					}
				}
			})
		}
		t.Run(language+"/vars", func(t *testing.T) { testExtismVars(t, h, code) })
		t.Run(language+"/faults", func(t *testing.T) { testExtismFaults(t, h, code, &log) })
	}
}

// testExtismVars holds that variables are keys: they last from call to call, and
// what is undone is gone.
func testExtismVars(t *testing.T, h *Host, code []byte) {
	p := load(t, h, extismModule(code, "count"))
	out := Output{KV: NewKV(0)}
	total := func(records int) string {
		t.Helper()
		if err := p.Transform(t.Context(), testRecords([]string{"a", "b", "c"}[:records]...), testTime, &out); err != nil {
			t.Fatal(err)
		}
		last := out.Results[records-1]
		if last.Action != Emit {
			t.Fatalf("%v %s", last.Action, last.Reason)
		}
		return string(last.Records[0].Payload)
	}
	if got := total(3); got != `{"total":21}` {
		t.Errorf("%s, want 3 times 7", got)
	}
	out.KV.Keep()
	total(2)
	out.KV.Undo()
	if got := total(1); got != `{"total":28}` {
		t.Errorf("%s after Undo, want 4 times 7", got)
	}
	out.KV = nil
	if err := p.Transform(t.Context(), testRecords("a"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if r := out.Results[0]; r.Action != Faulted || !strings.Contains(r.Reason, "keeps no keys") {
		t.Errorf("without keys: %v %s", r.Action, r.Reason)
	}
}

// testExtismFaults holds that what a guest says of its failure is told, that it
// may log, and that it has no network.
func testExtismFaults(t *testing.T, h *Host, code []byte, log *bytes.Buffer) {
	one := func(function string) *Result {
		t.Helper()
		var out Output
		if err := load(t, h, extismModule(code, function)).Transform(t.Context(), testRecords("a"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		return &out.Results[0]
	}
	log.Reset()
	if r := one("say"); r.Action != Emit || !strings.Contains(log.String(), `level=WARN msg="a warning"`) {
		t.Errorf("%v %s; it logged %s", r.Action, r.Reason, log)
	}
	if r := one("panics"); r.Action != Faulted || r.Fault.Kind != FaultTrap || !strings.Contains(r.Reason, "it went wrong") {
		t.Errorf("%v %s", r.Action, r.Reason)
	}
	if r := one("fetch"); r.Action != Faulted || !strings.Contains(r.Reason, "no network") {
		t.Errorf("%v %s", r.Action, r.Reason)
	}
}

// extismGuest imports what the code of its function calls by number: 0 alloc, 1
// load_u64, 2 store_u64, 3 output_set, 4 load_u8, 5 length, 6 free, 7 error_set.
func extismGuest(code ...[]byte) []byte {
	g := newGuest()
	g.importFunc(moduleExtism, "alloc", []byte{tI64}, []byte{tI64})
	g.importFunc(moduleExtism, "load_u64", []byte{tI64}, []byte{tI64})
	g.importFunc(moduleExtism, "store_u64", []byte{tI64, tI64}, nil)
	g.importFunc(moduleExtism, "output_set", []byte{tI64, tI64}, nil)
	g.importFunc(moduleExtism, "input_load_u8", []byte{tI64}, []byte{tI32})
	g.importFunc(moduleExtism, "length", []byte{tI64}, []byte{tI64})
	g.importFunc(moduleExtism, "free", []byte{tI64}, nil)
	g.importFunc(moduleExtism, "error_set", []byte{tI64}, nil)
	g.fn(DefaultExtismFunction, nil, []byte{tI32}, 0, 0, append(code, iconst(0))...)
	return g.build()
}

// TestExtismEvil holds that a guest of the Extism ABI is contained like any
// other.
func TestExtismEvil(t *testing.T) {
	h := testHost(t)
	cases := map[string]struct {
		code []byte
		kind FaultKind
	}{
		"reads at 0":              {extismGuest(lconst(0), callf(1), drop), FaultTrap},
		"reads past the end":      {extismGuest(lconst(8), callf(0), callf(1), lconst(1<<20), callf(1), drop, drop), FaultTrap},
		"reads at the end of all": {extismGuest(lconst(-4), callf(1), drop), FaultTrap},
		"writes past the end":     {extismGuest(lconst(1<<40), lconst(7), callf(2)), FaultTrap},
		"writes at the end":       {extismGuest(lconst(-8), lconst(7), callf(2)), FaultTrap},
		"output outside":          {extismGuest(lconst(16), lconst(1<<40), callf(3)), FaultTrap},
		"output around":           {extismGuest(lconst(16), lconst(-1), callf(3)), FaultTrap},
		"output too large":        {extismGuest(lconst(2<<20), callf(0), lconst(2<<20), callf(3)), FaultOutput},
		"output is no JSON":       {extismGuest(lconst(8), callf(0), lconst(8), callf(3)), FaultRecord},
		"input past its end":      {extismGuest(lconst(7), callf(4), drop), FaultTrap},
		"error nowhere":           {extismGuest(lconst(12345), callf(7)), FaultTrap},
		"loops":                   {extismGuest(spin), FaultTime},
		"allocates without end":   {extismGuest(loop(lconst(1<<16), callf(0), drop, br(0))), FaultTime},
		"claims 4 GiB":            {extismGuest(lconst(1<<32), callf(0), callf(1), drop), FaultTrap},
		"frees nothing":           {extismGuest(loop(lconst(77), callf(6), br(0))), FaultTime},
		"unreachable":             {extismGuest(unreachable), FaultTrap},
	}
	for name, c := range cases {
		p := load(t, h, Module{Name: name, Code: c.code, Limits: Limits{Time: 20 * time.Millisecond, Output: 1 << 20}})
		var out Output
		start := time.Now()
		if err := p.Transform(t.Context(), testRecords("a"), testTime, &out); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r := out.Results[0]; r.Action != Faulted || r.Fault.Kind != c.kind {
			t.Errorf("%s: %v %s, want a %s fault", name, r.Action, r.Reason, c.kind)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: contained after %s", name, took)
		}
	}
}

func TestExtismRefusals(t *testing.T) {
	vars := newGuest()
	vars.importFunc(moduleExtism, "var_get", []byte{tI64}, []byte{tI64})
	vars.fn(DefaultExtismFunction, nil, []byte{tI32}, 0, 0, iconst(0))
	params := newGuest()
	params.importFunc(moduleExtism, "input_length", nil, []byte{tI64})
	params.fn(DefaultExtismFunction, []byte{tI32}, []byte{tI32}, 0, 0, iconst(0))
	foreign := newGuest()
	foreign.importFunc(moduleExtism, "input_length", nil, []byte{tI64})
	foreign.importFunc("extism:host/user", "open_door", nil, nil)
	foreign.fn(DefaultExtismFunction, nil, []byte{tI32}, 0, 0, iconst(0))
	h := testHost(t)
	for name, c := range map[string]struct {
		m    Module
		want string
	}{
		"no grant":      {Module{Code: vars.build()}, `var_get, which needs the capability "kv"`},
		"no function":   {Module{Code: extismGuest(), Extism: &Extism{Function: "count"}}, `does not export "count"`},
		"parameters":    {Module{Code: params.build()}, "a function of the Extism ABI is () -> (i32)"},
		"host function": {Module{Code: foreign.build()}, "extism:host/user.open_door, which this host does not have"},
		"no input":      {Module{Code: extismGuest(), Extism: &Extism{Input: "all"}}, "it is payload or record"},
		"our own":       {Module{Code: evilGuest().build(), Extism: &Extism{}}, "which it does not speak"},
	} {
		c.m.Name = name
		if _, err := h.Load(t.Context(), c.m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestExtismMemory compares the memory with a plain model of it.
func TestExtismMemory(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	m := &extismMemory{limit: 1 << 16}
	for range 200 {
		input := make([]byte, random.IntN(100))
		if !m.begin(input) {
			t.Fatal("a small input does not fit")
		}
		model := map[uint64][]byte{}
		for range 300 {
			switch random.IntN(4) {
			case 0:
				size := uint64(random.IntN(2000))
				at := m.alloc(size)
				if size == 0 && at != 0 {
					t.Fatal("an empty block has an address")
				}
				if at == 0 {
					continue
				}
				got, ok := m.at(at, size)
				if !ok || bytes.ContainsFunc(got, func(r rune) bool { return r != 0 }) {
					t.Fatalf("a new block at %d is not all zeros", at)
				}
				for other, content := range model {
					if at < other+uint64(len(content)) && other < at+size {
						t.Fatalf("block %d of %d bytes lies in block %d", at, size, other)
					}
				}
				for i := range got {
					got[i] = byte(random.Uint32())
				}
				model[at] = bytes.Clone(got)
			case 1:
				for at := range model {
					m.release(at)
					delete(model, at)
					break
				}
			case 2:
				m.release(random.Uint64N(1 << 17)) // mostly no block
				for at := range model {
					if m.find(at) == nil {
						delete(model, at)
					}
				}
			default:
				at, n := random.Uint64(), uint64(random.IntN(9))
				if random.IntN(2) == 0 {
					at = random.Uint64N(1 << 17)
				}
				if _, ok := m.at(at, n); ok && (at < extismFirst || at+n > uint64(len(m.bytes))) {
					t.Fatalf("%d bytes at %d were handed out", n, at)
				}
			}
			for at, content := range model {
				if got, ok := m.text(at); !ok || !bytes.Equal(got, content) {
					t.Fatalf("block %d has changed", at)
				}
			}
			if uint64(len(m.bytes)) > m.limit {
				t.Fatalf("%d bytes, the limit is %d", len(m.bytes), m.limit)
			}
		}
	}
}

// BenchmarkExtism measures the way of a record through a module of the Extism
// ABI.
func BenchmarkExtism(b *testing.B) {
	code, err := os.ReadFile(filepath.Join("testdata", "extism", "assemblyscript", "guest.wasm"))
	if err != nil {
		b.Fatal(err)
	}
	p := load(b, testHost(b), extismModule(code, "transform"))
	in := testRecords("a")
	var out Output
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Transform(b.Context(), in, testTime, &out); err != nil {
			b.Fatal(err)
		}
	}
}
