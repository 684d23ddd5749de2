package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"time"

	"github.com/edged/edged/engine/alert"
	"github.com/edged/edged/engine/collect"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/wasm"
)

// worker takes the batches of one source through transforms and alert rules to
// the store, in order. It is the source's sink.
type worker struct {
	engine   *Engine
	pipeline *pipeline
	source   *source
	in       chan *collect.Batch
	stored   gosync.WaitGroup // groups handed to the store
	rules    *alert.Evaluator
	out      wasm.Output
	subjects map[[2]string]string
	items    []keyed.Item    // of a keyed pipeline: what the prepared batch sets
	stopping <-chan struct{} // closed when the source is to end

	mu     gosync.Mutex
	failed error
}

var _ collect.Sink = (*worker)(nil)

const (
	workerQueue = 2    // batches that may wait between source and worker
	maxSubjects = 4096 // remembered per worker
	pluginRetry = time.Second
	// How often a plugin that rests is looked at: one record at a time is tried,
	// and another worker may be trying one.
	restPollLeast = 10 * time.Millisecond
	restPollMost  = time.Second
)

// newWorker makes a worker that gives up waiting for plugins when ctx ends.
func newWorker(ctx context.Context, e *Engine, p *pipeline, s *source) *worker {
	return &worker{
		stopping: ctx.Done(),
		engine:   e, pipeline: p, source: s, in: make(chan *collect.Batch, workerQueue),
		rules: p.rules.NewEvaluator(), subjects: map[[2]string]string{},
	}
}

// Put implements [collect.Sink]. After a batch has failed it takes none any
// more: their positions would skip the one that failed.
func (w *worker) Put(ctx context.Context, b *collect.Batch) error {
	if err := w.err(); err != nil {
		return err
	}
	if err := w.engine.disk.Gate().Wait(ctx); err != nil {
		return &collect.Unstorable{Why: err}
	}
	select {
	case w.in <- b:
		return nil
	case <-ctx.Done():
		if err := w.Trouble(); err != nil {
			return err
		}
		return ctx.Err()
	}
}

// Trouble implements [collect.Sink].
func (w *worker) Trouble() error {
	if _, why := w.engine.disk.Gate().State(); why != nil {
		return &collect.Unstorable{Why: why}
	}
	if w.engine.records.Full() {
		return collect.ErrFull
	}
	return nil
}

// end tells that the source will put no more.
func (w *worker) end() { close(w.in) }

func (w *worker) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

func (w *worker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

// run works until the source has ended, and returns when all is durable or
// refused.
func (w *worker) run(ctx context.Context) {
	for b := range w.in {
		err := w.err()
		if err == nil {
			if err = w.process(ctx, b); err != nil {
				w.fail(err)
			}
		}
		if err != nil && b.Done != nil {
			b.Done(err)
		}
	}
	w.stored.Wait()
}

// process takes one batch to the store. After nil the store calls Done.
func (w *worker) process(ctx context.Context, b *collect.Batch) error {
	keys := w.pipeline.keys
	if err := keys.hold(ctx); err != nil {
		return err
	}
	defer keys.release()
	g, err := w.prepare(ctx, b)
	if err != nil {
		return err
	}
	if w.pipeline.keyed != nil {
		if err := w.putKeyed(ctx, g); err != nil {
			return err
		}
		if b.Done != nil {
			b.Done(nil)
		}
		return nil
	}
	w.stored.Add(1)
	g.Done = func(err error) {
		if err != nil {
			w.fail(err)
		}
		if b.Done != nil {
			b.Done(err)
		}
		w.stored.Done()
	}
	if err := w.pipeline.lane.Append(ctx, g); err != nil {
		keys.undo()
		w.stored.Done()
		return err
	}
	keys.keep(g)
	return nil
}

// prepare makes of a batch what is to be stored. While a plugin does not start,
// no record is to blame and none may be lost: the batch waits, and begins anew.
func (w *worker) prepare(ctx context.Context, b *collect.Batch) (*store.Group, error) {
	for {
		g := &store.Group{Source: w.source.name, Position: b.Position}
		w.items = nil
		g.Counts.Collected = uint64(len(b.Records) + len(b.Rejected))
		g.Outbox.DeadLetters = slices.Clone(b.Rejected)
		err := w.fill(ctx, g, b.Records, 0)
		if err == nil {
			return g, nil
		}
		if ctx.Err() != nil || errors.Is(err, wasm.ErrClosed) || errors.Is(err, errStopping) {
			return nil, err
		}
		w.engine.log.Error("a transform cannot run, trying again", "pipeline", w.pipeline.cfg.Name, "in", pluginRetry, "error", err)
		if err := w.pause(ctx, pluginRetry); err != nil {
			return nil, err
		}
	}
}

// fill takes records through the transforms from the given one on, and through
// the rules, into g, and what the plugins keep with them. The caller holds the
// pipeline's keys; after an error they are as before.
func (w *worker) fill(ctx context.Context, g *store.Group, records []record.Record, from int) (err error) {
	keys := w.pipeline.keys
	defer func() {
		if err != nil {
			keys.undo()
		}
	}()
	for i := from; i < len(w.pipeline.transforms); i++ {
		if records, err = w.transform(ctx, &w.pipeline.transforms[i], records, g); err != nil {
			return err
		}
	}
	if len(w.pipeline.transforms) > 0 {
		g.Counts.Transformed = uint64(len(records))
	}
	if w.pipeline.keyed != nil {
		w.puts(records, g)
	} else {
		w.encode(records, g)
	}
	g.Counts.Messages = uint64(len(g.Outbox.Messages))
	g.Counts.DeadLetters = uint64(len(g.Outbox.DeadLetters))
	keys.put(g)
	return nil
}

// errStopping refuses a batch that waits for a plugin while the edge stops: its
// source will bring it again.
var errStopping = errors.New("stopping while a batch waits for its plugin")

// pause waits for d. It does not outlast the source: a plugin may rest for long.
func (w *worker) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-w.stopping:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

// transform runs one plugin over records. What it refuses or fails on becomes a
// dead letter with the record as it came in (I6).
func (w *worker) transform(ctx context.Context, t *transform, in []record.Record, g *store.Group) ([]record.Record, error) {
	out := make([]record.Record, 0, len(in))
	w.out.KV = w.pipeline.keys.kv(t.plugin)
	for len(in) > 0 {
		if err := t.plugin.Transform(ctx, in, w.engine.now(), &w.out); err != nil {
			return nil, err
		}
		var done int
		if out, done = w.take(t, in, out, g); done == len(in) {
			break
		}
		in = in[done:]
		if err := w.pause(ctx, min(max(t.plugin.Rests(), restPollLeast), restPollMost)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// take appends to out what goes on, and returns for how many of in the answer
// stands: those that come while the plugin rests may have to wait.
func (w *worker) take(t *transform, in, out []record.Record, g *store.Group) ([]record.Record, int) {
	// The next call reuses the output's buffers; the last stage's are read
	// before that, but an earlier stage's must be kept.
	for i := range w.out.Results {
		r := &w.out.Results[i]
		switch {
		case r.Action == wasm.Pass:
			out = append(out, in[i])
		case r.Action == wasm.Emit:
			for j := range r.Records {
				out = append(out, r.Records[j].Clone())
			}
		case r.Action == wasm.Drop:
			g.Counts.Dropped++
		case r.Action == wasm.Skipped && t.wait:
			return out, i
		case t.pass:
			out = append(out, in[i])
		default:
			g.Outbox.DeadLetters = append(g.Outbox.DeadLetters, w.deadLetter(t, &in[i], r))
		}
	}
	return out, len(in)
}

func (w *worker) deadLetter(t *transform, r *record.Record, res *wasm.Result) record.DeadLetter {
	raw := r.AppendJSON(nil)
	stage := "transform." + t.name
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s%d %s", len(w.pipeline.cfg.Name), w.pipeline.cfg.Name, len(stage), stage)
	sum.Write(raw)
	return record.DeadLetter{
		ID: hex.EncodeToString(sum.Sum(nil)[:16]), Pipeline: w.pipeline.cfg.Name, Stage: stage,
		Error: res.Reason, Time: w.engine.now().UTC(), Raw: raw,
		Detail: map[string]string{
			"action": res.Action.String(), "plugin": t.plugin.Name(), "sha256": t.plugin.SHA256(), "record_id": r.ID,
		},
	}
}

// encode evaluates the rules and turns records into entries of the group.
func (w *worker) encode(records []record.Record, g *store.Group) {
	size := 0
	for i := range records {
		size += len(records[i].Payload) + len(records[i].ID) + len(records[i].DeviceID) + len(records[i].DataType) + 112
	}
	data := make([]byte, 0, size)
	g.Entries = make([]store.Entry, 0, len(records))
	for i := range records {
		r := &records[i]
		g.Outbox.Messages = w.rules.Append(g.Outbox.Messages, r)
		from := len(data)
		if data = r.AppendJSON(data); cap(data) > size {
			size = cap(data) // grown: entries before keep the old array
		}
		g.Entries = append(g.Entries, store.Entry{Subject: w.subject(r), Data: data[from:len(data):len(data)]})
	}
}

func (w *worker) subject(r *record.Record) string {
	key := [2]string{r.DataType, r.DeviceID}
	if s, ok := w.subjects[key]; ok {
		return s
	}
	if len(w.subjects) >= maxSubjects {
		clear(w.subjects)
	}
	s := w.pipeline.lane.Subject(r.DataType, r.DeviceID)
	w.subjects[key] = s
	return s
}
