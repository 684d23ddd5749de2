package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// bench is one run of the benchmarks.
type bench struct {
	work     string // scratch, absolute
	binary   string // the real edged
	progress io.Writer
	profiles string // where arms leave profiles; empty: none are made
	rounds   int
	data     dataSet
	backlog  dataSet
	sqlite   int           // records of the SQLite peer, whose rate does not depend on it
	micro    int           // records of one transform or rule sample
	settle   time.Duration // before memory is read
}

// workload is one group of measurements.
type workload struct {
	name, what string
	run        func(ctx context.Context, b *bench) (Workload, error)
}

// workloads lists all, in the order they run.
func workloads() []workload {
	return []workload{
		{"ingest", "durable collect and the whole pipeline, against JetStream and SQLite", ingest},
		{"transform", "a Wasm transform against native Go", transforms},
		{"guests", "one transform in the languages of the SDKs, metered and not, beside native Go and Extism", guests},
		{"keyed", "conflicts by strategy against native Go, durable puts and catching up against bare buckets", keyedRecords},
		{"rules", "alert rules against HCL", ruleCost},
		{"start", "from the start of the process to the first stored record", starts},
		{"memory", "resident memory, idle and with a backlog", memory},
		{"drain", "a backlog to a hub, against the bare ledger protocol", drain},
	}
}

// rate measures an arm in records a second.
func (b *bench) rate(ctx context.Context, name string, order armRun) measure {
	return measure{name, "records/s", func() (float64, float64, error) {
		r, err := b.start(ctx, order)
		return r.PerSecond, r.CPUSeconds / float64(order.Records) * 1e6, err
	}}
}

// cost measures an arm in nanoseconds a record (or rule).
func (b *bench) cost(ctx context.Context, name, unit string, order armRun) measure {
	return measure{name, unit, func() (float64, float64, error) {
		r, err := b.start(ctx, order)
		return 1e6 / r.PerSecond, 0, err
	}}
}

func (b *bench) start(ctx context.Context, order armRun) (armResult, error) {
	order.Profile = b.profiles
	return order.start(ctx, b.work)
}

func (b *bench) order(arm string, d dataSet) armRun {
	return armRun{Arm: arm, Data: d.Path, Records: d.Records, Alerts: d.Alerts}
}

func ingest(ctx context.Context, b *bench) (w Workload, err error) {
	few := b.order("sqlite", b.data)
	few.Records = b.sqlite
	w.Series, err = alternate(b.progress, b.rounds, []measure{
		b.rate(ctx, "edged durable collect", b.order("collect", b.data)),
		b.rate(ctx, "raw JetStream atomic batches of 1000", b.order("raw", b.data)),
		b.rate(ctx, "SQLite, one commit a record", few),
		b.rate(ctx, "edged whole pipeline", b.order("pipeline", b.data)),
		b.rate(ctx, "edged durable collect, again", b.order("collect", b.data)),
		b.rate(ctx, "JetStream, 1000 records in one message", b.order("packed", b.data)),
	})
	if err != nil {
		return w, err
	}
	collect, raw, sqlite, pipeline, again := w.Series[0], w.Series[1], w.Series[2], w.Series[3], w.Series[4]
	same := ratio("A/A: durable collect against itself", again, collect, goal{})
	same.Verdict = control
	w.Comparisons = []Comparison{
		ratio("durable collect : raw JetStream atomic batch", collect, raw, goal{floor: 0.5, reach: 0.9}),
		same,
		ratio("durable collect : JetStream, 1000 records in one message", collect, w.Series[5], goal{}),
		ratio("durable collect : SQLite, one commit a record", collect, sqlite, goal{floor: 20, reach: 80}),
		ratio("whole pipeline : durable collect", pipeline, collect, goal{floor: 0.4, reach: 0.8}),
		ratio("whole pipeline : raw JetStream atomic batch", pipeline, raw, goal{}),
	}
	return w, nil
}

func transforms(ctx context.Context, b *bench) (w Workload, err error) {
	order := func(arm string) armRun {
		o := b.order(arm, b.data)
		o.Records = min(o.Records, b.micro)
		return o
	}
	w.Series, err = alternate(b.progress, 2*b.rounds-1, []measure{
		b.cost(ctx, "dew point, Wasm plugin", "µs/record", order("wasm")),
		b.cost(ctx, "dew point, Go with gjson and sjson", "µs/record", order("gjson")),
		b.cost(ctx, "dew point, Go scanning by hand", "µs/record", order("scan")),
	})
	if err != nil {
		return w, err
	}
	w.Comparisons = []Comparison{
		ratio("time of a Wasm transform : Go with gjson/sjson", w.Series[0], w.Series[1], goal{floor: 0.5, reach: 0.25, less: true}),
		ratio("time of a Wasm transform : Go by hand", w.Series[0], w.Series[2], goal{less: true}),
	}
	return w, nil
}

func ruleCost(ctx context.Context, b *bench) (w Workload, err error) {
	data := dataSet{Path: filepath.Join(b.work, "rules.ndjson")}
	if data, err = writeData(data.Path, b.micro); err != nil {
		return w, err
	}
	w.Series, err = alternate(b.progress, 2*b.rounds-1, []measure{
		b.cost(ctx, "alert rule, compiled", "µs/rule", b.order("rules", data)),
		b.cost(ctx, "alert rule, HCL over cty", "µs/rule", b.order("hclrules", data)),
	})
	if err != nil {
		return w, err
	}
	w.Comparisons = []Comparison{
		figure("alert rule on a record", "µs", w.Series[0].Samples, goal{floor: 1, reach: 0.3, less: true}),
		ratio("time of an alert rule : HCL over cty", w.Series[0], w.Series[1], goal{less: true}),
	}
	return w, nil
}

// scratch calls f with a folder of its own.
func (b *bench) scratch(name string, f func(dir string) (float64, error)) (v, _ float64, err error) {
	dir, err := os.MkdirTemp(b.work, name+"-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	v, err = f(dir)
	return v, 0, err
}

func starts(ctx context.Context, b *bench) (w Workload, err error) {
	plain := edgeFile{}
	full := edgeFile{transform: true, rules: true, remote: unreachable, batch: 500}
	once := func(f edgeFile, before int) func() (float64, float64, error) {
		return func() (float64, float64, error) {
			return b.scratch("start", func(dir string) (float64, error) {
				for range before {
					if _, err := measureStart(ctx, b.binary, dir, f); err != nil {
						return 0, err
					}
				}
				took, err := measureStart(ctx, b.binary, dir, f)
				return took.Seconds() * 1e3, err
			})
		}
	}
	w.Series, err = alternate(b.progress, 2*b.rounds+1, []measure{
		{"start, new data directory, collect alone", "ms", once(plain, 0)},
		{"start, new data directory, plugin to compile, rules, remote", "ms", once(full, 0)},
		{"start, the second one of the same", "ms", once(full, 1)},
	})
	if err != nil {
		return w, err
	}
	g := goal{floor: 300, reach: 100, less: true}
	w.Comparisons = []Comparison{
		figure("start to first stored record, collect alone", "ms", w.Series[0].Samples, g),
		figure("start to first stored record, first start with a plugin", "ms", w.Series[1].Samples, g),
		figure("start to first stored record, second start with a plugin", "ms", w.Series[2].Samples, g),
	}
	return w, nil
}

func memory(ctx context.Context, b *bench) (w Workload, err error) {
	const mb = 1e6
	var peaks []float64
	w.Series, err = alternate(b.progress, b.rounds, []measure{
		{"resident memory, idle", "MB", func() (float64, float64, error) {
			return b.scratch("idle", func(dir string) (float64, error) {
				v, err := measureIdle(ctx, b.binary, dir, b.settle)
				return v / mb, err
			})
		}},
		{fmt.Sprintf("resident memory, %d records waiting", b.backlog.Records), "MB", func() (float64, float64, error) {
			return b.scratch("backlog", func(dir string) (float64, error) {
				m, err := measureBacklog(ctx, b.binary, dir, b.backlog, "127.0.0.1:9", b.settle)
				peaks = append(peaks, m.peak/mb)
				return m.settled / mb, err
			})
		}},
	})
	if err != nil {
		return w, err
	}
	w.Series = append(w.Series, Series{Name: "highest resident memory while they came in", Unit: "MB", Samples: peaks, Summary: summarize(peaks)})
	w.Comparisons = []Comparison{
		figure(w.Series[0].Name, "MB", w.Series[0].Samples, goal{floor: 60, reach: 35, less: true}),
		figure(w.Series[1].Name, "MB", w.Series[1].Samples, goal{floor: 120, reach: 60, less: true}),
		figure(w.Series[2].Name, "MB", peaks, goal{less: true}),
	}
	return w, nil
}

func drain(ctx context.Context, b *bench) (w Workload, err error) {
	backlog := filepath.Join(b.work, "backlog")
	if err := os.RemoveAll(backlog); err != nil {
		return w, err
	}
	if err := os.Mkdir(backlog, 0o750); err != nil {
		return w, err
	}
	leaf, err := freeAddress()
	if err != nil {
		return w, err
	}
	if _, err := measureBacklog(ctx, b.binary, backlog, b.backlog, leaf, 0); err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(backlog)) }()
	edge := func() (float64, float64, error) {
		return b.scratch("drain", func(dir string) (float64, error) {
			return measureDrain(ctx, b.binary, dir, leaf, b.backlog.Records, func(failed func(error)) (func() error, error) {
				return drainEdge(b.binary, dir, backlog, b.backlog, leaf, failed)
			})
		})
	}
	raw := func() (float64, float64, error) {
		return b.scratch("ledger", func(dir string) (float64, error) {
			return measureDrain(ctx, b.binary, dir, leaf, b.backlog.Records, func(failed func(error)) (func() error, error) {
				order := b.order("ledger", b.backlog)
				order.Target = leaf
				ended := make(chan error, 1)
				go func() {
					_, err := b.start(ctx, order)
					if err != nil {
						failed(err)
					}
					ended <- err
				}()
				return func() error { return <-ended }, nil
			})
		})
	}
	w.Series, err = alternate(b.progress, 2*b.rounds-1, []measure{
		{fmt.Sprintf("edged drains %d records to a hub", b.backlog.Records), "records/s", edge},
		{"bare ledger push of the same", "records/s", raw},
		{"bare ledger push of the same, again", "records/s", raw},
	})
	if err != nil {
		return w, err
	}
	same := ratio("A/A: bare ledger push against itself", w.Series[2], w.Series[1], goal{})
	same.Verdict = control
	w.Comparisons = []Comparison{
		ratio("backlog drain : bare ledger push", w.Series[0], w.Series[1], goal{floor: 0.7, reach: 0.95}),
		same,
	}
	return w, nil
}

// run measures the workloads named in only, or all.
func (b *bench) run(ctx context.Context, only []string) (all []Workload, err error) {
	for _, w := range workloads() {
		if len(only) > 0 && !slices.Contains(only, w.name) {
			continue
		}
		fmt.Fprintf(b.progress, "%s: %s\n", w.name, w.what)
		result, err := w.run(ctx, b)
		if err != nil {
			return all, fmt.Errorf("workload %s: %w", w.name, err)
		}
		result.Name = w.name
		all = append(all, result)
	}
	return all, nil
}
