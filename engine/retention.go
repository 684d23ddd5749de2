package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// The values of a pipeline's when_full and of the edge's queue_when_full.
const (
	fullWait       = "wait"
	fullDropOldest = "drop_oldest"
	fullDropLowest = "drop_lowest_priority"
)

const (
	// purgeStep is how many stream messages must be free before a purge is worth
	// it; a full store purges for less.
	purgeStep = 16
	// ageEvery is how often the age of synced records is looked at.
	ageEvery = time.Minute
	// discardPart is the part of what waits that is dropped at a time.
	discardPart = 20
)

// keeper frees storage. One goroutine at a time.
type keeper struct {
	engine   *Engine
	records  uint64 // purged up to this stream sequence
	messages uint64
	kept     uint64    // everything from here on is younger than keep
	looked   time.Time // when that was found
}

// free removes what every remote has and has kept long enough and, when a store
// is full, what its policy says.
func (k *keeper) free(ctx context.Context) error {
	e := k.engine
	synced := e.recordFloor()
	floor := min(synced, k.ageFloor(ctx))
	full := e.records.Full()
	level, _ := e.disk.gate.State()
	tight := full || level != store.GateOpen
	if tight && !e.everyPipelineWaits() {
		floor = synced
	}
	purged, err := k.purge(ctx, e.records, k.records, floor, tight)
	if err != nil {
		return err
	}
	if k.records = max(k.records, purged); full && purged == 0 {
		if err := e.discardRecords(ctx); err != nil {
			return err
		}
	}
	purged, err = k.purge(ctx, e.queue.Log(), k.messages, e.messageFloor(), tight || e.queue.Log().Full())
	if err != nil {
		return err
	}
	if k.messages = max(k.messages, purged); e.queue.Log().Full() && purged == 0 && e.config().Edge.QueueWhenFull == fullDropLowest {
		return e.discardMessages(ctx)
	}
	return nil
}

// purge frees log below floor when that is worth it or room is tight, and returns how far it has
// purged now, or 0.
func (k *keeper) purge(ctx context.Context, log *store.Log, done, floor uint64, tight bool) (uint64, error) {
	if floor <= done+1 || (floor-done < purgeStep && !tight) {
		return 0, nil
	}
	if err := log.Purge(ctx, floor); err != nil {
		return 0, fmt.Errorf("freeing storage: %w", err)
	}
	return floor, nil
}

// ageFloor returns the stream sequence of the oldest record that is younger
// than keep.
func (k *keeper) ageFloor(ctx context.Context) uint64 {
	e := k.engine
	now := e.now()
	if e.config().Edge.Keep <= 0 {
		return e.records.Durable() + 1
	}
	if k.looked.IsZero() || now.Sub(k.looked) >= min(ageEvery, e.config().Edge.Keep) {
		seq, err := e.records.SequenceAt(ctx, now.Add(-e.config().Edge.Keep))
		if err != nil {
			if ctx.Err() == nil {
				e.log.Warn("looking for records past their keep", "error", err)
			}
			return k.kept
		}
		k.kept, k.looked = seq, now
	}
	return k.kept
}

func (e *Engine) everyPipelineWaits() bool {
	for _, p := range e.pipelines() {
		if p.cfg.WhenFull != fullWait {
			return false
		}
	}
	return true
}

// discardRecords drops a part of the oldest records that wait, of every
// pipeline that says so. The trace of it is durable before anything goes (I7).
func (e *Engine) discardRecords(ctx context.Context) error {
	if e.queue.Moved() < e.records.NewestOutbox() {
		return nil // messages and dead letters first: they may stand in what would go
	}
	for _, p := range e.pipelines() {
		if p.cfg.WhenFull != fullDropOldest {
			continue
		}
		synced := p.lane.Last()
		for _, f := range e.feedsOf(p) {
			at, _, _ := f.Status()
			synced = min(synced, at.Last)
		}
		if err := e.discard(ctx, p.lane, synced); err != nil {
			return err
		}
	}
	return nil
}

// discardMessages drops a part of the oldest messages of the lowest priority
// that has any.
func (e *Engine) discardMessages(ctx context.Context) error {
	for i := len(record.Priorities) - 1; i >= 0; i-- {
		lane := e.queue.Lane(record.Priorities[i])
		synced := lane.Last()
		for _, r := range e.remotes() {
			for _, f := range r.feeds {
				if f.Feed.Lane == lane {
					at, _, _ := f.Status()
					synced = min(synced, at.Last)
				}
			}
		}
		if synced < lane.Last() {
			return e.discard(ctx, lane, synced)
		}
	}
	return nil
}

// discard drops the oldest of what waits behind synced.
func (e *Engine) discard(ctx context.Context, lane *store.Lane, synced uint64) error {
	first, err := lane.First(ctx)
	if err != nil || first == 0 {
		return err
	}
	first = max(first, synced+1)
	newest := lane.Last()
	if first > newest {
		return nil
	}
	last := first + (newest-first)/discardPart
	if last, err = lane.Discard(ctx, first, last); err != nil {
		return err
	}
	e.log.Warn("the store is full: the oldest that waited were discarded", "lane", lane.Name(), "first", first, "last", last)
	return nil
}

func (e *Engine) feedsOf(p *pipeline) (feeds []*feed) {
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.pipeline == p {
				feeds = append(feeds, f)
			}
		}
	}
	return feeds
}
