// Package queue holds what leaves the record stream sideways: the messages that
// wait for a remote, by priority, and the dead letters. Both stand in streams
// of their own and are filled from the record log's outbox, exactly once.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// Local names.
const (
	Stream              = "EDGED_QUEUE"
	Subject             = "edged.queue"
	DeadLetterStream    = "EDGED_DEAD_LETTERS"
	DeadLetterSubject   = "edged.dead_letters"
	outboxSource        = "outbox" // the position each lane keeps: the outbox it has taken last
	maxOutboxesInMotion = 64
	moveRetry           = time.Second
)

// Options configures the queue and the dead letters.
type Options struct {
	QueueBytes      int64                     // bound of the queue on disk; at the bound messages wait in the record log
	DeadLetterBytes int64                     // bound of the dead letters on disk; at the bound the oldest go
	Gate            *store.Gate               // see [store.Options]
	Flush           func(stream string) error // likewise
	Logger          *slog.Logger
}

// Queue is the priority queue and the dead letters of one edge.
type Queue struct {
	messages    *store.Log
	deadLetters *store.Log
	lanes       [len(record.Priorities)]*store.Lane

	mu     sync.Mutex
	idle   sync.Cond
	moving int    // groups appended and not yet durable
	taken  uint64 // outbox up to which groups were appended
	moved  uint64 // outbox up to which everything is durable
	failed error
}

// Open creates or opens both streams.
func Open(ctx context.Context, nc *nats.Conn, opts Options) (*Queue, error) {
	messages, err := store.Open(ctx, nc, store.Options{
		Stream: Stream, Subject: Subject, MaxBytes: opts.QueueBytes, Gate: opts.Gate, Reserved: true, Flush: opts.Flush, Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	q := &Queue{messages: messages}
	q.idle.L = &q.mu
	for _, p := range record.Priorities {
		if q.lanes[p], err = messages.Lane(ctx, p.String()); err != nil {
			return nil, errors.Join(err, messages.Close(ctx))
		}
	}
	q.deadLetters, err = store.Open(ctx, nc, store.Options{
		Stream: DeadLetterStream, Subject: DeadLetterSubject, MaxBytes: opts.DeadLetterBytes, DropOldest: true, Single: true,
		Gate: opts.Gate, Reserved: true, Flush: opts.Flush, Logger: opts.Logger,
	})
	if err != nil {
		return nil, errors.Join(err, messages.Close(ctx))
	}
	return q, nil
}

// StopWaiting lets messages that find no room stay in the record log; see
// [store.Log.StopWaiting].
func (q *Queue) StopWaiting() {
	q.messages.StopWaiting()
	q.deadLetters.StopWaiting()
}

// Close commits what waits and closes both streams. [Queue.Move] has returned.
func (q *Queue) Close(ctx context.Context) error {
	return errors.Join(q.messages.Close(ctx), q.deadLetters.Close(ctx))
}

// Log returns the log that the messages stand in.
func (q *Queue) Log() *store.Log { return q.messages }

// DeadLetters returns the log that the dead letters stand in, one lane per
// pipeline.
func (q *Queue) DeadLetters() *store.Log { return q.deadLetters }

// Lane returns the messages of one priority, numbered.
func (q *Queue) Lane(p record.Priority) *store.Lane { return q.lanes[p] }

// Resume tells, before Move, what Moved was when the process last ran: Move
// looks at the outboxes behind it only.
func (q *Queue) Resume(moved uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken, q.moved = moved, moved
}

// Rewind tells, before Move, up to which stream sequence the record log reaches.
// A lane that has taken an outbox beyond it was filled from a log that has lost
// its end since: that log will give the sequence to another outbox, which must
// not be taken for the old one.
func (q *Queue) Rewind(ctx context.Context, durable uint64) error {
	for _, lane := range append(q.messages.Lanes(), q.deadLetters.Lanes()...) {
		if taken(lane) <= durable {
			continue
		}
		stored := make(chan error, 1)
		g := &store.Group{Source: outboxSource, Position: strconv.AppendUint(nil, durable, 10), Done: func(err error) { stored <- err }}
		if err := lane.Append(ctx, g); err != nil {
			return fmt.Errorf("taking back a position of the queue: %w", err)
		}
		select {
		case err := <-stored:
			if err != nil {
				return fmt.Errorf("taking back a position of the queue: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Moved returns the stream sequence of the record log up to which every outbox
// has been taken over durably, as far as this process knows.
func (q *Queue) Moved() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.moved
}

// Move takes over the outboxes of the record log until ctx ends or the log
// closes. A lane remembers the outbox it took last together with what it took,
// so that after a kill nothing is missing and nothing comes twice (I2, I6).
func (q *Queue) Move(ctx context.Context, records *store.Log) error {
	defer q.settle()
	at := q.Moved()
	for {
		box, seq, err := records.NextOutbox(ctx, at)
		switch {
		case ctx.Err() != nil || errors.Is(err, store.ErrClosed):
			return nil
		case err != nil: // the disk, or the server that is started anew after it failed
			q.messages.Logger().Warn("messages wait in the record log", "error", err)
			select {
			case <-time.After(moveRetry):
			case <-ctx.Done():
			}
			continue
		}
		if err := q.take(ctx, box, seq); err != nil {
			if ctx.Err() != nil || errors.Is(err, store.ErrNoRoom) {
				return nil // what was not taken stays in the record log
			}
			return fmt.Errorf("moving messages to the queue: %w", err)
		}
		at = seq
	}
}

func (q *Queue) take(ctx context.Context, box *store.Outbox, seq uint64) error {
	groups := map[*store.Lane]*store.Group{}
	add := func(lane *store.Lane, subject string, data []byte) {
		g := groups[lane]
		if g == nil {
			g = &store.Group{Source: outboxSource, Position: strconv.AppendUint(nil, seq, 10), Done: q.stored}
			groups[lane] = g
		}
		g.Entries = append(g.Entries, store.Entry{Subject: subject, Data: data})
	}
	for i := range box.Messages {
		m := &box.Messages[i]
		lane := q.lanes[m.Priority]
		if taken(lane) >= seq {
			continue
		}
		data, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encoding message %s: %w", m.ID, err)
		}
		add(lane, lane.Subject(m.Topic), data)
	}
	for i := range box.DeadLetters {
		d := &box.DeadLetters[i]
		lane, err := q.deadLetters.Lane(ctx, d.Pipeline)
		if err != nil {
			return err
		}
		if taken(lane) >= seq {
			continue
		}
		data, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("encoding dead letter %s: %w", d.ID, err)
		}
		add(lane, lane.Subject(d.Stage), data)
	}
	q.mu.Lock()
	for q.moving > maxOutboxesInMotion && q.failed == nil {
		q.idle.Wait()
	}
	err := q.failed
	q.taken = seq
	q.moving++ // the outbox itself, until all its groups are appended
	q.mu.Unlock()
	for lane, g := range groups {
		if err != nil {
			break
		}
		q.mu.Lock()
		q.moving++
		q.mu.Unlock()
		if err = lane.Append(ctx, g); err != nil {
			q.stored(err)
		}
	}
	q.stored(err)
	return err
}

// Bury stores one dead letter that does not come from the record log, and
// returns when it is durable.
func (q *Queue) Bury(ctx context.Context, d record.DeadLetter) error {
	lane, err := q.deadLetters.Lane(ctx, d.Pipeline)
	if err != nil {
		return err
	}
	data, err := json.Marshal(&d)
	if err != nil {
		return fmt.Errorf("encoding dead letter %s: %w", d.ID, err)
	}
	stored := make(chan error, 1)
	g := &store.Group{Entries: []store.Entry{{Subject: lane.Subject(d.Stage), Data: data}}, Done: func(err error) { stored <- err }}
	if err := lane.Append(ctx, g); err != nil {
		return err
	}
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stored notes that one group is durable.
func (q *Queue) stored(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.moving--
	if err != nil && q.failed == nil {
		q.failed = err
	}
	if q.moving == 0 && q.failed == nil {
		q.moved = q.taken
	}
	q.idle.Broadcast()
}

// settle waits until what was appended is durable or refused.
func (q *Queue) settle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.moving > 0 {
		q.idle.Wait()
	}
}

func taken(lane *store.Lane) uint64 {
	n, err := strconv.ParseUint(string(lane.Position(outboxSource)), 10, 64)
	if err != nil { // the lane has never taken any
		return 0
	}
	return n
}
