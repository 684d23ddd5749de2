package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/sdk"
)

// build.sh makes the modules of the other languages, which are committed;
// verify.sh holds them against the sources. Go is always here.
const builtDir = "testdata/modules"

var goSources = map[string]string{
	"counter": "./go/examples/counter", "merge": "./go/internal/merge", "readings": "./go/examples/readings", "vectors": "./go/internal/vectors",
	"fahrenheit": "./go/template/transform", "work_order": "./go/template/resolver",
}

// goModules builds the Go modules, once.
var goModules = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "edged-sdk-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	built := map[string][]byte{}
	for name, source := range goSources {
		out := filepath.Join(dir, name+".wasm")
		cmd := exec.Command("go", "build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, source)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", cmd, err, text)
		}
		if built[name], err = os.ReadFile(out); err != nil {
			return nil, err
		}
	}
	return built, nil
})

// module returns a language's module of that name.
func module(t testing.TB, lang, name string) []byte {
	t.Helper()
	if lang == "go" {
		built, err := goModules()
		if err != nil {
			t.Fatal(err)
		}
		return built[name]
	}
	code, err := os.ReadFile(filepath.Join(builtDir, lang, name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// testdata reads a table.
func testdata(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func eachLanguage(t *testing.T, test func(t *testing.T, lang string)) {
	for _, lang := range sdk.Languages() {
		t.Run(lang, func(t *testing.T) { test(t, lang) })
	}
}

// TestGoldenVectors runs each language's module bare and compares its answers
// byte for byte; that the host reads them right is for engine/wasm to show.
func TestGoldenVectors(t *testing.T) {
	var vectors []struct{ Name, Op string }
	testdata(t, "vectors.json", &vectors)
	eachLanguage(t, func(t *testing.T, lang string) {
		guest := start(t, module(t, lang, "vectors"))
		for _, v := range vectors {
			function := "edged_transform"
			if v.Op == "resolve" {
				function = "edged_resolve"
			}
			t.Run(v.Name, func(t *testing.T) {
				in, err := os.ReadFile(filepath.Join("testdata", v.Name+".call.bin"))
				if err != nil {
					t.Fatal(err)
				}
				want, err := os.ReadFile(filepath.Join("testdata", v.Name+".out.bin"))
				if err != nil {
					t.Fatal(err)
				}
				got, ok := guest.call(t, function, in)
				if !ok || !bytes.Equal(got, want) {
					t.Errorf("the answer differs (-want +got):\n%s", cmp.Diff(want, got))
				}
			})
		}
		for _, none := range []string{"", "EDG1", strings.Repeat("\x00", 32), "EDG1\x02\x00\x01\x00" + strings.Repeat("\x00", 24), "EDG1\x01\x00\x03\x00" + strings.Repeat("\x00", 24)} {
			for _, function := range []string{"edged_transform", "edged_resolve"} {
				if got, ok := guest.call(t, function, []byte(none)); ok {
					t.Errorf("%s answers %q with %q", function, none, got)
				}
			}
		}
	})
}

// guest is a module that runs without our host.
type guest struct {
	call   func(t *testing.T, function string, in []byte) (out []byte, ok bool)
	memory func() uint32
}

// TestMemoryStaysBounded holds that a module which runs for long needs no more
// than one that runs for a while.
func TestMemoryStaysBounded(t *testing.T) {
	call, err := os.ReadFile("testdata/payload.call.bin")
	if err != nil {
		t.Fatal(err)
	}
	conflicts, err := os.ReadFile("testdata/resolve_values.call.bin")
	if err != nil {
		t.Fatal(err)
	}
	eachLanguage(t, func(t *testing.T, lang string) {
		guest := start(t, module(t, lang, "vectors"))
		run := func(times int) uint32 {
			for range times {
				guest.call(t, "edged_transform", call)
				guest.call(t, "edged_resolve", conflicts)
			}
			return guest.memory()
		}
		// Go collects garbage when four megabytes of it are there, more or less.
		before := run(3000)
		if after := run(6000); after > before+before/8 || after > 16<<20 {
			t.Errorf("memory grew from %d to %d bytes", before, after)
		}
	})
}

func start(t *testing.T, code []byte) guest {
	t.Helper()
	ctx := t.Context()
	runtime := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = runtime.Close(context.Background()) })
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	instance, err := runtime.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithStartFunctions("_initialize"))
	if err != nil {
		t.Fatal(err)
	}
	return guest{memory: instance.Memory().Size, call: func(t *testing.T, function string, in []byte) ([]byte, bool) {
		t.Helper()
		at, err := instance.ExportedFunction("edged_alloc").Call(ctx, uint64(len(in)))
		if err != nil {
			t.Fatal(err)
		}
		if at[0] == 0 || at[0]%8 != 0 || !instance.Memory().Write(uint32(at[0]), in) {
			t.Fatalf("the inbox for %d bytes is at %d", len(in), at[0])
		}
		result, err := instance.ExportedFunction(function).Call(ctx, at[0], uint64(len(in)))
		if err != nil {
			t.Fatal(err)
		}
		if result[0] == 0 {
			return nil, false
		}
		out, ok := instance.Memory().Read(uint32(result[0]>>32), uint32(result[0]))
		if !ok {
			t.Fatalf("the outbox is outside memory: %#x", result[0])
		}
		return bytes.Clone(out), true
	}}
}

// compiled keeps machine code: Go modules are large, and loaded often.
var compiled string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edged-sdk-")
	if err != nil {
		panic(err)
	}
	compiled = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// load starts a module in the real host.
func load(t testing.TB, opts wasm.Options, m wasm.Module) (*wasm.Plugin, error) {
	t.Helper()
	opts.CacheDir = compiled
	m.Limits.Time = time.Minute // machines are slow at times, and it is not time that is tested
	host, err := wasm.NewHost(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return host.Load(t.Context(), m)
}

// caller returns the functions of a language's SDK by name, called through the
// host: what a text means for one must mean the same for all.
func caller(t testing.TB, lang string) func(args ...string) string {
	t.Helper()
	plugin, err := load(t, wasm.Options{}, wasm.Module{Name: "vectors", Code: module(t, lang, "vectors")})
	if err != nil {
		t.Fatal(err)
	}
	var out wasm.Output
	return func(args ...string) string {
		t.Helper()
		payload, err := json.Marshal(map[string]any{"do": "call", "args": args})
		if err != nil {
			t.Fatal(err)
		}
		in := []record.Record{{ID: "r", DeviceID: "d", DataType: "t", Timestamp: time.Unix(1, 0), Payload: payload}}
		if err := plugin.Transform(t.Context(), in, time.Time{}, &out); err != nil {
			t.Fatal(err)
		}
		res := out.Results[0]
		if res.Action != wasm.Emit {
			t.Fatalf("%s: %q: %s: %s %v", lang, args, res.Action, res.Reason, res.Fault)
		}
		var answer struct{ Result string }
		if err := json.Unmarshal(res.Records[0].Payload, &answer); err != nil {
			t.Fatalf("%s: %q: %v in %s", lang, args, err, res.Records[0].Payload)
		}
		return answer.Result
	}
}

func TestFunctions(t *testing.T) {
	var rows [][]string
	testdata(t, "functions.json", &rows)
	eachLanguage(t, func(t *testing.T, lang string) {
		call := caller(t, lang)
		for _, row := range rows {
			args, want := row[:len(row)-1], row[len(row)-1]
			if got := call(args...); got != want {
				t.Errorf("%q: got  %s\nwant %s", args, got, want)
			}
		}
		// Cut short anywhere, nothing may trap.
		const long = `{"a":{"b":[1,"x\u00e9\\",true,null]},"c":-1.5e3}`
		for n := range len(long) + 1 {
			for _, what := range []string{"get", "set", "del", "names", "lookup", "string", "number", "members", "fields", "same", "delta"} {
				call(what, long[:n], "a.b.2", "1")
			}
		}
	})
}

// TestPanics holds that a panic costs the record it comes from and no other, and
// that its text reaches the operator. AssemblyScript's throw has none.
func TestPanics(t *testing.T) {
	eachLanguage(t, func(t *testing.T, lang string) {
		plugin, err := load(t, wasm.Options{}, wasm.Module{Name: "vectors", Code: module(t, lang, "vectors")})
		if err != nil {
			t.Fatal(err)
		}
		var in []record.Record
		for i, payload := range []string{`{"do":"pass"}`, `{"do":"panic"}`, `{"do":"pass"}`} {
			in = append(in, record.Record{ID: strconv.Itoa(i), DeviceID: "d", DataType: "t", Timestamp: time.Unix(1, 0), Payload: []byte(payload)})
		}
		var out wasm.Output
		if err := plugin.Transform(t.Context(), in, time.Unix(1, 0), &out); err != nil {
			t.Fatal(err)
		}
		if out.Results[0].Action != wasm.Pass || out.Results[2].Action != wasm.Pass {
			t.Errorf("the records around it: %v", out.Results)
		}
		res := out.Results[1]
		said := res.Reason
		if res.Fault != nil {
			said = res.Fault.Error()
		}
		if lang != "assemblyscript" && !strings.Contains(said, "as it was asked") {
			t.Errorf("it says %s", said)
		}
		if want := map[bool]wasm.Action{true: wasm.Error, false: wasm.Faulted}[lang == "go"]; res.Action != want {
			t.Errorf("it becomes %s, not %s", res.Action, want)
		}
	})
}

// example is an entry of examples.json.
type example struct {
	Example, Doc string
	Config       json.RawMessage
	Refused      string

	Allow        []string
	DeviceConfig map[string]string `json:"device_config"`
	Now          int64             `json:",string"`
	Records      []struct {
		ID, Device, Type, Payload string
		Timestamp                 int64 `json:",string"`
	}
	Frames  []frame
	Logs    []string
	Metrics map[string]float64

	Conflicts []struct {
		// A side that is null is a delete; a base that is not there is unknown.
		Base, Local, Remote *string
	}
	Verdicts []verdict
}

type frame struct {
	Src                               int
	Action, ID, Type, Payload, Reason string
	Code                              uint16
}

type verdict struct {
	Src                     int
	Action, Payload, Reason string
	Code                    uint16
}

func TestExamples(t *testing.T) {
	var examples []example
	testdata(t, "examples.json", &examples)
	eachLanguage(t, func(t *testing.T, lang string) {
		for _, e := range examples {
			t.Run(e.Example+": "+e.Doc, func(t *testing.T) {
				var lines []string
				opts := wasm.Options{Logger: slog.New(keeper{&lines}), Config: func(key string) ([]byte, bool) {
					value, ok := e.DeviceConfig[key]
					return []byte(value), ok
				}}
				plugin, err := load(t, opts, wasm.Module{Name: e.Example, Code: module(t, lang, e.Example), Config: e.Config, Allow: e.Allow})
				if e.Refused != "" {
					if err == nil || !strings.Contains(err.Error(), e.Refused) {
						t.Fatalf("got  %v\nwant %s", err, e.Refused)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(e.Conflicts) > 0 {
					e.resolve(t, plugin)
					return
				}
				e.transform(t, plugin)
				if diff := cmp.Diff(e.Logs, lines); diff != "" {
					t.Errorf("the log differs (-want +got):\n%s", diff)
				}
				if got := plugin.Stats().Metrics; len(got)+len(e.Metrics) > 0 && !cmp.Equal(e.Metrics, got) {
					t.Errorf("the metrics are %v, want %v", got, e.Metrics)
				}
			})
		}
	})
}

func (e *example) transform(t *testing.T, plugin *wasm.Plugin) {
	t.Helper()
	var in []record.Record
	for i, r := range e.Records {
		in = append(in, record.Record{
			ID: r.ID, DeviceID: "device", DataType: "type", Timestamp: time.Unix(0, r.Timestamp), Payload: []byte(r.Payload),
		})
		if r.ID == "" {
			in[i].ID = "r" + strconv.Itoa(i)
		}
		if r.Device != "" {
			in[i].DeviceID = r.Device
		}
	}
	out := wasm.Output{KV: wasm.NewKV(0)}
	if err := plugin.Transform(t.Context(), in, time.Unix(0, e.Now), &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e.results(in), told(out.Results)); diff != "" {
		t.Errorf("the answer differs (-want +got):\n%s", diff)
	}
}

// results says in the words of told what the frames make of the records.
func (e *example) results(in []record.Record) []string {
	var all []string
	parts := map[int]int{}
	for _, f := range e.Frames {
		r := in[f.Src]
		parts[f.Src]++
		switch {
		case f.Action != "emit":
			all = append(all, fmt.Sprintf("%d %s %d: %s", f.Src, f.Action, f.Code, f.Reason))
			continue
		case f.ID != "":
			r.ID = f.ID
		case parts[f.Src] > 1:
			r.ID += "." + strconv.Itoa(parts[f.Src])
		}
		if f.Type != "" {
			r.DataType = f.Type
		}
		if f.Payload != "" {
			r.Payload = []byte(f.Payload)
		}
		all = append(all, emitted(f.Src, &r))
	}
	return all
}

func emitted(src int, r *record.Record) string {
	return fmt.Sprintf("%d emit %s %s %s %s", src, r.ID, r.DeviceID, r.DataType, r.Payload)
}

func told(results []wasm.Result) []string {
	var all []string
	for i, r := range results {
		for n := range r.Records {
			all = append(all, emitted(i, &r.Records[n]))
		}
		if r.Action != wasm.Emit {
			all = append(all, fmt.Sprintf("%d %s %d: %s", i, r.Action, r.Code, r.Reason))
		}
	}
	return all
}

func (e *example) resolve(t *testing.T, plugin *wasm.Plugin) {
	t.Helper()
	if err := plugin.CanResolve(); err != nil {
		t.Fatal(err)
	}
	side := func(body *string) wasm.Version {
		v := wasm.Version{Key: "k", Device: "device", DataType: "type", Deleted: body == nil}
		if body != nil {
			v.Body = []byte(*body)
		}
		return v
	}
	var in []wasm.Conflict
	for _, c := range e.Conflicts {
		conflict := wasm.Conflict{Local: side(c.Local), Remote: side(c.Remote)}
		if c.Base != nil {
			base := side(c.Base)
			conflict.Base = &base
		}
		in = append(in, conflict)
	}
	var out wasm.ResolveOutput
	if err := plugin.Resolve(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	var got []verdict
	for i, v := range out.Verdicts {
		got = append(got, verdict{Src: i, Action: v.Action.String(), Payload: string(v.Payload), Reason: v.Reason, Code: v.Code})
	}
	if diff := cmp.Diff(e.Verdicts, got); diff != "" {
		t.Errorf("the verdicts differ (-want +got):\n%s", diff)
	}
}

// keeper keeps what a guest logs.
type keeper struct{ lines *[]string }

func (keeper) Enabled(context.Context, slog.Level) bool { return true }
func (k keeper) WithAttrs([]slog.Attr) slog.Handler     { return k }
func (k keeper) WithGroup(string) slog.Handler          { return k }

func (k keeper) Handle(_ context.Context, r slog.Record) error {
	*k.lines = append(*k.lines, r.Message)
	return nil
}

// TestModulesAskForWhatTheyUse loads every module but the counter without a
// grant: an SDK's capabilities are imported by those that use them.
func TestModulesAskForWhatTheyUse(t *testing.T) {
	eachLanguage(t, func(t *testing.T, lang string) {
		for name := range goSources {
			if name == "merge" && lang == "assemblyscript" {
				continue // it is among the shipped ones
			}
			_, err := load(t, wasm.Options{}, wasm.Module{Name: name, Code: module(t, lang, name)})
			if refused := err != nil; refused != (name == "counter") {
				t.Errorf("%s: %v", name, err)
			}
		}
		allow := []string{"config", "kv", "log", "metric"}
		if lang != "assemblyscript" { // which has the time of the call without asking
			allow = append(allow, "clock")
		}
		for i := range allow {
			less := slices.Delete(slices.Clone(allow), i, i+1)
			if _, err := load(t, wasm.Options{}, wasm.Module{Name: "counter", Code: module(t, lang, "counter"), Allow: less}); err == nil || !strings.Contains(err.Error(), allow[i]) {
				t.Errorf("without %s: %v", allow[i], err)
			}
		}
	})
}
