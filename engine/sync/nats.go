package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/store"
)

// ErrForeign says that another edge writes to this edge's ledger.
var ErrForeign = errors.New("another edge with the same device_id writes to the hub")

// NATS is a hub reached through a leaf node.
type NATS struct {
	name   string
	edge   string
	domain string
	broker *broker.Broker
	nc     *nats.Conn
	now    func() time.Time
	log    *slog.Logger
}

var (
	_ Remote = (*NATS)(nil)
	_ Ahead  = (*natsSession)(nil)
)

// NATSOptions configures one NATS remote.
type NATSOptions struct {
	Link   string // the broker's link, and the remote's name
	Edge   string // this edge's device id
	Domain string // the hub's JetStream domain
	Broker *broker.Broker
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: silent
}

// OpenNATS connects to the link's account. It does not wait for the link.
func OpenNATS(opts NATSOptions) (*NATS, error) {
	nc, err := opts.Broker.ConnectLink(opts.Link)
	if err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &NATS{
		name: opts.Link, edge: opts.Edge, domain: opts.Domain, broker: opts.Broker, nc: nc, now: opts.Now, log: opts.Logger,
	}, nil
}

// Name returns the remote's name.
func (r *NATS) Name() string { return r.name }

// Close closes the connection to the link's account.
func (r *NATS) Close() { r.nc.Close() }

// Reachable reports whether the leaf connection is up.
func (r *NATS) Reachable() bool {
	up, _ := r.broker.LinkState(r.name)
	return up
}

// Redial tears a leaf connection down and dials anew.
func (r *NATS) Redial() error { return r.broker.Redial(r.name) }

// Probe asks the hub for its record stream: an answer proves the whole way.
func (r *NATS) Probe(ctx context.Context) error {
	if !r.Reachable() {
		return errors.New("the leaf node is not connected")
	}
	answer, err := r.nc.RequestWithContext(ctx, broker.APIPrefix(r.domain)+"STREAM.INFO."+HubRecordStream, nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("the hub has no JetStream domain %q, or does not let this edge use it", r.domain)
	}
	if err != nil {
		return fmt.Errorf("asking the hub: %w", err)
	}
	var reply struct {
		Error  *jetstream.APIError    `json:"error"`
		Config jetstream.StreamConfig `json:"config"`
	}
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return fmt.Errorf("asking the hub: reading the answer: %w", err)
	}
	switch {
	case reply.Error != nil:
		if err := noStream(reply.Error, HubRecordStream); err != nil {
			return err
		}
		return fmt.Errorf("asking the hub: %w", reply.Error)
	case !reply.Config.AllowAtomicPublish:
		return fmt.Errorf("the hub's stream %s does not allow atomic publish, which the ledger needs", HubRecordStream)
	}
	return nil
}

// noStream says what to do when a hub refuses because it lacks a stream; nil:
// that is not why.
func noStream(err error, stream string) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamNotFound {
		return nil
	}
	return fmt.Errorf("the hub has no stream %s; `edged hub` makes it", stream)
}

// natsSession pushes one feed.
type natsSession struct {
	remote *NATS
	feed   *Feed
	batch  *broker.AtomicBatch // of the batch that is pushed
	spare  *broker.AtomicBatch // of the one behind it
	staged *Batch              // what was sent through batch already, but for its commit
	newest uint64              // stream sequence of the newest ledger entry; 0: none
	at     Position
	prefix string
	ledger string
	number []string
	subs   map[string]string // local subject -> hub subject
	met    bool              // this process has asked the hub
	pushed bool              // and pushed
}

// maxSubjects bounds a session's memory of subjects.
const maxSubjects = 4096

// Session returns a session for one feed.
func (r *NATS) Session(feed *Feed) Session {
	return &natsSession{
		remote: r, feed: feed, batch: broker.NewAtomicBatch(r.nc), spare: broker.NewAtomicBatch(r.nc), prefix: feed.hubPrefix(r.edge),
		ledger: feed.ledgerSubject(r.edge), number: []string{""}, subs: map[string]string{},
	}
}

// MaxEntries is how many entries fit a push: one place is the ledger entry's.
func (s *natsSession) MaxEntries() int { return broker.MaxAtomic - 1 }

// Position reads the feed's newest ledger entry at the hub.
func (s *natsSession) Position(ctx context.Context) (Position, error) {
	msg, err := broker.LastMessage(ctx, s.remote.nc, s.remote.domain, s.feed.hubStream(), s.ledger)
	if err != nil {
		if missing := noStream(err, s.feed.hubStream()); missing != nil {
			return Position{}, missing
		}
		return Position{}, fmt.Errorf("reading the ledger of %s: %w", s.feed, err)
	}
	s.at, s.newest, s.staged = Position{}, 0, nil
	if msg == nil {
		s.met = true
		return s.at, nil
	}
	e, err := parseLedgerEntry(msg.Data)
	if err != nil {
		return Position{}, err
	}
	s.newest = msg.Seq
	if s.at, err = s.place(ctx, e); err != nil {
		return Position{}, err
	}
	s.met = true
	return s.at, nil
}

// place finds where this edge stands, given the newest ledger entry.
func (s *natsSession) place(ctx context.Context, e LedgerEntry) (Position, error) {
	lane := s.feed.Lane
	eras := lane.Eras()
	i := slices.IndexFunc(eras, func(era store.Era) bool { return era.Epoch == e.Epoch })
	switch {
	case i < 0 && (s.pushed || s.feed.Known.Last > 0):
		// This edge has synced before, and what is there now is not from it.
		return Position{}, fmt.Errorf("%w: the ledger of %s was last written at %s by epoch %s, this edge's is %s",
			ErrForeign, s.feed, e.Time.Format(time.RFC3339), e.Epoch, eras[len(eras)-1].Epoch)
	case i < 0: // an edge whose store was lost begins anew
		return Position{Last: eras[0].From - 1}, nil
	case i < len(eras)-1:
		return Position{Last: min(e.Last, eras[i+1].From-1), Total: e.Total, Expired: e.ExpiredTotal}, nil
	case e.Last <= lane.Opened() || s.met && e.Last <= lane.Last():
		// Until this process has met the hub, the hub can have no more than was
		// stored when the lane was opened.
		return Position{Last: e.Last, Total: e.Total, Expired: e.ExpiredTotal}, nil
	}
	// The hub has more than this edge ever stored: the store has gone back in
	// time, by a restore or a power cut without fsync. All that was there when it
	// was opened is at the hub; all that came after is new.
	s.remote.log.Error("the hub has records that this edge's store has lost; a new epoch begins",
		"feed", s.feed.String(), "hub", e.Last, "store", lane.Opened())
	if err := lane.NewEra(ctx, lane.Opened()); err != nil {
		return Position{}, err
	}
	return Position{Last: lane.Opened(), Total: e.Total, Expired: e.ExpiredTotal}, nil
}

// Push implements [Session].
func (s *natsSession) Push(ctx context.Context, b *Batch) error { return s.PushAhead(ctx, b, nil) }

// PushAhead sends the entries and the ledger entry that settles everything up to
// b.Last as one atomic batch. After an error the session must ask for its
// position again: the batch may have been stored, its answer lost.
//
// While the hub commits it, the entries of the next batch are on their way. Only
// their commit waits: it expects the ledger entry of this batch, so that nothing
// of the next is stored if this one is not.
func (s *natsSession) PushAhead(ctx context.Context, b *Batch, next func() *Batch) error {
	if s.staged != b {
		s.stage(s.batch, b)
	}
	s.staged = nil
	era, _ := s.feed.Lane.EraOf(b.Last)
	entry := newLedgerEntry(era, s.at, b, s.remote.now())
	data, err := json.Marshal(&entry)
	if err != nil {
		return fmt.Errorf("encoding a ledger entry: %w", err)
	}
	s.number[0] = formatNumber(b.Last)
	if err := s.batch.Ask(s.ledger, data, s.newest); err != nil {
		return fmt.Errorf("sending %d of %s: %w", len(b.Entries), s.feed, err)
	}
	var ahead *Batch
	if next != nil {
		if ahead = next(); ahead != nil {
			s.stage(s.spare, ahead)
		}
	}
	seq, err := s.batch.Answer(ctx)
	if err != nil {
		return fmt.Errorf("sending %d of %s: %w", len(b.Entries), s.feed, err)
	}
	s.newest, s.pushed = seq, true
	s.at = Position{Last: b.Last, Total: entry.Total, Expired: entry.ExpiredTotal}
	if ahead != nil {
		s.staged, s.batch, s.spare = ahead, s.spare, s.batch
	}
	return nil
}

// stage publishes a batch but for its commit. The first error is kept for that.
func (s *natsSession) stage(to *broker.AtomicBatch, b *Batch) {
	to.Begin()
	to.Header(HeaderNumber, s.number)
	for i := range b.Entries {
		e := &b.Entries[i]
		s.number[0] = formatNumber(e.Number)
		to.Add(s.subject(e.Subject), e.Data)
	}
}

// subject maps a local subject to the hub's: the log's prefix is replaced, the
// tokens behind it stay.
func (s *natsSession) subject(local string) string {
	if hub, ok := s.subs[local]; ok {
		return hub
	}
	if len(s.subs) >= maxSubjects {
		clear(s.subs)
	}
	hub := s.prefix + local[len(s.feed.localPrefix()):]
	s.subs[local] = hub
	return hub
}
