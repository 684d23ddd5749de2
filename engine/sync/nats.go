package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

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
	rate   *Rate
	wait   time.Duration // for the answer to a push
	now    func() time.Time
	log    *slog.Logger

	trouble  trouble
	inFlight atomic.Int64 // bytes of pushes that are not answered yet

	mu     sync.Mutex
	probes int
	seen   map[string]incarnation // by stream
}

var (
	_ Remote   = (*NATS)(nil)
	_ Ahead    = (*natsSession)(nil)
	_ troubled = (*NATS)(nil)
	_ pinged   = (*NATS)(nil)
)

const (
	askTimeout = 10 * time.Second // for an answer to a small question
	// pushTimeout is for the answer to a push. A hub whose stream changes its leader
	// forgets what is under way, so it should not be long; sending again is safe.
	pushTimeout = 20 * time.Second
	// Either may take a second more for every slowestLink bytes that are under way.
	slowestLink = 4 << 10
)

// NATSOptions configures one NATS remote.
type NATSOptions struct {
	Link   string // the broker's link, and the remote's name
	Edge   string // this edge's device id
	Domain string // the hub's JetStream domain
	Broker *broker.Broker
	Rate   *Rate // bounds what is sent; nil: nothing does
	// PushTimeout is how long the answer to a push may take, beside a second for
	// every 4 KiB under way; 0: 20 s.
	PushTimeout time.Duration
	Now         func() time.Time // nil: time.Now
	Logger      *slog.Logger     // nil: silent
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
	if opts.PushTimeout == 0 {
		opts.PushTimeout = pushTimeout
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &NATS{
		name: opts.Link, edge: opts.Edge, domain: opts.Domain, broker: opts.Broker, nc: nc, rate: opts.Rate, wait: opts.PushTimeout,
		now: opts.Now, log: opts.Logger, seen: map[string]incarnation{},
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

func (r *NATS) pinged() {}

// Trouble is why the hub refuses the newest push of some feed, or nil.
func (r *NATS) Trouble() error { return r.trouble.any() }

// patience bounds a wait for an answer, which comes behind all that is under way.
func (r *NATS) patience(ctx context.Context, base time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, base+time.Duration(r.inFlight.Load()/slowestLink)*time.Second)
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
	seq    uint64            // stream sequence of the newest ledger entry that this edge is known to have made
	alone  int               // so many pushes go with nothing behind them
}

// maxSubjects bounds a session's memory of subjects.
const maxSubjects = 4096

// Session returns a session for one feed.
func (r *NATS) Session(feed *Feed) Session {
	return &natsSession{
		remote: r, feed: feed, batch: broker.NewAtomicBatch(r.nc), spare: broker.NewAtomicBatch(r.nc), prefix: feed.hubPrefix(r.edge),
		ledger: feed.ledgerSubject(r.edge), number: []string{""}, subs: map[string]string{}, seq: feed.Known.Seq, met: feed.Met,
	}
}

// MaxEntries is how many entries fit a push: one place is the ledger entry's.
func (s *natsSession) MaxEntries() int { return broker.MaxAtomic - 1 }

// Position reads the feed's newest ledger entry at the hub.
func (s *natsSession) Position(ctx context.Context) (Position, error) {
	ctx, cancel := s.remote.patience(ctx, askTimeout)
	defer cancel()
	msg, err := broker.LastMessage(ctx, s.remote.nc, s.remote.domain, s.feed.hubStream(), s.ledger)
	if err != nil {
		if missing := noStream(err, s.feed.hubStream()); missing != nil {
			return Position{}, missing
		}
		return Position{}, fmt.Errorf("reading the ledger of %s: %w", s.feed, err)
	}
	s.at, s.newest, s.staged = Position{}, 0, nil
	if msg == nil {
		s.met, s.seq = true, 0
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
	at := Position{Last: e.Last, Total: e.Total, Expired: e.ExpiredTotal, Discarded: e.DiscardedTotal, Seq: s.newest}
	switch {
	case i < 0 && s.seq != 0 && s.newest > s.seq:
		// This edge has synced before, and what came after it is not from it.
		return Position{}, fmt.Errorf("%w: the ledger of %s was last written at %s by epoch %s, this edge's is %s",
			ErrForeign, s.feed, e.Time.Format(time.RFC3339), e.Epoch, eras[len(eras)-1].Epoch)
	case i < 0:
		// An edge whose store was lost begins anew; or the hub has gone back to a
		// time before that.
		return Position{Last: eras[0].From - 1}, nil
	case i < len(eras)-1:
		s.seq, at.Last = s.newest, min(at.Last, eras[i+1].From-1)
		return at, nil
	case e.Last <= lane.Opened() || s.met && e.Last <= lane.Last():
		// Until this process has met the hub, the hub can have no more than was
		// stored when the lane was opened.
		s.seq = s.newest
		return at, nil
	}
	// The hub has more than this edge ever stored: the store has gone back in
	// time, by a restore or a power cut without fsync. All that was there when it
	// was opened is at the hub; all that came after is new.
	s.remote.log.Error("the hub has records that this edge's store has lost; a new epoch begins",
		"feed", s.feed.String(), "hub", e.Last, "store", lane.Opened())
	if err := lane.NewEra(ctx, lane.Opened()); err != nil {
		return Position{}, err
	}
	at.Last = lane.Opened()
	return at, nil
}

// At implements [Ahead].
func (s *natsSession) At() Position { return s.at }

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
	err := s.push(ctx, b, next)
	switch {
	case err == nil:
		s.remote.trouble.note(s, nil)
		s.alone = max(0, s.alone-1)
		return nil
	case crowded(err):
		s.alone = aloneFor // others need the room more
	case refusedBy(err):
		s.remote.trouble.note(s, err)
	}
	return fmt.Errorf("sending %d of %s: %w", len(b.Entries), s.feed, err)
}

// aloneFor is for how many pushes a session that the hub had no room for has one
// batch under way, instead of two.
const aloneFor = 100

func (s *natsSession) push(ctx context.Context, b *Batch, next func() *Batch) error {
	if s.staged != b {
		if err := s.remote.rate.Take(ctx, s.feed.Kind, s.wireBytes(b)); err != nil {
			return err
		}
		s.stage(s.batch, b)
	}
	s.staged = nil
	under := int64(s.wireBytes(b))
	s.remote.inFlight.Add(under)
	defer func() { s.remote.inFlight.Add(-under) }()
	era, _ := s.feed.Lane.EraOf(b.Last)
	entry := newLedgerEntry(era, s.at, b, s.remote.now())
	data, err := json.Marshal(&entry)
	if err != nil {
		return fmt.Errorf("encoding a ledger entry: %w", err)
	}
	s.number[0] = formatNumber(b.Last)
	if err := s.batch.Ask(s.ledger, data, s.newest); err != nil {
		return err
	}
	ahead, err := s.ahead(ctx, next)
	if err != nil {
		return err
	}
	if ahead != nil {
		n := int64(s.wireBytes(ahead))
		under += n
		s.remote.inFlight.Add(n)
	}
	wait, cancel := s.remote.patience(ctx, s.remote.wait)
	defer cancel()
	seq, err := s.batch.Answer(wait)
	if err != nil {
		return err
	}
	s.newest, s.seq = seq, seq
	s.at = Position{Last: b.Last, Total: entry.Total, Expired: entry.ExpiredTotal, Discarded: entry.DiscardedTotal, Seq: seq}
	if ahead != nil {
		s.staged, s.batch, s.spare = ahead, s.spare, s.batch
	}
	return nil
}

// ahead sends the next batch but for its commit, if there is one and the rate
// lets it soon.
func (s *natsSession) ahead(ctx context.Context, next func() *Batch) (*Batch, error) {
	if next == nil || s.alone > 0 {
		return nil, nil
	}
	b := next()
	if b == nil {
		return nil, nil
	}
	soon, cancel := context.WithTimeout(ctx, aheadTimeout)
	defer cancel()
	if err := s.remote.rate.Take(soon, s.feed.Kind, s.wireBytes(b)); err != nil {
		return nil, ctx.Err()
	}
	s.stage(s.spare, b)
	return b, nil
}

// aheadTimeout is how long the answer to a push may lie unread while the rate
// holds the batch behind it back.
const aheadTimeout = 2 * time.Second

// What a message of a batch takes on the wire beside subject and data, and a
// ledger entry in all, about, before compression.
const (
	messageOverhead = 130
	ledgerOverhead  = 600
)

// wireBytes is what a batch takes on the wire.
func (s *natsSession) wireBytes(b *Batch) int {
	n := ledgerOverhead
	for i := range b.Entries {
		n += len(s.prefix) + len(b.Entries[i].Subject) + len(b.Entries[i].Data) + messageOverhead
	}
	return n
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
