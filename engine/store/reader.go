package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// Stored is one entry as it stands in the log. Its bytes are shared: read only.
type Stored struct {
	Number  uint64
	Next    uint64 // from this stream sequence on the log is needed once the entry is settled
	Subject string
	Time    time.Time // when it was stored
	Data    []byte
}

// Reader reads a lane in order. It serves from memory while it keeps up with
// the writer and from disk when it does not. One goroutine at a time.
type Reader struct {
	lane   *Lane
	number uint64 // of the last entry handed out
	next   uint64 // the stream sequence where the entry behind it is; 0: not known
	disk   jetstream.MessagesContext
	ahead  block // read from disk and not handed out yet
	used   int   // entries of ahead that were handed out
}

// NewReader returns a reader that continues after number. Close it.
func (l *Lane) NewReader(number uint64) *Reader { return &Reader{lane: l, number: number} }

// Number returns the number of the last entry handed out.
func (r *Reader) Number() uint64 { return r.number }

// Seek continues after number.
func (r *Reader) Seek(number uint64) {
	if number != r.number {
		r.stopDisk()
		r.number, r.next = number, 0
	}
}

// Close releases what the reader holds.
func (r *Reader) Close() { r.stopDisk() }

func (r *Reader) stopDisk() {
	if r.disk != nil {
		r.disk.Stop()
		r.disk = nil
	}
	r.ahead, r.used = block{}, 0
}

// Read appends to out the durable entries that follow, at most limit and about
// maxBytes (at least one entry), and returns at once with what there is. Numbers
// that were purged are skipped: the caller sees them missing in Number.
func (r *Reader) Read(ctx context.Context, limit, maxBytes int, out []Stored) ([]Stored, error) {
	if r.number >= r.lane.Last() {
		return out, nil
	}
	n := len(out)
	if r.disk == nil {
		var ok bool
		if out, ok = r.lane.fromTail(r.number, limit, maxBytes, out); ok {
			r.passed(out[n:])
			return out, nil
		}
	}
	out, err := r.fromDisk(ctx, limit, maxBytes, out)
	r.passed(out[n:])
	return out, err
}

func (r *Reader) passed(got []Stored) {
	if len(got) > 0 {
		last := &got[len(got)-1]
		r.number, r.next = last.Number, last.Next
	}
}

func (r *Reader) fromDisk(ctx context.Context, limit, maxBytes int, out []Stored) ([]Stored, error) {
	if r.disk == nil {
		if err := r.startDisk(ctx); err != nil || r.disk == nil {
			return out, err
		}
	}
	last := r.lane.Last()
	at := r.number
	for n := 0; n < limit && at < last; n++ {
		for r.used == len(r.ahead.entries) || r.ahead.first+uint64(r.used) <= at {
			if r.used < len(r.ahead.entries) {
				r.used++
				continue
			}
			if err := r.nextFromDisk(ctx); err != nil {
				r.stopDisk()
				return out, fmt.Errorf("reading %s from disk: %w", r.lane.name, err)
			}
		}
		e := r.ahead.stored(r.used)
		if e.Number > last || n > 0 && maxBytes < len(e.Data) {
			return out, nil
		}
		r.used++
		maxBytes -= len(e.Data)
		at = e.Number
		out = append(out, e)
	}
	if at >= last || r.lane.tailReaches(at) {
		r.stopDisk()
	}
	return out, nil
}

// tailReaches reports whether what follows number is in memory.
func (l *Lane) tailReaches(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tail) > 0 && l.tail[0].first <= number+1
}

// nextFromDisk waits for the next pack, which is known to exist: the number the
// reader is after is durable. A damaged pack is skipped, with its numbers: the
// hub's ledger then shows the gap, and what stands behind it flows (I6).
func (r *Reader) nextFromDisk(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		msg, err := r.disk.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		p, err := decodePack(msg.Data(), r.lane.log.opts.Subject)
		if errors.Is(err, errDamaged) {
			r.lane.log.opts.Logger.Error("a part of the local store is damaged and skipped",
				"lane", r.lane.name, "after", r.number, "sequence", meta.Sequence.Stream, "error", err)
			continue
		}
		if err != nil {
			return err
		}
		if len(p.entries) > 0 {
			r.ahead, r.used = block{first: p.first, seq: meta.Sequence.Stream, time: meta.Timestamp, entries: p.entries}, 0
			return nil
		}
	}
}

const (
	readTimeout = 30 * time.Second
	readAhead   = 2 // packs
)

func (r *Reader) startDisk(ctx context.Context) error {
	from := r.next
	if from == 0 {
		var err error
		if from, err = r.lane.Find(ctx, r.number+1); err != nil {
			return err
		}
		if from == 0 { // everything up to the newest was purged
			r.number = r.lane.Last()
			return nil
		}
	}
	c, err := r.lane.log.js.OrderedConsumer(ctx, r.lane.log.opts.Stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{r.lane.filter()},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    from,
	})
	if err != nil {
		return fmt.Errorf("reading %s from disk: %w", r.lane.name, err)
	}
	if r.disk, err = c.Messages(jetstream.PullMaxMessages(readAhead)); err != nil {
		return fmt.Errorf("reading %s from disk: %w", r.lane.name, err)
	}
	return nil
}

// Find returns the stream sequence of the pack that holds number, or the first
// number behind it that is still there; 0 when there is none.
func (l *Lane) Find(ctx context.Context, number uint64) (uint64, error) {
	found, err := l.find(ctx, number)
	return found.seq, err
}

// located is a pack and where it stands; without a pack: there is none.
type located struct {
	*pack
	seq  uint64
	time time.Time
}

// find is Find with the pack. It bisects: numbers rise with sequences.
func (l *Lane) find(ctx context.Context, number uint64) (located, error) {
	info, err := l.log.stream.Info(ctx)
	if err != nil {
		return located{}, fmt.Errorf("looking for %s %d: %w", l.name, number, err)
	}
	low, high := info.State.FirstSeq, info.State.LastSeq+1 // the answer is in low..high
	var found located
	for low < high {
		mid := low + (high-low)/2
		p, err := l.at(ctx, mid)
		if err != nil {
			return located{}, err
		}
		if p.pack == nil || p.last() >= number {
			if p.pack != nil {
				found = p
			}
			high = mid
		} else {
			low = p.seq + 1
		}
	}
	for found.pack != nil && len(found.entries) == 0 { // it carries a commit entry only
		if found, err = l.at(ctx, found.seq+1); err != nil {
			return located{}, err
		}
	}
	return found, nil
}

// First returns the lowest number that the lane still holds, 0 when it holds
// none.
func (l *Lane) First(ctx context.Context) (uint64, error) {
	at, err := l.findOldest(ctx)
	return at.first, err
}

// at returns the lane's first pack at or after seq. One that is damaged is
// passed over.
func (l *Lane) at(ctx context.Context, seq uint64) (located, error) {
	for {
		msg, err := broker.NextMessage(ctx, l.log.nc, l.log.opts.Stream, l.filter(), seq)
		if err != nil || msg == nil {
			return located{}, err
		}
		p, err := decodePack(msg.Data, l.log.opts.Subject)
		if err == nil {
			return located{p, msg.Seq, msg.Time}, nil
		}
		if !errors.Is(err, errDamaged) {
			return located{}, err
		}
		seq = msg.Seq + 1
	}
}
