package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
)

// tries is what became of the newest batch of a feed that was not taken.
type tries struct {
	count int       // in a row
	next  time.Time // the next one
	upTo  uint64    // the last number in the batch
}

// tried notes that what goes next was not taken; f.mu is not held.
func (f *FeedSender) tried(next time.Time) {
	at, _, _ := f.Status()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries = tries{count: f.tries.count + 1, next: next, upTo: max(f.load.last, at.Last+1)}
}

// Delivery tells how the sending of an entry stands: what is tried is the batch it
// goes in. ok is false when the remote has passed it.
func (f *FeedSender) Delivery(number uint64) (d queue.Delivery, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if number <= f.at.Last {
		return d, false
	}
	if f.tries.count > 0 && number <= f.tries.upTo {
		d.Attempts, d.NextTry = f.tries.count, f.tries.next.UTC()
		if f.lastErr != nil {
			d.LastError = f.lastErr.Error()
		}
	}
	return d, true
}

// Asides returns the messages that HTTP APIs have put off, those of every remote,
// each with its schedule. It reads from disk what is bounded per feed.
func Asides(ctx context.Context, nc *nats.Conn) ([]queue.Waiting, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, HTTPStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what is put aside: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(httpSubject+".*.queue.*.aside.>"))
	if err != nil {
		return nil, fmt.Errorf("reading what is put aside: %w", err)
	}
	var found []queue.Waiting
	for subject := range info.State.Subjects {
		w, err := readAside(ctx, stream, subject)
		if err != nil {
			return nil, fmt.Errorf("reading what is put aside: %w", err)
		}
		if w != nil {
			found = append(found, *w)
		}
	}
	return found, nil
}

// readAside returns nil for what has been settled meanwhile.
func readAside(ctx context.Context, stream jetstream.Stream, subject string) (*queue.Waiting, error) {
	msg, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && len(msg.Data) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tokens := strings.Split(strings.TrimPrefix(subject, httpSubject+"."), ".") // remote, queue, priority, aside, epoch, number
	if len(tokens) != 6 {
		return nil, nil
	}
	var a aside
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	remote, err := record.Untoken(tokens[0])
	if err != nil {
		return nil, err
	}
	priority, err := record.ParsePriority(tokens[2])
	if err != nil {
		return nil, err
	}
	w := &queue.Waiting{Bytes: len(a.Data)}
	if err := json.Unmarshal(a.Data, &w.Message); err != nil {
		w.ID = strconv.FormatUint(a.Number, 10) // it is shown all the same
	}
	w.Priority, w.Number = priority, a.Number
	w.Deliveries = []queue.Delivery{{
		Remote: remote, Attempts: a.Attempts, MaxAttempts: a.Most, NextTry: a.Next, LastError: a.Error, Aside: true,
	}}
	return w, nil
}
