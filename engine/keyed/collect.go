package keyed

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/record"
)

// DefaultAbsence is how long an edge may be away and still be told of deletes
// one by one.
const DefaultAbsence = 30 * 24 * time.Hour

// Collected is what a collection has done.
type Collected struct {
	Tombstones int // removed
	Edges      int // forgotten, because they were away for too long
}

// Collect removes the tombstones of a hub that are older than absence and that
// every edge of their store is past, and forgets the edges that have not been
// seen for that long. An edge that comes back later compares everything. It
// reads the whole bucket; one at a time may run.
func Collect(ctx context.Context, nc *nats.Conn, domain string, absence time.Duration, now time.Time) (Collected, error) {
	js, err := openJetStream(nc, domain)
	if err != nil {
		return Collected{}, err
	}
	c := collector{js: js, hub: NewNATSHub(nc, domain, ""), old: now.Add(-absence), floors: map[string]uint64{}}
	if err := c.readEdges(ctx); err != nil {
		return c.done, fmt.Errorf("collecting tombstones: %w", err)
	}
	if err := c.readTombstones(ctx); err != nil {
		return c.done, fmt.Errorf("collecting tombstones: %w", err)
	}
	for _, store := range c.order {
		if err := c.remove(ctx, store); err != nil {
			return c.done, fmt.Errorf("collecting tombstones: %w", err)
		}
	}
	return c.done, nil
}

type collector struct {
	js     jetstream.JetStream
	hub    *NATSHub
	old    time.Time
	floors map[string]uint64 // by store, as a token: the position of the edge that is furthest behind
	order  []string
	stale  map[string][]tombstone
	done   Collected
}

type tombstone struct {
	subject  string
	revision uint64
}

// readEdges finds the floor of every store. A store that no edge has registered
// for has none.
func (c *collector) readEdges(ctx context.Context) error {
	return c.each(ctx, edgesStream, edgesSubject+edgeToken+">", func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if len(m.Data()) == 0 {
			return nil
		}
		var r Registration
		if err := json.Unmarshal(m.Data(), &r); err != nil {
			return fmt.Errorf("the registration %s: %w", m.Subject(), err)
		}
		if meta.Timestamp.Before(c.old) {
			c.done.Edges++
			return c.purge(ctx, edgesStream, m.Subject(), meta.Sequence.Stream)
		}
		store, _, _ := strings.Cut(strings.TrimPrefix(m.Subject(), edgesSubject+edgeToken), ".")
		if floor, ok := c.floors[store]; !ok || r.Position < floor {
			c.floors[store] = r.Position
		}
		return nil
	})
}

func (c *collector) readTombstones(ctx context.Context) error {
	c.stale = map[string][]tombstone{}
	return c.each(ctx, hubStream, hubSubject+">", func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if !meta.Timestamp.Before(c.old) {
			return nil
		}
		store, _, _ := strings.Cut(strings.TrimPrefix(m.Subject(), hubSubject), ".")
		r := decodeRemote("", meta.Sequence.Stream, meta.Timestamp, map[string][]string(m.Headers()), m.Data())
		floor, known := c.floors[store]
		if r.Value == nil || !r.Value.Deleted || known && r.Revision > floor {
			return nil
		}
		if c.stale[store] == nil {
			c.order = append(c.order, store)
		}
		c.stale[store] = append(c.stale[store], tombstone{m.Subject(), r.Revision})
		return nil
	})
}

// remove removes the tombstones of a store. That they are gone is told first.
func (c *collector) remove(ctx context.Context, store string) error {
	stale := c.stale[store]
	name, err := record.Untoken(store)
	if err != nil {
		return nil // no store of an edge
	}
	c.hub.store = name
	state, err := c.hub.State(ctx, Position{})
	if err != nil {
		return err
	}
	last := max(state.Collected, stale[len(stale)-1].revision) // they came in the order of revisions
	if err := natsPut(ctx, c.hub.nc, c.hub.into(edgesSubject+collectToken+store), []byte(strconv.FormatUint(last, 10))); err != nil {
		return err
	}
	for _, t := range stale {
		if err := c.purge(ctx, hubStream, t.subject, t.revision); err != nil {
			return err
		}
		c.done.Tombstones++
	}
	return nil
}

// purge removes what a subject has up to a sequence; what came since stays.
func (c *collector) purge(ctx context.Context, stream, subject string, seq uint64) error {
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(seq+1))
}

// each calls visit for the newest message of every subject.
func (c *collector) each(ctx context.Context, stream, filter string, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	consumer, err := c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: []string{filter},
	})
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil || info.NumPending == 0 {
		return err
	}
	msgs, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer msgs.Stop()
	for {
		m, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := visit(m, meta); err != nil {
			return err
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}
