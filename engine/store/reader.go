package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// Stored is one entry as it stands in the log. Its bytes are shared: read only.
type Stored struct {
	Number  uint64
	Seq     uint64 // in the stream
	Subject string
	Data    []byte
}

// Reader reads a lane in order. It serves from memory while it keeps up with
// the writer and from disk when it does not. One goroutine at a time.
type Reader struct {
	lane   *Lane
	number uint64 // of the last entry handed out
	seq    uint64 // its stream sequence; 0: not known
	disk   jetstream.MessagesContext
	ahead  *Stored // read from disk, did not fit the last call
}

// NewReader returns a reader that continues after number. Close it.
func (l *Lane) NewReader(number uint64) *Reader { return &Reader{lane: l, number: number} }

// Number returns the number of the last entry handed out.
func (r *Reader) Number() uint64 { return r.number }

// Seek continues after number.
func (r *Reader) Seek(number uint64) {
	if number != r.number {
		r.stopDisk()
		r.number, r.seq = number, 0
	}
}

// Close releases what the reader holds.
func (r *Reader) Close() { r.stopDisk() }

func (r *Reader) stopDisk() {
	if r.disk != nil {
		r.disk.Stop()
		r.disk, r.ahead = nil, nil
	}
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
		r.number, r.seq = last.Number, last.Seq
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
		e := r.ahead
		r.ahead = nil
		if e == nil {
			var err error
			if e, err = r.nextFromDisk(ctx); err != nil {
				r.stopDisk()
				return out, fmt.Errorf("reading %s from disk: %w", r.lane.name, err)
			}
		}
		if n > 0 && maxBytes < len(e.Data) {
			r.ahead = e
			return out, nil
		}
		maxBytes -= len(e.Data)
		at = e.Number
		out = append(out, *e)
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

// nextFromDisk waits for the next entry, which is known to exist: the number
// the reader is after is durable.
func (r *Reader) nextFromDisk(ctx context.Context) (*Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		msg, err := r.disk.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, err
		}
		number, err := strconv.ParseUint(msg.Headers().Get(HeaderNumber), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("an entry without a number on %s", msg.Subject())
		}
		if number <= r.number {
			continue
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, err
		}
		return &Stored{Number: number, Seq: meta.Sequence.Stream, Subject: msg.Subject(), Data: msg.Data()}, nil
	}
}

const (
	readTimeout = 30 * time.Second
	readAhead   = 512
)

func (r *Reader) startDisk(ctx context.Context) error {
	from := r.seq + 1
	if r.seq == 0 {
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

// filter matches the lane's entries.
func (l *Lane) filter() string { return l.log.opts.Subject + "." + l.token + ".>" }

// Find returns the stream sequence of the first entry whose number is at least
// number, 0 when there is none, by bisection: numbers rise with sequences.
func (l *Lane) Find(ctx context.Context, number uint64) (uint64, error) {
	info, err := l.log.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("looking for %s %d: %w", l.name, number, err)
	}
	low, high := info.State.FirstSeq, info.State.LastSeq+1 // the answer is in low..high
	var found uint64
	for low < high {
		mid := low + (high-low)/2
		seq, n, err := l.at(ctx, mid)
		if err != nil {
			return 0, err
		}
		if seq == 0 || n >= number {
			if seq != 0 {
				found = seq
			}
			high = mid
		} else {
			low = seq + 1
		}
	}
	return found, nil
}

// First returns the lowest number that the lane still holds, 0 when it holds
// none.
func (l *Lane) First(ctx context.Context) (uint64, error) {
	_, number, err := l.at(ctx, 1)
	return number, err
}

// at returns sequence and number of the lane's first entry at or after seq.
func (l *Lane) at(ctx context.Context, seq uint64) (uint64, uint64, error) {
	msg, err := broker.NextMessage(ctx, l.log.nc, l.log.opts.Stream, l.filter(), seq)
	if err != nil || msg == nil {
		return 0, 0, err
	}
	hdr, err := nats.DecodeHeadersMsg(msg.Header)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the header of %s at %d: %w", l.name, msg.Seq, err)
	}
	n, err := strconv.ParseUint(hdr.Get(HeaderNumber), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("entry %d of %s has no number", msg.Seq, l.log.opts.Stream)
	}
	return msg.Seq, n, nil
}

// NextOutbox waits for the next outbox after stream sequence seq and returns it
// with its own sequence. It returns ctx's error when ctx ends.
func (l *Log) NextOutbox(ctx context.Context, seq uint64) (*Outbox, uint64, error) {
	for {
		changed := l.outbox.Wait()
		// A message can be read before the commit it belongs to is flushed.
		if durable := l.durable.Load(); seq < durable {
			msg, err := broker.NextMessage(ctx, l.nc, l.opts.Stream, l.outboxSubject("*"), seq+1)
			if err != nil {
				return nil, 0, err
			}
			if msg != nil && msg.Seq <= l.durable.Load() {
				var box Outbox
				if err := json.Unmarshal(msg.Data, &box); err != nil {
					return nil, 0, fmt.Errorf("reading outbox %d of %s: %w", msg.Seq, l.opts.Stream, err)
				}
				return &box, msg.Seq, nil
			}
		}
		select {
		case <-changed:
		case <-l.stop:
			return nil, 0, ErrClosed
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}
