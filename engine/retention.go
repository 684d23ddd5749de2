package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edged/edged/engine/config"
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
	ages     map[time.Duration]aged // by keep
	sizes    map[*store.Lane]sized
	places   map[*feed]place
	message  aged      // of the queue
	alone    time.Time // when lanes were last purged alone
	expired  time.Time // when the queue was last looked through for expired messages
}

func newKeeper(e *Engine) *keeper {
	return &keeper{engine: e, ages: map[time.Duration]aged{}, sizes: map[*store.Lane]sized{}, places: map[*feed]place{}}
}

// aged says that everything from seq on was younger than a keep.
type aged struct {
	seq    uint64
	looked time.Time
}

// sized says that what was synced of a lane, before needed, was within its bound
// from seq on.
type sized struct{ seq, needed uint64 }

// place is where the entry behind a remote's position stands.
type place struct{ position, seq uint64 }

// free removes what every remote has and has kept long enough and, when a store
// is full, what its policy says.
func (k *keeper) free(ctx context.Context) error {
	e := k.engine
	full := e.records.Full()
	level, _ := e.disk.Gate().State()
	tight := full || level != store.GateOpen
	freed, err := k.freeRecords(ctx, tight)
	if full && !freed {
		err = errors.Join(err, e.discardRecords(ctx))
	}
	if err != nil {
		return err
	}
	if err := k.expire(ctx); err != nil {
		return err
	}
	tight = tight || e.queue.Log().Full()
	floor, err := k.messageFloor(ctx, tight)
	if err != nil {
		return err
	}
	purged, err := k.purge(ctx, e.queue.Log(), k.messages, floor, tight)
	if err != nil {
		return err
	}
	if k.messages = max(k.messages, purged); e.queue.Log().Full() && purged == 0 && e.config().Edge.QueueWhenFull == fullDropLowest {
		return e.discardMessages(ctx)
	}
	return nil
}

// freeRecords purges the record log: what no lane needs any more at once, which
// is quick, and from time to time, or when room is tight, each lane for itself, so
// that one that keeps everything, or cannot be read, holds nothing of the others
// back. It reports whether anything went.
func (k *keeper) freeRecords(ctx context.Context, tight bool) (freed bool, err error) {
	e := k.engine
	var errs []error
	floors := map[*store.Lane]uint64{}
	common := e.records.Durable() + 1
	for _, lane := range e.records.Lanes() {
		if lane.Last() == 0 {
			continue
		}
		floor, err := k.floor(ctx, lane, tight)
		if err != nil {
			errs = append(errs, fmt.Errorf("freeing storage of %s: %w", lane.Name(), err))
			floor = 0
		}
		floors[lane] = floor
		common = min(common, floor)
	}
	purged, err := k.purge(ctx, e.records, k.records, common, tight)
	if err != nil {
		return false, errors.Join(append(errs, err)...)
	}
	k.records, freed = max(k.records, purged), purged > 0
	if now := e.now(); tight || now.Sub(k.alone) >= ageEvery {
		k.alone = now
		for _, lane := range e.records.Lanes() { // one that came since has no floor
			went, err := purgeAlone(ctx, lane, floors[lane])
			errs, freed = append(errs, err), freed || went
		}
	}
	return freed, errors.Join(errs...)
}

// purgeAlone purges one lane below floor and reports whether there was anything.
func purgeAlone(ctx context.Context, lane *store.Lane, floor uint64) (bool, error) {
	stats, err := lane.Stats(ctx)
	if err == nil && (stats.Count == 0 || stats.Seq >= floor) {
		return false, nil
	}
	if err == nil {
		err = lane.Purge(ctx, floor)
	}
	if err != nil {
		return false, fmt.Errorf("freeing storage: %w", err)
	}
	return true, nil
}

// floor returns the stream sequence up to which a lane of the record log is to
// be purged: never beyond what is needed (I3), and only what its keep and
// keep_bytes do not hold, unless the log is full and its policy is not to wait.
func (k *keeper) floor(ctx context.Context, lane *store.Lane, full bool) (uint64, error) {
	p := k.engine.pipelineOf(lane)
	needed, err := k.needed(ctx, lane, p)
	if err != nil || needed == 0 || full && (p == nil || p.cfg.WhenFull != fullWait) {
		return needed, err
	}
	var cfg *config.Pipeline
	if p != nil {
		cfg = p.cfg
	}
	keep, bytes := k.engine.config().Retention(cfg)
	floor, err := k.ageFloor(ctx, keep)
	if err == nil && bytes > 0 {
		var size uint64
		size, err = k.sizeFloor(ctx, lane, uint64(bytes), needed)
		floor = max(floor, size)
	}
	return min(floor, needed), err
}

// needed returns the stream sequence from which on a lane of the record log is
// still needed: the lowest of what its syncs and the queue's mover have yet to
// take (I3). A pipeline without a sync, and one that was removed before every
// remote had its records, needs all that was not given up: this edge is the only
// place of it. 0 means everything.
func (k *keeper) needed(ctx context.Context, lane *store.Lane, p *pipeline) (uint64, error) {
	e := k.engine
	durable := e.records.Durable()
	floor := durable + 1
	if moved := e.queue.Moved(); moved < lane.NewestOutbox() {
		floor = min(floor, moved+1)
	}
	var feeds []*feed
	if p != nil {
		feeds = e.feedsOf(p)
	}
	if len(feeds) == 0 {
		known := lane.GivenUp()
		if p == nil {
			known = max(known, e.knownSynced(lane))
		}
		if known >= lane.Last() {
			return floor, nil
		}
		if known == 0 {
			return 0, nil
		}
		seq, err := lane.Find(ctx, known+1)
		return min(floor, seq), err
	}
	for _, f := range feeds {
		seq, err := k.feedFloor(ctx, f, durable)
		if err != nil {
			return 0, err
		}
		floor = min(floor, seq)
	}
	return floor, nil
}

// feedFloor is the feed's own floor. After a start a remote may not be reached
// for long: then the store knows where the entry behind its position stands.
func (k *keeper) feedFloor(ctx context.Context, f *feed, durable uint64) (uint64, error) {
	if floor := f.Floor(durable); floor > 0 {
		return floor, nil
	}
	at, _, _ := f.Status()
	if at.Last == 0 {
		return 0, nil
	}
	if known := k.places[f]; known.position == at.Last {
		return known.seq, nil
	}
	seq, err := f.Feed.Lane.Find(ctx, at.Last+1)
	if err == nil && seq > 0 {
		k.places[f] = place{at.Last, seq}
	}
	return seq, err
}

// purge frees log below floor when that is worth it, or room is tight, and
// returns how far it has
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

// messageFloor returns the stream sequence up to which the queue is to be purged:
// messages stay as long as records, so that a hub that was restored from a backup
// gets them again, unless room is tight.
func (k *keeper) messageFloor(ctx context.Context, tight bool) (uint64, error) {
	e := k.engine
	needed, keep := e.messageFloor(), e.config().Edge.Keep
	if tight || keep <= 0 || needed == 0 {
		return needed, nil
	}
	if now := e.now(); k.message.looked.IsZero() || now.Sub(k.message.looked) >= min(ageEvery, keep) {
		seq, err := e.queue.Log().SequenceAt(ctx, now.Add(-keep))
		if err != nil {
			return 0, fmt.Errorf("looking for messages past their keep: %w", err)
		}
		k.message = aged{seq, now}
	}
	return min(needed, k.message.seq), nil
}

// ageFloor returns the stream sequence of the oldest record that is younger
// than keep.
func (k *keeper) ageFloor(ctx context.Context, keep time.Duration) (uint64, error) {
	e := k.engine
	if keep <= 0 {
		return e.records.Durable() + 1, nil
	}
	now, known := e.now(), k.ages[keep]
	if known.looked.IsZero() || now.Sub(known.looked) >= min(ageEvery, keep) {
		seq, err := e.records.SequenceAt(ctx, now.Add(-keep))
		if err != nil {
			return 0, fmt.Errorf("looking for records past their keep: %w", err)
		}
		known = aged{seq, now}
		k.ages[keep] = known
	}
	return known.seq, nil
}

// sizeFloor returns the stream sequence from which on what was synced of a lane
// takes at most bytes. It looks when more has been synced.
func (k *keeper) sizeFloor(ctx context.Context, lane *store.Lane, bytes, needed uint64) (uint64, error) {
	stats, err := lane.Stats(ctx)
	if err != nil || stats.Bytes <= bytes {
		return 0, err
	}
	known := k.sizes[lane]
	if known.needed != needed {
		seq, err := lane.SequenceOf(ctx, bytes, needed)
		if err != nil {
			return 0, err
		}
		if seq > known.seq {
			k.alone = time.Time{} // what it asks for goes now
		}
		known = sized{seq, needed}
		k.sizes[lane] = known
	}
	return known.seq, nil
}

// pipelineOf returns the pipeline that owns a lane of the record log, nil when
// it was removed.
func (e *Engine) pipelineOf(lane *store.Lane) *pipeline {
	for _, p := range e.pipelines() {
		if p.lane == lane {
			return p
		}
	}
	return nil
}

// discardRecords drops a part of the oldest records that wait, of every
// pipeline that says so. The trace of it is durable before anything goes (I7).
func (e *Engine) discardRecords(ctx context.Context) error {
	before := e.records.Durable() + 1
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
		if err := e.discard(ctx, p.lane, synced, before); err != nil {
			return err
		}
	}
	return nil
}

// discardMessages drops a part of the oldest messages of the lowest priority
// that has any.
func (e *Engine) discardMessages(ctx context.Context) error {
	before := e.queue.Log().Durable() + 1
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
			return e.discard(ctx, lane, synced, before)
		}
	}
	return nil
}

// discard drops the oldest of what waits behind synced, of what stands before
// that stream sequence.
func (e *Engine) discard(ctx context.Context, lane *store.Lane, synced, before uint64) error {
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
	if last, err = lane.Discard(ctx, first, last, before); err != nil || last < first {
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
