package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

const (
	// retrySource names, among a lane's positions, the dead letters that were
	// stored again last. No collect block can have that name.
	retrySource = "dead letters"
	// A step of a retry is one commit of at most so much.
	retryAtOnce = 100
	retryBytes  = 4 << 20
)

// Retried says how far a retry is.
type Retried struct {
	Again   uint64 `json:"again"`   // went on, and are dead letters no more
	Failed  uint64 `json:"failed"`  // failed again, and are dead letters anew
	Refused uint64 `json:"refused"` // cannot be sent again, and were left alone
	// Reasons says why, with how many each.
	Reasons map[string]uint64 `json:"reasons,omitempty"`
}

// retry is one call of RetryDeadLetters.
type retry struct {
	engine   *Engine
	done     Retried
	progress func(Retried) error

	step  []*queue.Buried // of one pipeline and one way
	bytes int
	way   *retryWay
	used  map[*store.Lane]bool // hold a note of what was stored again
}

// retryKey names one stored dead letter.
type retryKey struct {
	Pipeline string `json:"pipeline"`
	Number   uint64 `json:"number"`
	ID       string `json:"id"`
}

func keyOf(b *queue.Buried) retryKey { return retryKey{b.Pipeline, b.Number, b.ID} }

// retryWay is where a dead letter goes on: at a transform of its pipeline, into
// the pipeline's lane, or into the queue.
type retryWay struct {
	lane     *store.Lane
	pipeline *pipeline // nil: a message
	from     int       // first transform; -1: none, it has been through
}

// RetryDeadLetters sends the selected dead letters again: what failed in a
// transform goes through that transform and those behind it, with their alert
// rules; what a remote did not take is stored or queued once more. Each is
// removed after its record is durable (I6, I7), and the same commit notes which
// they were, so that a kill in between does not store them twice at the next
// retry (I2). What failed in a source is refused: only the source can read it.
// progress is told after each step.
func (e *Engine) RetryDeadLetters(ctx context.Context, sel queue.Selection, progress func(Retried) error) (Retried, error) {
	e.retrying.Lock()
	defer e.retrying.Unlock()
	r := &retry{engine: e, progress: progress, used: map[*store.Lane]bool{}}
	if err := r.recall(ctx); err != nil {
		return r.done, err
	}
	err := queue.EachDeadLetter(ctx, e.nc, sel, nil, func(b *queue.Buried) error { return r.add(ctx, b) })
	if err == nil {
		err = r.flush(ctx)
	}
	if err == nil {
		err = r.forget(ctx)
	}
	if err != nil {
		err = fmt.Errorf("sending dead letters again: %w", err)
	}
	return r.done, err
}

// recall removes what an earlier retry stored before it was cut off.
func (r *retry) recall(ctx context.Context) error {
	stored := map[retryKey]bool{}
	for _, lane := range r.lanes() {
		at := lane.Position(retrySource)
		if at == nil {
			continue
		}
		var keys []retryKey
		if err := json.Unmarshal(at, &keys); err != nil {
			return fmt.Errorf("reading what %s had sent again: %w", lane.Name(), err)
		}
		for _, k := range keys {
			stored[k] = true
			r.used[lane] = true
		}
	}
	if len(stored) == 0 {
		return nil
	}
	var left []*queue.Buried
	err := queue.EachDeadLetter(ctx, r.engine.nc, queue.Selection{}, nil, func(b *queue.Buried) error {
		if stored[keyOf(b)] {
			b.Raw = nil
			left = append(left, b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.remove(ctx, left)
}

func (r *retry) lanes() []*store.Lane {
	return slices.Collect(maps.Values(r.engine.lanes()))
}

// forget clears the notes, once every dead letter in them is gone.
func (r *retry) forget(ctx context.Context) error {
	for lane := range r.used {
		if err := appendAndWait(ctx, lane, &store.Group{Source: retrySource, Position: json.RawMessage("[]")}); err != nil {
			return err
		}
	}
	return nil
}

// add takes one dead letter into the step under way, or into a new one.
func (r *retry) add(ctx context.Context, b *queue.Buried) error {
	way, reason := r.engine.wayOf(b)
	if reason != "" {
		r.refuse(reason)
		return nil
	}
	if r.way != nil && (*r.way != *way || len(r.step) >= retryAtOnce || r.bytes+len(b.Raw) > retryBytes) {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.way, r.step, r.bytes = way, append(r.step, b), r.bytes+len(b.Raw)
	return nil
}

func (r *retry) refuse(reason string) {
	r.done.Refused++
	if r.done.Reasons == nil {
		r.done.Reasons = map[string]uint64{}
	}
	r.done.Reasons[reason]++
}

// wayOf finds where a dead letter goes on, or says why it cannot.
func (e *Engine) wayOf(b *queue.Buried) (*retryWay, string) {
	kind, name, _ := strings.Cut(b.Stage, ".")
	if kind == "sync" && b.Detail["priority"] != "" {
		var m record.Message
		if err := json.Unmarshal(b.Raw, &m); err != nil {
			return nil, "it is no message any more"
		}
		return &retryWay{lane: e.queue.Lane(m.Priority), from: -1}, ""
	}
	switch kind {
	case "collect":
		return nil, fmt.Sprintf("%s could not read it, and only that source knows how: mend the mapping or the input, "+
			"hand the input to the source again ('edged dlq export' has its bytes), and drop the dead letter", b.Stage)
	case "transform", "sync":
	default:
		return nil, fmt.Sprintf("a dead letter of %s is a note, there is nothing to send", b.Stage)
	}
	i := slices.IndexFunc(e.pipelines(), func(p *pipeline) bool { return p.cfg.Name == b.Pipeline })
	if i < 0 {
		return nil, fmt.Sprintf("the edge that runs has no pipeline %q", b.Pipeline)
	}
	p := e.pipelines()[i]
	if _, err := record.Parse(b.Raw); err != nil {
		return nil, "it is no record any more"
	}
	if p.keyed != nil {
		return nil, fmt.Sprintf("pipeline %q keeps keyed records: put the value of the key anew, it may have changed since", b.Pipeline)
	}
	way := &retryWay{lane: p.lane, pipeline: p, from: -1}
	if kind == "transform" {
		way.from = slices.IndexFunc(p.transforms, func(t transform) bool { return t.name == name })
		if way.from < 0 {
			return nil, fmt.Sprintf("pipeline %q has no transform %q any more", b.Pipeline, name)
		}
	}
	return way, ""
}

// flush stores the step again, durably, and then removes its dead letters.
func (r *retry) flush(ctx context.Context) error {
	if len(r.step) == 0 {
		return nil
	}
	g, err := r.store(ctx)
	if err != nil {
		return err
	}
	failed := uint64(len(g.Outbox.DeadLetters))
	if err := r.remove(ctx, r.step); err != nil {
		return err
	}
	// One record may have become several that fail.
	failed = min(failed, uint64(len(r.step)))
	r.done.Failed += failed
	r.done.Again += uint64(len(r.step)) - failed
	r.step, r.bytes, r.way = nil, 0, nil
	return r.progress(r.done)
}

// store stores the step again and returns when that is durable.
func (r *retry) store(ctx context.Context) (*store.Group, error) {
	var keys *keys
	if r.way.pipeline != nil {
		keys = r.way.pipeline.keys
	}
	if err := keys.hold(ctx); err != nil {
		return nil, err
	}
	defer keys.release()
	g, err := r.group(ctx)
	if err != nil {
		return nil, err
	}
	r.used[r.way.lane] = true
	done, err := appendGroup(ctx, r.way.lane, g)
	if err != nil {
		keys.undo()
		return nil, err
	}
	keys.keep(g)
	return g, awaitGroup(ctx, done)
}

// group makes of the step what is to be stored.
func (r *retry) group(ctx context.Context) (*store.Group, error) {
	g := &store.Group{Source: retrySource}
	keys := make([]retryKey, len(r.step))
	for i, b := range r.step {
		keys[i] = keyOf(b)
	}
	var err error
	if g.Position, err = json.Marshal(keys); err != nil {
		return nil, err
	}
	p := r.way.pipeline
	if p == nil {
		for _, b := range r.step {
			g.Entries = append(g.Entries, store.Entry{Subject: r.way.lane.Subject(b.Detail["topic"]), Data: b.Raw})
		}
		return g, nil
	}
	records := make([]record.Record, len(r.step))
	for i, b := range r.step {
		if records[i], err = record.Parse(b.Raw); err != nil {
			return nil, err
		}
	}
	w := newWorker(ctx, r.engine, p, &source{name: retrySource})
	if r.way.from < 0 {
		for i := range records {
			g.Entries = append(g.Entries, store.Entry{Subject: w.subject(&records[i]), Data: r.step[i].Raw})
		}
		return g, nil
	}
	return g, w.fill(ctx, g, records, r.way.from)
}

func (r *retry) remove(ctx context.Context, letters []*queue.Buried) error {
	return queue.RemoveDeadLetters(ctx, r.engine.queue.DeadLetters(), letters)
}

// appendAndWait returns when g is durable.
func appendAndWait(ctx context.Context, lane *store.Lane, g *store.Group) error {
	stored, err := appendGroup(ctx, lane, g)
	if err != nil {
		return err
	}
	return awaitGroup(ctx, stored)
}

// appendGroup returns what tells that g is durable.
func appendGroup(ctx context.Context, lane *store.Lane, g *store.Group) (<-chan error, error) {
	stored := make(chan error, 1)
	g.Done = func(err error) { stored <- err }
	return stored, lane.Append(ctx, g)
}

func awaitGroup(ctx context.Context, stored <-chan error) error {
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return errors.Join(errors.New("it is not known whether the last step was stored; the next retry finds out"), ctx.Err())
	}
}
