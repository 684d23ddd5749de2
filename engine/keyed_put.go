package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	gosync "sync"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/store"
)

// A batch of a keyed pipeline is two commits: the values with the source's position
// in the keyed store, and counters, messages, dead letters and what plugins keep in
// the lane. The first carries the second along, under a number that the lane notes
// when it has it: so what a kill leaves undone is done at the next start (I2).

// besideBytes bounds what is carried along: the keyed store is for values. A batch
// with more goes to the lane first, and after a kill in between comes again.
const besideBytes = 256 << 10

// besideSource is, with a source's name behind it, where the lane notes the number.
const besideSource = "keyed/"

// beside is what goes to the lane after a batch of values.
type beside struct {
	Number uint64              `json:"n"` // 1, 2, 3, … of a source
	Counts store.Counts        `json:"counts"`
	Outbox store.Outbox        `json:"outbox"`
	State  []store.StateChange `json:"state,omitempty"`
}

// besides is what a keyed pipeline knows of its batches.
type besides struct {
	// mu is held for reading from the first commit of a batch to its second, and for
	// writing by who does what was left undone.
	mu      gosync.RWMutex
	numbers map[string]*uint64 // by source: the newest batch's
}

// group is the part of a batch for the lane.
func (b *beside) group(source string) *store.Group {
	return &store.Group{
		Source: besideSource + source, Position: fmt.Append(nil, b.Number), Counts: b.Counts, Outbox: b.Outbox, State: b.State,
	}
}

// putKeyed stores what the prepared records set, and then the rest of the batch.
func (w *worker) putKeyed(ctx context.Context, g *store.Group) error {
	p := w.pipeline
	p.besides.mu.RLock()
	defer p.besides.mu.RUnlock()
	b, err := w.putValues(ctx, g)
	if err != nil || b == nil {
		return err
	}
	return appendAndWait(ctx, p.lane, b.group(w.source.name))
}

// putValues is the first commit of a batch, and returns what is left for the second.
func (w *worker) putValues(ctx context.Context, g *store.Group) (*beside, error) {
	p := w.pipeline
	source := keyed.Source{Name: w.source.name, Position: g.Position}
	number := p.besides.numbers[source.Name]
	b := &beside{Number: *number + 1, Counts: g.Counts, Outbox: g.Outbox, State: g.State}
	data, err := json.Marshal(b)
	if err == nil && len(data) > besideBytes {
		g.Position, b = nil, nil
		err = appendAndWait(ctx, p.lane, g)
	} else {
		source.Beside = data
	}
	if err != nil {
		p.keys.undo()
		return nil, err
	}
	if b == nil {
		p.keys.keep(g)
	}
	refused, err := p.keyed.PutAll(ctx, w.items, source)
	if err = errors.Join(append(refused, err)...); err != nil { // nothing is refused: all was checked
		p.keys.undo()
		return nil, err
	}
	if b != nil {
		*number = b.Number
		p.keys.keep(g)
	}
	return b, nil
}

// finishKeyed does what was left undone of the batches of a keyed pipeline. The
// first time is before any of its sources runs.
func (e *Engine) finishKeyed(ctx context.Context, p *pipeline) error {
	if p.keyed == nil {
		return nil
	}
	if err := p.keys.hold(ctx); err != nil {
		return err
	}
	defer p.keys.release()
	p.besides.mu.Lock()
	defer p.besides.mu.Unlock()
	names := p.keyed.BesideSources() // of those that the file no longer has, too
	for _, s := range p.sources {
		if !slices.Contains(names, s.name) {
			names = append(names, s.name)
		}
	}
	numbers := map[string]*uint64{}
	for _, name := range names {
		number, err := finishSource(ctx, p, name)
		if err != nil {
			return fmt.Errorf("finishing the newest batch of %s: %w", name, err)
		}
		numbers[name] = &number
	}
	p.besides.numbers = numbers
	return nil
}

// finishSource is finishKeyed for one source. It returns the number of its newest
// batch.
func finishSource(ctx context.Context, p *pipeline, name string) (uint64, error) {
	var b beside
	data, err := p.keyed.Beside(ctx, name)
	if err == nil && data != nil {
		err = json.Unmarshal(data, &b)
	}
	if err != nil {
		return 0, err
	}
	var done uint64
	if at := p.lane.Position(besideSource + name); at != nil {
		if err := json.Unmarshal(at, &done); err != nil {
			return 0, err
		}
	}
	if b.Number <= done {
		return done, nil
	}
	if err := appendAndWait(ctx, p.lane, b.group(name)); err != nil {
		return 0, err
	}
	p.keys.reread(p.lane)
	return b.Number, nil
}
