package plugindev

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// chunk is how many records or conflicts are given to a plugin at a time: as
// many as a source hands to a pipeline.
const chunk = 500

// Outcome is what became of one record or conflict.
type Outcome struct {
	// Number is its place in the input, from 1; ID the record's id or the
	// conflict's key.
	Number int    `json:"number"`
	ID     string `json:"id"`
	// Action is an action of [wasm.Action] or [wasm.VerdictAction].
	Action string `json:"action"`
	// Records are what goes on of an emitted record, in the wire form.
	Records []json.RawMessage `json:"records,omitempty"`
	// Body is the value that a conflict was settled to; none: nothing is left.
	Body   json.RawMessage `json:"body,omitempty"`
	Code   uint16          `json:"code,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Fault  *Fault          `json:"fault,omitempty"`

	// In and Out are the record and what goes on of it, itself for a pass.
	In  *record.Record  `json:"-"`
	Out []record.Record `json:"-"`
	// Conflict is what was settled.
	Conflict *wasm.Conflict `json:"-"`
}

// Fault is what a plugin did wrong.
type Fault struct {
	Kind  wasm.FaultKind `json:"kind"`
	Error string         `json:"error"`
}

func newFault(f *wasm.Fault) *Fault {
	if f == nil {
		return nil
	}
	return &Fault{f.Kind, f.Err.Error()}
}

// Summary counts outcomes.
type Summary struct {
	Inputs  int `json:"inputs"`
	Outputs int `json:"outputs"`
	// Actions counts inputs by what became of them.
	Actions map[string]int `json:"actions"`
	Faults  int            `json:"faults"`
	// Mismatches counts what was not as expected; see [Expected].
	Mismatches int `json:"mismatches"`
	// FuelPerInput is what one took on average.
	FuelPerInput uint64             `json:"fuel_per_input"`
	Metrics      map[string]float64 `json:"metrics,omitempty"`
	LogDropped   uint64             `json:"log_dropped,omitempty"`
}

func (s *Summary) count(o *Outcome, outputs int) {
	s.Inputs++
	s.Outputs += outputs
	s.Actions[o.Action]++
	if o.Fault != nil {
		s.Faults++
	}
}

func (s *Summary) finish(stats wasm.Stats) {
	s.Metrics, s.LogDropped = stats.Metrics, stats.LogDropped
	if s.Inputs > 0 {
		s.FuelPerInput = stats.Fuel / uint64(s.Inputs)
	}
}

// testing returns the options of a host whose plugins never rest: every record
// is to be tried, however many faults came before it. So its clock is always
// past the end of a rest.
func testing(log *slog.Logger) wasm.Options {
	now := time.Unix(0, 0)
	return wasm.Options{Logger: log, Workers: 1, Now: func() time.Time {
		now = now.Add(time.Hour)
		return now
	}}
}

// Transform runs a module over records as a pipeline would, with keys of its own
// that begin empty, and calls visit for every outcome, in order; what it gets is
// valid until it returns. now is the time that the guest is told; what it logs
// goes to log. A fault is an outcome, not an error.
func Transform(ctx context.Context, m *Module, records []record.Record, now time.Time, log *slog.Logger, visit func(*Outcome) error) (*Summary, error) {
	sum := &Summary{Actions: map[string]int{}}
	err := m.With(ctx, testing(log), func(p *wasm.Plugin) error {
		if !p.Transforms() {
			return fmt.Errorf("%s is no transform: it does not export edged_transform; test it with conflicts instead of records", m.Name)
		}
		var out wasm.Output
		if p.KeepsKeys() {
			out.KV = wasm.NewKV(int(p.Limits().KV))
		}
		for first := 0; first < len(records); first += chunk {
			in := records[first:min(first+chunk, len(records))]
			if err := p.Transform(ctx, in, now, &out); err != nil {
				return err
			}
			if out.KV != nil {
				out.KV.Keep()
			}
			for i := range in {
				o := outcome(first+i+1, &in[i], &out.Results[i])
				sum.count(o, len(o.Out))
				if err := visit(o); err != nil {
					return err
				}
			}
		}
		sum.finish(p.Stats())
		return nil
	})
	return sum, err
}

func outcome(number int, in *record.Record, r *wasm.Result) *Outcome {
	o := &Outcome{
		Number: number, ID: in.ID, Action: r.Action.String(), Code: r.Code, Reason: r.Reason,
		Fault: newFault(r.Fault), In: in, Out: r.Records,
	}
	switch {
	case r.Action == wasm.Pass:
		o.Out = []record.Record{*in}
	case o.Fault != nil:
		o.Reason = "" // the fault says it
	}
	for i := range r.Records {
		o.Records = append(o.Records, r.Records[i].AppendJSON(nil))
	}
	return o
}
