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
	Priority string
	Topic    string
	Limit    int // at most so many; 0: all
}

// Waiting is a message that a remote has yet to take.
type Waiting struct {
	record.Message
	Number uint64 `json:"number"` // in its priority
	Bytes  int    `json:"bytes"`  // of the whole message as it is stored
}

// Passed tells up to which number the messages of a priority have been taken by
// every remote.
type Passed func(record.Priority) uint64

// EachWaiting calls each for the messages that wait, most urgent first and
// oldest first among those. It only looks: nothing is taken. It reads from disk,
// the whole queue once for every priority, and holds one commit at a time.
func EachWaiting(ctx context.Context, nc *nats.Conn, passed Passed, filter MessageFilter, each func(*Waiting) error) error {
	n := 0
	for _, p := range record.Priorities {
		if filter.Priority != "" && filter.Priority != p.String() {
			continue
		}
		err := scanWaiting(ctx, nc, passed, func(m *Waiting) error {
			if m.Priority != p || filter.Topic != "" && filter.Topic != m.Topic {
				return nil
			}
			if err := each(m); err != nil {
				return err
			}
			if n++; n == filter.Limit {
				return store.ErrEnough
			}
			return nil
		})
		if err != nil || n > 0 && n == filter.Limit {
			return err
		}
	}
	return nil
}

func scanWaiting(ctx context.Context, nc *nats.Conn, passed Passed, each func(*Waiting) error) error {
	var done [len(record.Priorities)]uint64
	for _, p := range record.Priorities {
		done[p] = passed(p)
	}
	err := store.Scan(ctx, nc, Stream, Subject, func(f *store.Found) error {
		p, err := record.ParsePriority(f.Lane)
		if err != nil || f.Number <= done[p] {
			return nil
		}
		m := Waiting{Number: f.Number, Bytes: len(f.Data)}
		if json.Unmarshal(f.Data, &m.Message) != nil {
			return nil // `edged store verify` tells of it
		}
		m.Priority = p
		return each(&m)
	})
	if errors.Is(err, store.ErrNoStream) {
		return nil
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
	Oldest   time.Time       `json:"oldest"` // when the oldest was raised
	Newest   time.Time       `json:"newest"`
}

// WaitingStats reads the whole queue and sums up what waits.
func WaitingStats(ctx context.Context, nc *nats.Conn, passed Passed) (Stats, error) {
	type key struct {
		priority record.Priority
		topic    string
	}
	topics := map[key]*TopicStat{}
	stats := Stats{Topics: []TopicStat{}}
	err := scanWaiting(ctx, nc, passed, func(m *Waiting) error {
		k := key{m.Priority, m.Topic}
		t := topics[k]
		if t == nil {
			t = &TopicStat{Priority: k.priority, Topic: k.topic, Oldest: m.Created, Newest: m.Created}
			topics[k] = t
		}
		t.Waiting++
		t.Bytes += uint64(m.Bytes)
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
