package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	extism "github.com/extism/go-sdk"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	edged "github.com/edged/edged/sdk/go"
)

// guestPayload has 252 bytes and 11 members. Every guest and peer adds the
// temperature in Fahrenheit to it.
const guestPayload = `{"sensor_id":"boiler-room-supply-07","site":"plant-03","line":4,"temperature":71.25,` +
	`"humidity":40.5,"pressure":1013.25,"status":"ok","battery":{"level":0.87,"charging":false},` +
	`"firmware":"2.14.3","sequence":184467,"note":"calibrated 2026-10-01 by KJ 2"}`

const guestAnswer = `"fahrenheit":160.25`

// language is one way to write a plugin.
type language struct {
	name, module string // module: below the project, or empty: built here
	metering     goal
}

// languages are those of the SDKs.
func languages() []language {
	near, far := goal{floor: 1.15, reach: 1.08, less: true}, goal{floor: 1.30, reach: 1.15, less: true}
	return []language{
		{"C", "sdk/testdata/modules/c/fahrenheit.wasm", near},
		{"AssemblyScript", "sdk/testdata/modules/assemblyscript/fahrenheit.wasm", near},
		{"Rust", "sdk/testdata/modules/rust/fahrenheit.wasm", goal{less: true}},
		{"Go", "", far},
	}
}

const extismModule = "benchmarks/guests/extism/fahrenheit.wasm"

// guestSlice is how long one run of a guest takes, and guestRuns how many there
// are of each: short and many, so that what else the machine does meets all alike.
const (
	guestSlice = 15 * time.Millisecond
	guestRuns  = 60
)

// guests measures the same transform in every language of the SDKs, metered and
// not; and beside native Go, and as a guest of the Extism ABI in our host and in
// Extism's.
func guests(ctx context.Context, b *bench) (w Workload, err error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return w, err
	}
	for _, l := range languages() {
		code, err := l.code(ctx, root, b.work)
		if err != nil {
			return w, err
		}
		if err := w.addLanguage(ctx, b, l, code); err != nil {
			return w, fmt.Errorf("%s: %w", l.name, err)
		}
	}
	order := func(arm string) armRun {
		return armRun{Arm: arm, Data: filepath.Join(root, filepath.FromSlash(extismModule)), Records: max(b.micro/4, 1)}
	}
	series, err := alternate(b.progress, 2*b.rounds-1, []measure{
		b.cost(ctx, "fahrenheit, AssemblyScript, Extism ABI, our host", "µs/record", order("extismours")),
		b.cost(ctx, "fahrenheit, AssemblyScript, Extism ABI, Extism Go SDK", "µs/record", order("extism")),
		b.cost(ctx, "fahrenheit, Go with our scanner", "µs/record", order("gofields")),
		b.cost(ctx, "fahrenheit, Go with gjson and sjson", "µs/record", order("gogjson")),
		b.cost(ctx, "fahrenheit, Go with encoding/json", "µs/record", order("gojson")),
	})
	if err != nil {
		return w, err
	}
	w.Series = append(w.Series, series...)
	w.Comparisons = append(w.Comparisons,
		ratio("time of an Extism guest: our host : Extism Go SDK", series[0], series[1], goal{less: true}),
		ratio("time of Go: gjson/sjson : our scanner", series[3], series[2], goal{}),
		ratio("time of Go: encoding/json : our scanner", series[4], series[2], goal{}),
	)
	return w, nil
}

// code returns the language's module.
func (l *language) code(ctx context.Context, root, work string) ([]byte, error) {
	if l.module != "" {
		return os.ReadFile(filepath.Join(root, filepath.FromSlash(l.module)))
	}
	path := filepath.Join(work, "fahrenheit.wasm")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w", "-o", path, "./sdk/go/template/transform")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the Go guest: %w\n%s", err, out)
	}
	return os.ReadFile(path)
}

// addLanguage measures one language in this process: what is metered and what is
// not take turns in it.
func (w *Workload) addLanguage(ctx context.Context, b *bench, l language, code []byte) error {
	names := []string{"µs/record", "µs/record, not metered", "fuel/record", "module KB", "load ms, cold", "load ms, cached", "start µs", "memory MB"}
	samples := make([][]float64, len(names))
	var metering []float64
	records := guestRecords(64)
	for round := range 2*b.rounds - 1 {
		found, err := plugindev.Measure(ctx, plugindev.BenchOptions{
			Module: &plugindev.Module{Name: "fahrenheit", Code: code}, Records: records, Slice: b.guestSlice(), Runs: b.guestRuns(),
		})
		if err != nil {
			return err
		}
		if found.Actions["emit"] != len(records) {
			return fmt.Errorf("of %d records it emitted %d", len(records), found.Actions["emit"])
		}
		ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
		for i, v := range []float64{
			found.Arms[0].NS / 1e3, found.Arms[1].NS / 1e3, float64(found.Fuel), float64(len(code)) / 1e3,
			ms(found.LoadCold), ms(found.LoadCached), ms(found.Start) * 1e3, float64(found.Memory) / 1e6,
		} {
			samples[i] = append(samples[i], v)
		}
		metering = append(metering, found.Arms[0].Fastest/found.Arms[1].Fastest)
		fmt.Fprintf(b.progress, "  %d/%d %-40s %s µs/record\n", round+1, 2*b.rounds-1, "fahrenheit, "+l.name, digits(found.Arms[0].NS/1e3))
	}
	for i, unit := range names {
		w.Series = append(w.Series, Series{Name: "fahrenheit, " + l.name, Unit: unit, Samples: samples[i], Summary: summarize(samples[i])})
	}
	w.Comparisons = append(w.Comparisons, figure("time of a guest: metered : not metered, "+l.name, "x", metering, l.metering))
	return nil
}

func (b *bench) guestSlice() time.Duration {
	if b.settle == 0 { // a smoke run
		return 5 * time.Millisecond
	}
	return guestSlice
}

func (b *bench) guestRuns() int {
	if b.settle == 0 {
		return 3
	}
	return guestRuns
}

func guestRecords(n int) []record.Record {
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{
			ID: "r" + strconv.Itoa(i), DeviceID: "edge-001", DataType: "reading", Timestamp: firstReading, Payload: []byte(guestPayload),
		}
	}
	return records
}

// payloadArm measures a function of a payload.
func payloadArm(open func(ctx context.Context, a *armRun) (transform func(payload []byte) ([]byte, error), closeAll func() error, err error)) func(context.Context, *armRun) (time.Duration, error) {
	return func(ctx context.Context, a *armRun) (took time.Duration, err error) {
		transform, closeAll, err := open(ctx, a)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, closeAll()) }()
		payload := []byte(guestPayload)
		pass := func(n int) error {
			for range n {
				out, err := transform(payload)
				if err != nil {
					return err
				}
				if n := len(out); n < len(guestPayload)+len(guestAnswer) {
					return fmt.Errorf("it made %s", out)
				}
			}
			return nil
		}
		out, err := transform(payload)
		if err != nil {
			return 0, err
		}
		if f := gjson.GetBytes(out, "fahrenheit"); f.Num != 160.25 || gjson.GetBytes(out, "note").Str == "" {
			return 0, fmt.Errorf("it made %s", out)
		}
		if err := pass(a.Records / 10); err != nil { // warm up
			return 0, err
		}
		start := time.Now()
		err = pass(a.Records)
		return time.Since(start), err
	}
}

func nothing() error { return nil }

// openExtism runs the guest in Extism's own host.
func openExtism(ctx context.Context, a *armRun) (func([]byte) ([]byte, error), func() error, error) {
	code, err := os.ReadFile(a.Data)
	if err != nil {
		return nil, nil, err
	}
	p, err := extism.NewPlugin(ctx, extism.Manifest{Wasm: []extism.Wasm{extism.WasmData{Data: code}}}, extism.PluginConfig{}, nil)
	if err != nil {
		return nil, nil, err
	}
	return func(payload []byte) ([]byte, error) {
		code, out, err := p.Call("transform", payload)
		if err == nil && code != 0 {
			err = fmt.Errorf("the guest returned %d: %s", code, p.GetError())
		}
		return out, err
	}, func() error { return p.Close(ctx) }, nil
}

// openExtismHere runs it in ours, metered and limited, a record at a time.
func openExtismHere(ctx context.Context, a *armRun) (func([]byte) ([]byte, error), func() error, error) {
	code, err := os.ReadFile(a.Data)
	if err != nil {
		return nil, nil, err
	}
	host, err := wasm.NewHost(ctx, wasm.Options{Workers: 1})
	if err != nil {
		return nil, nil, err
	}
	p, err := host.Load(ctx, wasm.Module{Name: "fahrenheit", Code: code})
	if err != nil {
		return nil, nil, errors.Join(err, host.Close(ctx))
	}
	in := guestRecords(1)
	var out wasm.Output
	return func(payload []byte) ([]byte, error) {
		in[0].Payload = payload
		if err := p.Transform(ctx, in, firstReading, &out); err != nil {
			return nil, err
		}
		if r := &out.Results[0]; r.Action != wasm.Emit {
			return nil, fmt.Errorf("%v: %s", r.Action, r.Reason)
		}
		return out.Results[0].Records[0].Payload, nil
	}, func() error { return host.Close(ctx) }, nil
}

// openFields is the transform with the Go SDK's scanner, without a sandbox.
func openFields(context.Context, *armRun) (func([]byte) ([]byte, error), func() error, error) {
	return func(payload []byte) ([]byte, error) {
		celsius := edged.AsFloat(edged.Get(payload, "temperature"))
		if math.IsNaN(celsius) {
			return nil, errors.New("no temperature")
		}
		return edged.Set(payload, "fahrenheit", edged.Fixed(celsius*1.8+32, 2)), nil
	}, nothing, nil
}

func openGjson(context.Context, *armRun) (func([]byte) ([]byte, error), func() error, error) {
	return func(payload []byte) ([]byte, error) {
		celsius := gjson.GetBytes(payload, "temperature")
		if celsius.Type != gjson.Number {
			return nil, errors.New("no temperature")
		}
		return sjson.SetBytes(payload, "fahrenheit", round2(celsius.Num*1.8+32))
	}, nothing, nil
}

func openJSON(context.Context, *armRun) (func([]byte) ([]byte, error), func() error, error) {
	return func(payload []byte) ([]byte, error) {
		var m map[string]any
		if err := json.Unmarshal(payload, &m); err != nil {
			return nil, err
		}
		celsius, ok := m["temperature"].(float64)
		if !ok {
			return nil, errors.New("no temperature")
		}
		m["fahrenheit"] = round2(celsius*1.8 + 32)
		return json.Marshal(m)
	}, nothing, nil
}
