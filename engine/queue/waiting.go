package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// MessageFilter says which waiting messages are meant; what is empty does not
// matter.
type MessageFilter struct {
	IDs      []string // or the beginnings of IDs
	Priority string
	Topic    string
	Limit    int // at most so many; 0: all
}

func (f *MessageFilter) fits(m *Waiting) bool {
	switch {
	case f.Priority != "" && f.Priority != m.Priority.String():
	case f.Topic != "" && f.Topic != m.Topic:
	case len(f.IDs) > 0 && !slices.ContainsFunc(f.IDs, func(id string) bool { return strings.HasPrefix(m.ID, id) }):
	default:
		return true
	}
	return false
}

// Waiting is a message that a remote has yet to take.
type Waiting struct {
	record.Message
	Number uint64 `json:"number"` // in its priority
	Bytes  int    `json:"bytes"`  // of the whole message as it is stored
	// Deliveries has one for each remote that has yet to take it, as far as that
	// is known.
	Deliveries []Delivery `json:"deliveries,omitempty"`
}

// Delivery is how the sending of a message to one remote stands.
type Delivery struct {
	Remote string `json:"remote"`
	// Attempts counts what was tried in vain: of the message itself when it was
	// put aside, else of the batch it goes in.
	Attempts    int       `json:"attempts"`
	MaxAttempts int       `json:"max_attempts,omitempty"` // 0: it is tried for as long as it takes
	NextTry     time.Time `json:"next_try,omitzero"`      // zero: in its turn
	LastError   string    `json:"last_error,omitempty"`
	// Aside says that the remote has refused this message for now: those behind it
	// go on, and it is sent again by itself.
	Aside bool `json:"aside,omitempty"`
}

// Standing is how far the remotes are.
type Standing struct {
	// Passed is the number up to which every remote has passed the messages of a
	// priority.
	Passed func(record.Priority) uint64
	// Aside are the messages that some remote has passed and put aside.
	Aside []Waiting
	// Deliveries tells which remotes have yet to pass a message; nil: it is not
	// known.
	Deliveries func(*Waiting) []Delivery
}

// EachWaiting calls each for the messages that wait, most urgent first and
// oldest first among those. It only looks: nothing is taken. It reads from disk,
// the whole queue once for every priority, and holds one commit at a time.
func EachWaiting(ctx context.Context, nc *nats.Conn, standing Standing, filter MessageFilter, each func(*Waiting) error) error {
	n := 0
	give := func(m *Waiting) error {
		if !filter.fits(m) {
			return nil
		}
		if err := each(m); err != nil {
			return err
		}
		if n++; n == filter.Limit {
			return store.ErrEnough
		}
		return nil
	}
	for _, p := range record.Priorities {
		if filter.Priority != "" && filter.Priority != p.String() {
			continue
		}
		err := standing.each(ctx, nc, func(q record.Priority) bool { return q == p }, give)
		if errors.Is(err, store.ErrEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls give for what waits of some priorities: what was put aside by every
// remote that has passed it, and then what some remote has not passed, as it was
// stored. The error of give ends it.
func (s *Standing) each(ctx context.Context, nc *nats.Conn, of func(record.Priority) bool, give func(*Waiting) error) error {
	type key struct {
		priority record.Priority
		number   uint64
		id       string
	}
	aside := map[key]*Waiting{}
	var before []*Waiting
	for i := range s.Aside {
		m := &s.Aside[i]
		if !of(m.Priority) {
			continue
		}
		k := key{m.Priority, m.Number, m.ID}
		if other := aside[k]; other != nil { // by another remote too
			other.Deliveries = append(other.Deliveries, m.Deliveries...)
			continue
		}
		own := *m
		aside[k] = &own
		before = append(before, &own)
	}
	slices.SortFunc(before, func(a, b *Waiting) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Number, b.Number))
	})
	for _, m := range before {
		if m.Number <= s.Passed(m.Priority) {
			if err := give(m); err != nil {
				return err
			}
		}
	}
	return scanWaiting(ctx, nc, s.Passed, func(m *Waiting) error {
		if !of(m.Priority) {
			return nil
		}
		if s.Deliveries != nil {
			m.Deliveries = s.Deliveries(m)
		}
		if other := aside[key{m.Priority, m.Number, m.ID}]; other != nil {
			m.Deliveries = append(m.Deliveries, other.Deliveries...)
		}
		return give(m)
	})
}

// scanWaiting calls each for what some remote has not passed. ErrEnough from it
// is returned.
func scanWaiting(ctx context.Context, nc *nats.Conn, passed func(record.Priority) uint64, each func(*Waiting) error) error {
	var done [len(record.Priorities)]uint64
	for _, p := range record.Priorities {
		done[p] = passed(p)
	}
	enough := false
	err := store.Scan(ctx, nc, Stream, Subject, nil, func(f *store.Found) error {
		p, err := record.ParsePriority(f.Lane)
		if err != nil || f.Number <= done[p] {
			return nil
		}
		m := Waiting{Number: f.Number, Bytes: len(f.Data)}
		if json.Unmarshal(f.Data, &m.Message) != nil {
			return nil // `edged store verify` tells of it
		}
		m.Priority = p
		err = each(&m)
		enough = errors.Is(err, store.ErrEnough)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNoStream):
		return nil
	case err == nil && enough:
		return store.ErrEnough
	}
	return err
}

// Stats tells what waits in the queue.
type Stats struct {
	Waiting uint64      `json:"waiting"`
	Bytes   uint64      `json:"bytes"`
	Oldest  time.Time   `json:"oldest,omitzero"`
	Topics  []TopicStat `json:"topics"` // most urgent first, then by name
}

// TopicStat is one topic of one priority.
type TopicStat struct {
	Priority record.Priority `json:"priority"`
	Topic    string          `json:"topic"`
	Waiting  uint64          `json:"waiting"`
	Bytes    uint64          `json:"bytes"`
	Retrying uint64          `json:"retrying"` // of these, tried in vain so far
	Oldest   time.Time       `json:"oldest"`   // when the oldest was raised
	Newest   time.Time       `json:"newest"`
}

// WaitingStats reads the whole queue and sums up what waits; the filter's Limit
// does not matter.
func WaitingStats(ctx context.Context, nc *nats.Conn, standing Standing, filter MessageFilter) (Stats, error) {
	type key struct {
		priority record.Priority
		topic    string
	}
	topics := map[key]*TopicStat{}
	stats := Stats{Topics: []TopicStat{}}
	err := standing.each(ctx, nc, func(record.Priority) bool { return true }, func(m *Waiting) error {
		if !filter.fits(m) {
			return nil
		}
		k := key{m.Priority, m.Topic}
		t := topics[k]
		if t == nil {
			t = &TopicStat{Priority: k.priority, Topic: k.topic, Oldest: m.Created, Newest: m.Created}
			topics[k] = t
		}
		t.Waiting++
		t.Bytes += uint64(m.Bytes)
		if slices.ContainsFunc(m.Deliveries, func(d Delivery) bool { return d.Attempts > 0 }) {
			t.Retrying++
		}
		if m.Created.Before(t.Oldest) {
			t.Oldest = m.Created
		}
		if m.Created.After(t.Newest) {
			t.Newest = m.Created
		}
		return nil
	})
	for _, t := range topics {
		stats.Waiting += t.Waiting
		stats.Bytes += t.Bytes
		if stats.Oldest.IsZero() || t.Oldest.Before(stats.Oldest) {
			stats.Oldest = t.Oldest
		}
		stats.Topics = append(stats.Topics, *t)
	}
	slices.SortFunc(stats.Topics, func(a, b TopicStat) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Topic, b.Topic))
	})
	return stats, err
}
