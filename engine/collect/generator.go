package collect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

func generatorSpec() config.Spec {
	args := []config.Arg{
		{Name: "every", Type: config.Duration, Min: "1ms", Doc: "The time from one tick to the next; the first is at the start. Without it count records are made as fast as they can be stored."},
		{Name: "burst", Type: config.Int, Default: "1", Min: "1", Max: "10000", Doc: "With every: how many records are made at each tick."},
		{Name: "count", Type: config.Int, Default: "0", Min: "0", Doc: "How many records to make in all, restarts included. 0: no end."},
		{Name: "seed", Type: config.Int, Doc: "Makes uniform() and the default id repeatable: record n depends on seed and n alone."},
	}
	return config.Spec{
		Name:    "generator",
		Summary: "Makes records of expressions, at a steady rate or as fast as they can be stored.",
		Doc: `The number of records made so far is stored together with the records, so that a restart, after a
crash too, goes on where it was. When the store is slower than the ticks, the ticks that were missed
are left out and not made up for.

The expressions may use functions such as uniform() and now(), and no variable. An expression that
fails, or gives no valid record, puts a dead letter in the record's place.`,
		Args: append(args, mappingArgs(expr.None, "with a seed a hash of the block's name, the seed and the record's number, else a new UUID")...),
		Example: `collect "generator" "fridge" {
  every     = "5s"
  data_type = "sensor_reading"
  payload   = { temperature = round(22 + uniform(-3, 3), 2), humidity = round(50 + uniform(-10, 10), 1) }
}`,
		Check: checkGenerator,
	}
}

func checkGenerator(a config.Args) hcl.Diagnostics {
	var diags hcl.Diagnostics
	report := func(arg, summary, detail string) { diags = append(diags, a.Error(arg, summary, detail)) }
	if !a.Has("every") && a.Int("count") == 0 {
		report("count", "Generator without bound", "Without the arguments every and count the generator would fill the disk at full speed. Set every = \"1s\" for a steady rate, or count for a number of records.")
	}
	if !a.Has("every") && a.Int("burst") > 1 {
		report("burst", "Argument without use", "The argument burst tells how many records are made at each tick, but without the argument every there are no ticks. Set every or remove burst.")
	}
	return diags
}

// generatorPosition tells how far a generator came.
type generatorPosition struct {
	Generated int64 `json:"generated"`
}

// generator makes records of expressions. It keeps no state between runs.
type generator struct {
	opts   Options
	args   config.Args
	every  time.Duration
	burst  int64
	count  int64
	seeded bool
	seed   int64
}

var _ Source = (*generator)(nil)

func openGenerator(opts Options, args config.Args) (Source, error) {
	g := &generator{
		opts: opts.withDefaults(), args: args,
		every: args.Duration("every"), burst: max(1, args.Int("burst")), count: args.Int("count"),
		seeded: args.Has("seed"), seed: args.Int("seed"),
	}
	if opts.UntilEnd && g.count == 0 {
		return nil, fmt.Errorf("opening the source %q: this run ends when its sources end, but the generator at %s has no end; give it the argument count", opts.Name, args.Range)
	}
	return g, nil
}

// Run makes records; see [Source].
func (g *generator) Run(ctx context.Context, position json.RawMessage, sink Sink) error {
	n, err := parseGeneratorPosition(position)
	if err != nil {
		return fmt.Errorf("reading the position of the source %q: %w; another kind of source may have had this name, give this one a new name", g.opts.Name, err)
	}
	d := newDelivery(ctx, sink, g.opts)
	opts := g.opts
	var random *rand.PCG
	if g.seeded {
		random = rand.NewPCG(0, 0)
		opts.Host.Float64 = rand.New(random).Float64
	}
	m := newMapper(opts, g.args, func() string { return g.newID(n) })
	next := g.opts.Host.Now()
	for d.ctx.Err() == nil && (g.count == 0 || n < g.count) {
		end := n + batchRecords
		if g.every > 0 {
			end = n + g.burst
		}
		if g.count > 0 {
			end = min(end, g.count)
		}
		for n < end {
			b := &Batch{}
			m.freshArena()
			for last := min(n+batchRecords, end); n < last; n++ {
				if g.seeded {
					random.Seed(uint64(g.seed), spread(uint64(n)))
				}
				g.make(m, b, n)
			}
			b.Position = json.RawMessage(`{"generated":` + strconv.FormatInt(n, 10) + `}`)
			if !d.put(b) {
				return d.end()
			}
		}
		if g.every > 0 && n != g.count {
			next = g.wait(d.ctx, next)
		}
	}
	return d.end()
}

// wait ends at the tick after the one at last, or at once when that is over.
func (g *generator) wait(ctx context.Context, last time.Time) time.Time {
	next, now := last.Add(g.every), g.opts.Host.Now()
	if !next.After(now) {
		return now
	}
	g.opts.Sleep(ctx, next.Sub(now))
	return next
}

// make adds record n to b.
func (g *generator) make(m *mapper, b *Batch, n int64) {
	r, err := m.generate()
	if err == nil {
		b.Records = append(b.Records, r)
		return
	}
	number := strconv.FormatInt(n, 10)
	b.Rejected = append(b.Rejected, g.opts.reject(nil, number, err, map[string]string{"number": number}))
}

func (g *generator) newID(n int64) string {
	if !g.seeded {
		return uniqueID(g.opts.Host.Now())
	}
	return stableID("record", g.opts, fmt.Sprintf("%d:%d", g.seed, n), nil)
}

// spread maps neighboring numbers to distant ones, so that the random numbers
// of neighboring records have nothing in common. It is the finalizer of
// SplitMix64.
func spread(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func parseGeneratorPosition(data json.RawMessage) (int64, error) {
	var p generatorPosition
	if len(data) == 0 {
		return 0, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return 0, fmt.Errorf("not a generator's position: %w", err)
	}
	if p.Generated < 0 {
		return 0, errors.New("not a generator's position: the number is negative")
	}
	return p.Generated, nil
}
