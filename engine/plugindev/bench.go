package plugindev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// BenchOptions say what is measured, and for how long.
type BenchOptions struct {
	Module *Module
	// Records or Conflicts is what it is given; one of them is empty.
	Records   []record.Record
	Conflicts []wasm.Conflict
	// Slice is how long a run takes, and Runs how many there are of each arm.
	Slice time.Duration
	Runs  int
}

// Arm is one way to do the work, measured in turns with the others.
type Arm struct {
	Name string `json:"name"`
	// NS is nanoseconds for a record or conflict: the median of the runs, the
	// quickest and the slowest.
	NS      float64 `json:"ns"`
	Fastest float64 `json:"ns_fastest"`
	Slowest float64 `json:"ns_slowest"`
	// PerSecond is how many of them one core does.
	PerSecond float64 `json:"per_second"`
	// Allocations is how many there were on the Go heap for one of them.
	Allocations float64 `json:"allocations"`
}

// Bench is what was measured.
type Bench struct {
	Inputs int `json:"inputs"`
	// InputBytes is the mean size of a payload, or of a conflict's bodies.
	InputBytes int            `json:"input_bytes"`
	Actions    map[string]int `json:"actions"`
	Arms       []Arm          `json:"arms"`
	// Metering is what metering adds to the time of a record, in percent, and
	// Control by how many percent two measurements of the same differ; of the
	// fastest runs each, which other work on the machine has met least.
	Metering float64 `json:"metering_percent"`
	Control  float64 `json:"control_percent"`
	// Fuel is what one record or conflict takes.
	Fuel uint64 `json:"fuel"`
	// LoadCold and LoadCached are the nanoseconds from the file to a plugin that
	// is ready: rewriting, compiling, starting; the second with machine code from
	// the cache. Start is those of one more instance.
	LoadCold   time.Duration `json:"load_cold_ns"`
	LoadCached time.Duration `json:"load_cached_ns"`
	Start      time.Duration `json:"start_ns"`
	// Memory is the linear memory of an instance after the work, in bytes.
	Memory uint32 `json:"memory"`
}

// work is an arm while it runs: it does all inputs once.
type work struct {
	name string
	do   func() error
	runs []float64 // nanoseconds an input
	heap uint64    // allocations of the last run
	done int       // inputs of the last run
}

// Measure runs a module over records or conflicts, beside the same module
// without metering and beside native Go, in turns, so that what else the machine
// does meets all of them alike. A record that is a fault ends it: it would measure
// how instances are replaced.
func Measure(ctx context.Context, opts BenchOptions) (*Bench, error) {
	b := &Bench{Inputs: len(opts.Records) + len(opts.Conflicts), Actions: map[string]int{}}
	if b.Inputs == 0 {
		return nil, errors.New("there is nothing to run the plugin on: no record, no conflict")
	}
	if err := b.lifecycle(ctx, opts.Module); err != nil {
		return nil, err
	}
	err := opts.Module.With(ctx, wasm.Options{Workers: 1}, func(metered *wasm.Plugin) error {
		return opts.Module.With(ctx, wasm.Options{Workers: 1, Unmetered: true}, func(bare *wasm.Plugin) error {
			return b.measure(ctx, &opts, metered, bare)
		})
	})
	return b, err
}

// lifecycle measures what loading costs, without and with machine code in the
// cache.
func (b *Bench) lifecycle(ctx context.Context, m *Module) (err error) {
	dir, err := os.MkdirTemp("", "edged-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, to := range []*time.Duration{&b.LoadCold, &b.LoadCached} {
		host, err := wasm.NewHost(ctx, wasm.Options{CacheDir: dir, Workers: 1})
		if err != nil {
			return err
		}
		start := time.Now()
		_, err = m.Load(ctx, host)
		*to = time.Since(start)
		if err := errors.Join(err, host.Close(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bench) measure(ctx context.Context, opts *BenchOptions, metered, bare *wasm.Plugin) error {
	var arms []*work
	if len(opts.Records) > 0 {
		arms = b.transformArms(ctx, opts, metered, bare)
	} else {
		arms = b.resolveArms(ctx, opts, metered, bare)
	}
	for _, a := range arms { // the first time counts for nothing
		if err := a.do(); err != nil {
			return err
		}
	}
	before := metered.Stats().Fuel
	if err := arms[0].do(); err != nil {
		return err
	}
	b.Fuel = (metered.Stats().Fuel - before) / uint64(b.Inputs)
	for run := range opts.Runs {
		for i := range arms {
			// Every run begins with another arm.
			if err := arms[(i+run)%len(arms)].run(ctx, opts.Slice, b.Inputs); err != nil {
				return err
			}
		}
	}
	for _, a := range arms {
		b.Arms = append(b.Arms, a.arm())
	}
	b.Metering = 100 * (b.Arms[0].Fastest/b.Arms[1].Fastest - 1)
	b.Control = 100 * (b.Arms[2].Fastest/b.Arms[0].Fastest - 1)
	return b.instances(ctx, opts, metered)
}

// instances measures how long one takes to start, and the memory it ends with.
func (b *Bench) instances(ctx context.Context, opts *BenchOptions, p *wasm.Plugin) error {
	var times []time.Duration
	for began := time.Now(); len(times) < 5 || len(times) < 200 && time.Since(began) < opts.Slice; {
		start := time.Now()
		probe, err := p.Probe(ctx)
		times = append(times, time.Since(start))
		if err != nil {
			return err
		}
		if len(times) == 1 {
			if len(opts.Records) > 0 {
				err = probe.Transform(ctx, opts.Records[:min(64, len(opts.Records))], nil, time.Now(), newOutput(p))
			} else {
				err = probe.Resolve(ctx, opts.Conflicts[:min(64, len(opts.Conflicts))], nil, &wasm.ResolveOutput{})
			}
			b.Memory = probe.Memory()
		}
		if err := errors.Join(err, probe.Close(ctx)); err != nil {
			return err
		}
	}
	slices.Sort(times)
	b.Start = times[len(times)/2]
	return nil
}

func newOutput(p *wasm.Plugin) *wasm.Output {
	out := &wasm.Output{}
	if p.KeepsKeys() {
		out.KV = wasm.NewKV(int(p.Limits().KV))
	}
	return out
}

// run does the work again and again for a while and notes what one input took.
func (w *work) run(ctx context.Context, slice time.Duration, inputs int) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, start := 0, time.Now()
	for time.Since(start) < slice || n == 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.do(); err != nil {
			return err
		}
		n++
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	w.runs = append(w.runs, float64(took.Nanoseconds())/float64(n*inputs))
	w.heap, w.done = after.Mallocs-before.Mallocs, n*inputs
	return nil
}

func (w *work) arm() Arm {
	slices.Sort(w.runs)
	median := w.runs[len(w.runs)/2]
	return Arm{
		Name: w.name, NS: median, Fastest: w.runs[0], Slowest: w.runs[len(w.runs)-1],
		PerSecond: 1e9 / median, Allocations: float64(w.heap) / float64(w.done),
	}
}

func (b *Bench) transformArms(ctx context.Context, opts *BenchOptions, metered, bare *wasm.Plugin) []*work {
	bytes, now := 0, time.Now()
	for i := range opts.Records {
		bytes += len(opts.Records[i].Payload)
	}
	b.InputBytes = bytes / len(opts.Records)
	transform := func(name string, p *wasm.Plugin, batch int, count map[string]int) *work {
		out := newOutput(p)
		return &work{name: name, do: func() error {
			clear(count)
			for first := 0; first < len(opts.Records); first += batch {
				in := opts.Records[first:min(first+batch, len(opts.Records))]
				if err := p.Transform(ctx, in, now, out); err != nil {
					return err
				}
				for i := range out.Results {
					if r := &out.Results[i]; r.Fault != nil {
						return fmt.Errorf("record %d (%s): %s; a fault is not measured", first+i+1, in[i].ID, r.Reason)
					} else if count != nil {
						count[r.Action.String()]++
					}
				}
				if out.KV != nil {
					out.KV.Keep()
				}
			}
			return nil
		}}
	}
	return []*work{
		transform("plugin", metered, chunk, b.Actions),
		transform("plugin, not metered", bare, chunk, nil),
		transform("plugin once more, as a control", metered, chunk, nil),
		transform("plugin, one record at a time", metered, 1, nil),
		{name: "native Go: check the payload and copy it", do: func() error { return copyPayloads(opts.Records) }},
		{name: "native Go: encoding/json to a map and back", do: func() error { return decodePayloads(opts.Records) }},
	}
}

// copyPayloads is the least that any transform in Go would do.
func copyPayloads(records []record.Record) error {
	var buf []byte
	for i := range records {
		if err := record.ValidObject(records[i].Payload); err != nil {
			return err
		}
		buf = append(buf[:0], records[i].Payload...)
	}
	return nil
}

// decodePayloads is how most transforms in Go begin and end.
func decodePayloads(records []record.Record) error {
	for i := range records {
		var payload map[string]any
		dec := json.NewDecoder(bytes.NewReader(records[i].Payload))
		dec.UseNumber()
		if err := dec.Decode(&payload); err != nil {
			return err
		}
		if _, err := json.Marshal(payload); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bench) resolveArms(ctx context.Context, opts *BenchOptions, metered, bare *wasm.Plugin) []*work {
	bytes := 0
	for i := range opts.Conflicts {
		c := &opts.Conflicts[i]
		bytes += len(c.Local.Body) + len(c.Remote.Body)
		if c.Base != nil {
			bytes += len(c.Base.Body)
		}
	}
	b.InputBytes = bytes / len(opts.Conflicts)
	resolve := func(name string, p *wasm.Plugin, batch int, count map[string]int) *work {
		var out wasm.ResolveOutput
		return &work{name: name, do: func() error {
			clear(count)
			for first := 0; first < len(opts.Conflicts); first += batch {
				in := opts.Conflicts[first:min(first+batch, len(opts.Conflicts))]
				if err := p.Resolve(ctx, in, &out); err != nil {
					return err
				}
				for i := range out.Verdicts {
					if v := &out.Verdicts[i]; v.Fault != nil {
						return fmt.Errorf("conflict %d: %s; a fault is not measured", first+i+1, v.Reason)
					} else if count != nil {
						count[v.Action.String()]++
					}
				}
			}
			return nil
		}}
	}
	return []*work{
		resolve("plugin", metered, chunk, b.Actions),
		resolve("plugin, not metered", bare, chunk, nil),
		resolve("plugin once more, as a control", metered, chunk, nil),
		resolve("plugin, one conflict at a time", metered, 1, nil),
		{name: "native Go: compare both sides by path", do: func() error {
			for i := range opts.Conflicts {
				c := &opts.Conflicts[i]
				if !c.Local.Deleted && !c.Remote.Deleted {
					Compare("", c.Local.Body, c.Remote.Body)
				}
			}
			return nil
		}},
	}
}

// SampleRecords returns n records of about 250 bytes with eleven members, for
// those who bring none.
func SampleRecords(n int) []record.Record {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{
			ID: fmt.Sprintf("edge-001-%08d", i), DeviceID: fmt.Sprintf("edge-%03d", i%10), DataType: "sensor_reading", Timestamp: at.Add(time.Duration(i) * time.Second),
			Payload: fmt.Appendf(nil, `{"reading":%d,"mote_id":3,"indoor":true,"site":"greenhouse-7","firmware":"2.14.0-rc1","battery_mv":3012,"rssi":-71,"humidity":%.2f,"temperature":%.2f,"location":{"lat":52.520008,"lon":13.404954,"alt":34.5},"tags":["a","b"]}`,
				i, 42+float64(i%5000)/100, 20+float64(i%2500)/100),
		}
	}
	return records
}

// SampleConflicts returns n conflicts in which either side changed a member of
// its own, for those who bring none.
func SampleConflicts(n int) []wasm.Conflict {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	conflicts := make([]wasm.Conflict, n)
	for i := range conflicts {
		version := func(device string, age int64, low, high int) wasm.Version {
			return wasm.Version{
				Key: fmt.Sprintf("setpoint/%d", i), Device: device, DataType: "setpoint", WallNS: at + age, Revision: 1,
				Body: fmt.Appendf(nil, `{"low":%d,"high":%d,"unit":"degC","site":"greenhouse-7","notes":["checked"],"limits":{"min":-20,"max":40}}`, low, high),
			}
		}
		base := version("hub", 0, i, i+10)
		conflicts[i] = wasm.Conflict{Base: &base, Local: version("edge-001", 2, i+1, i+10), Remote: version("hub", 1, i, i+11)}
	}
	return conflicts
}
