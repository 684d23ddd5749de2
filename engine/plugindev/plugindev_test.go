package plugindev_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

func builtin(t *testing.T, name, config string) *plugindev.Module {
	t.Helper()
	code, ok := plugins.Builtin(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	m := &plugindev.Module{Name: name, Code: code}
	if config != "" {
		m.Config = json.RawMessage(config)
	}
	return m
}

var at = time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)

func records(payloads ...string) []record.Record {
	var out []record.Record
	for i, p := range payloads {
		out = append(out, record.Record{ID: fmt.Sprint("r", i+1), DeviceID: "d", DataType: "t", Timestamp: at, Payload: []byte(p)})
	}
	return out
}

var silent = slog.New(slog.DiscardHandler)

// TestTransform holds that outcomes come in order, over more than one chunk, with
// keys that are kept from one to the next.
func TestTransform(t *testing.T) {
	in := make([]string, 1200)
	for i := range in {
		in[i] = `{"t":1}`
	}
	in[1100] = `{"t":9}`
	var kept []int
	sum, err := plugindev.Transform(t.Context(), builtin(t, "deadband", `{"fields":{"t":"0.5"}}`), records(in...), at, silent, func(o *plugindev.Outcome) error {
		if o.Action != "drop" {
			kept = append(kept, o.Number)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 1101, 1102}, kept); diff != "" {
		t.Error(diff)
	}
	if sum.Inputs != 1200 || sum.Outputs != 3 || sum.Actions["drop"] != 1197 || sum.Faults != 0 || sum.FuelPerInput == 0 {
		t.Errorf("summary %+v", sum)
	}
	stop := errors.New("stop")
	_, err = plugindev.Transform(t.Context(), builtin(t, "flatten", ""), records("{}"), at, silent, func(*plugindev.Outcome) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("an error of visit came out as %v", err)
	}
	if _, err = plugindev.Transform(t.Context(), builtin(t, "merge", ""), records("{}"), at, silent, nil); err == nil || !strings.Contains(err.Error(), "is no transform") {
		t.Errorf("a resolver as a transform: %v", err)
	}
}

// TestEveryRecordIsTried holds that a plugin does not rest in a test: each of many
// faults is shown.
func TestEveryRecordIsTried(t *testing.T) {
	m := builtin(t, "flatten", "")
	payloads := make([]string, 30)
	for i := range payloads {
		payloads[i] = `{"a":{"b":1}}`
	}
	m.Limits.RecordOutput = 3
	sum, err := plugindev.Transform(t.Context(), m, records(payloads...), at, silent, func(o *plugindev.Outcome) error {
		if o.Fault == nil || o.Fault.Kind != wasm.FaultOutput || o.Reason != "" {
			t.Errorf("record %d: %s %+v %q", o.Number, o.Action, o.Fault, o.Reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Faults != len(payloads) {
		t.Errorf("%d faults, want %d", sum.Faults, len(payloads))
	}
}

func TestResolve(t *testing.T) {
	conflicts, err := plugindev.ParseConflicts([]byte(`
{"key":"k1","base":{"a":1,"b":1},"local":{"a":2,"b":1},"remote":{"a":1,"b":2}}
{"base":{"a":1},"local":{"a":2},"remote":{"deleted":true}}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	sum, err := plugindev.Resolve(t.Context(), builtin(t, "merge", ""), conflicts, silent, func(o *plugindev.Outcome) error {
		got = append(got, fmt.Sprint(o.Number, " ", o.ID, " ", o.Action, " ", string(o.Body), o.Reason))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`1 k1 merged {"a":2,"b":2}`, "2 key manual deleted on one side and changed on the other"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if sum.Inputs != 2 || sum.Outputs != 1 {
		t.Errorf("summary %+v", sum)
	}
}

func TestParseConflictsErrors(t *testing.T) {
	for line, want := range map[string]string{
		`{"local":1}`:                                         `"local" and "remote" are both needed`,
		`{"local":1,"remote":2,"theirs":3}`:                   `unknown member "theirs"`,
		`{"local":{"deleted":false},"remote":2}`:              `either a "body"`,
		`{"local":{"body":1,"clock":"?"},"remote":2}`:         "synced, floor or unknown",
		`{"local":1,"remote":2,"base":{"body":1,"device":3}}`: "base: ",
		`[`: "not valid JSON",
	} {
		if _, err := plugindev.ParseConflicts([]byte("\n" + line)); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%s: %v, want %q in it", line, err, want)
		}
	}
}

// TestConflictRoundTrip holds that what is written is read back, to the byte.
func TestConflictRoundTrip(t *testing.T) {
	base := wasm.Version{Key: "k ü", Device: "b", DataType: "t", WallNS: 1, Body: []byte(`{"n":1e400,"s":"<&\ud83d"}`)}
	want := wasm.Conflict{
		Base: &base, Local: wasm.Version{Key: "k ü", Device: "l", DataType: "t", WallNS: 1783, Counter: 7, ClockQuality: wasm.ClockFloor, Deleted: true},
		Remote: wasm.Version{Key: "k ü", Device: "r", DataType: "t", WallNS: -5, Revision: 9, ClockQuality: wasm.ClockUnknown, Body: []byte("[1, 2]")},
	}
	got, err := plugindev.ParseConflicts(plugindev.AppendConflict(nil, &want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]wasm.Conflict{want}, got); diff != "" {
		t.Error(diff)
	}
}

func TestExpected(t *testing.T) {
	in := records(`{"temperature":20,"humidity":50}`, `{"temperature":20,"humidity":0}`)
	run := func(expected string) (out []string) {
		e, err := plugindev.ParseExpected([]byte(expected))
		if err != nil {
			return []string{err.Error()}
		}
		_, err = plugindev.Transform(t.Context(), builtin(t, "dew_point", ""), in, at, silent, func(o *plugindev.Outcome) error {
			for _, c := range e.Check(o) {
				out = append(out, fmt.Sprintf("%d %s: %s, not %s", o.Number, c.Path, c.After, c.Before))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range e.Missing() {
			out = append(out, c.Path+": "+c.Before)
		}
		return out
	}
	var golden []byte
	if _, err := plugindev.Transform(t.Context(), builtin(t, "dew_point", ""), in, at, silent, func(o *plugindev.Outcome) error {
		golden = plugindev.AppendExpected(golden, o)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		expected string
		want     []string
	}{
		"what it wrote":     {string(golden), nil},
		"part of it":        {`{"action":"emit","records":[{"payload":{"dew_point":9.26,"humidity":50,"temperature":20}}]}` + "\n" + `{"action":"error"}`, nil},
		"records":           {`{"id":"r1","payload":{"humidity":50,"temperature":20,"dew_point":9.26}}`, nil},
		"another value":     {string(bytes.ReplaceAll(golden, []byte("9.26"), []byte("9.3"))), []string{"1 records.0.payload.dew_point: 9.26, not 9.3"}},
		"another action":    {`{"action":"drop"}` + "\n" + `{"action":"error"}`, []string{`1 action: "emit", not "drop"`}},
		"too few":           {`{"action":"emit"}`, []string{"2 action: error, not "}},
		"too many":          {string(golden) + `{"action":"pass"}`, []string{`line 3: {"action":"pass"}`}},
		"too many records":  {`{"id":"r1"}` + "\n" + `{"id":"r2"}`, []string{`line 2: {"id":"r2"}`}},
		"both kinds":        {`{"action":"emit"}` + "\n" + `{"id":"r1"}`, []string{`line 2: some lines have an "action" and others have none`}},
		"a misspelled name": {`{"action":"emit","recods":[]}`, []string{`line 1: unknown member "recods"`}},
		"nothing":           {"\n", []string{"nothing is expected: there is no line"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, run(c.expected)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInspect(t *testing.T) {
	m := builtin(t, "deadband", "")
	r, err := plugindev.Inspect(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if r.Description == nil || r.Description.Name != "deadband" || len(r.Problems) > 0 || r.Memory.Started == 0 || r.MeteredBytes <= r.Bytes {
		t.Errorf("report %+v", r)
	}
	if diff := cmp.Diff([]string{"kv"}, r.Capabilities); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(r.ConfigError, "fields must name") {
		t.Errorf("its answer to no config is %q", r.ConfigError)
	}
	// What is cut off in the code section still tells what it imports.
	m.Code = m.Code[:len(m.Code)-6000]
	if r, err = plugindev.Inspect(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "ends too early") || len(r.Imports) != 2 || r.Imports[0].Capability != "kv" {
		t.Errorf("report %+v", r)
	}
	m = builtin(t, "deadband", "")
	m.Allow = []string{"log"}
	if r, err = plugindev.Inspect(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) != 2 || !strings.Contains(r.Problems[0], `the capability "kv" that it was not granted`) {
		t.Errorf("problems %q", r.Problems)
	}
}

func TestMeasure(t *testing.T) {
	for _, opts := range []plugindev.BenchOptions{
		{Module: builtin(t, "dew_point", ""), Records: plugindev.SampleRecords(50), Slice: time.Millisecond, Runs: 3},
		{Module: builtin(t, "merge", ""), Conflicts: plugindev.SampleConflicts(20), Slice: time.Millisecond, Runs: 3},
	} {
		b, err := plugindev.Measure(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if b.Fuel == 0 || b.LoadCold <= b.LoadCached || b.Start == 0 || b.Memory == 0 || b.Actions["emit"]+b.Actions["merged"] != b.Inputs {
			t.Errorf("%s: %+v", opts.Module.Name, b)
		}
		for _, a := range b.Arms {
			if a.NS <= 0 || a.Fastest > a.NS || a.Slowest < a.NS {
				t.Errorf("arm %+v", a)
			}
		}
	}
	m := builtin(t, "flatten", "")
	m.Limits.RecordOutput = 3
	if _, err := plugindev.Measure(t.Context(), plugindev.BenchOptions{Module: m, Records: plugindev.SampleRecords(5), Runs: 1}); err == nil || !strings.Contains(err.Error(), "a fault is not measured") {
		t.Errorf("measuring faults: %v", err)
	}
}
