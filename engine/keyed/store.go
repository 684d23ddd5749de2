// Package keyed keeps records that have a key and one current value, may be
// changed at the edge and at the hub, and converge. It knows neither the files
// that configure it nor what runs its resolvers.
//
// DESIGN.md in engine tells how it works and why it converges.
package keyed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/keyed/table"
)

// Local names of the keyed store.
const (
	LocalStream  = "EDGED_KEYED"
	LocalSubject = "edged.keyed.log"
)

// Options configures one store.
type Options struct {
	Name   string // the store; edges that share it give it the same name
	Device string // this edge's id
	// Schema is this edge's version of what bodies mean.
	Schema uint64
	// Chain returns the resolvers for a data type, in the order in which they are
	// asked; nil: every conflict is for a person.
	Chain func(dataType string) []Resolver
	// OnDelete returns the policy for a data type; nil: UpdateWins.
	OnDelete func(dataType string) OnDelete
	// Interest is what this edge has a copy of.
	Interest Interest
	// Skew is how far a clock may be ahead of the hub's; 0: one minute.
	Skew time.Duration
	// Writable says why nothing new is taken now, nil: it is; nil: it always is.
	// What was taken is synced all the same.
	Writable func() error
	// JournalEntries bounds the journal; 0: 10,000.
	JournalEntries int
	Now            func() time.Time // nil: time.Now
	Logger         *slog.Logger     // nil: silent
}

const (
	defaultSkew    = time.Minute
	defaultJournal = 10000
)

// The errors of a store, beside [ErrRefused] and those of the table.
var (
	ErrNotFound = errors.New("there is no such key")
	// ErrNoStores is what [OpenExisting] returns when nothing is kept.
	ErrNoStores     = table.ErrNoTable
	ErrPrecondition = errors.New("the value is another than the one expected")
)

// Stores are the keyed stores of one edge. They share a stream. There is one of
// every name that is kept, also of those that nobody has options for any more.
type Stores struct {
	table  *table.Table
	stores map[string]*Store
}

// Open opens the stores on the broker that nc is connected to. maxBytes bounds
// what they take on the disk together.
func Open(ctx context.Context, nc *nats.Conn, maxBytes int64, logger *slog.Logger, stores []Options) (*Stores, error) {
	all := &Stores{stores: map[string]*Store{}}
	others := Options{Logger: logger}
	for _, o := range stores {
		if _, err := all.add(o); err != nil {
			return nil, err
		}
		others.Device, others.Now = o.Device, o.Now
	}
	return all.open(ctx, nc, table.Options{MaxBytes: maxBytes, Logger: logger}, others)
}

// OpenExisting opens every store that is kept on the broker that nc is connected
// to, to look into them: without resolvers, for nobody that changes anything. It
// returns [ErrNoStores] when there are none.
func OpenExisting(ctx context.Context, nc *nats.Conn, logger *slog.Logger) (*Stores, error) {
	all := &Stores{stores: map[string]*Store{}}
	return all.open(ctx, nc, table.Options{Existing: true, Logger: logger}, Options{Logger: logger})
}

// open reads the table. others are the options of stores that none are given for.
func (a *Stores) open(ctx context.Context, nc *nats.Conn, o table.Options, others Options) (*Stores, error) {
	o.Stream, o.Subject = LocalStream, LocalSubject
	var bad error
	t, err := table.Open(ctx, nc, o, func(name string, value []byte) {
		store, rest, _ := strings.Cut(name, "\x00")
		s := a.stores[store]
		if s == nil && bad == nil {
			others.Name = store
			s, bad = a.add(others)
		}
		if bad == nil {
			bad = s.load(rest, value)
		}
	})
	if err == nil && bad != nil {
		err = errors.Join(bad, t.Close(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("opening the keyed store: %w", err)
	}
	a.table = t
	for _, s := range a.stores {
		s.opened(t)
	}
	return a, nil
}

func (a *Stores) add(o Options) (*Store, error) {
	s, err := newStore(o)
	if err == nil {
		a.stores[o.Name] = s
	}
	return s, err
}

// Configure returns the store of the options' name, made when there is none. It has
// the options from then on: all of them but Name, Device, Now and Logger, which
// are for good. The store may be in use, but no [Sync] of it may run.
func (a *Stores) Configure(ctx context.Context, o Options) (*Store, error) {
	s := a.stores[o.Name]
	if s == nil {
		s, err := a.add(o)
		if err == nil {
			s.opened(a.table)
		}
		return s, err
	}
	return s, s.configure(ctx, o)
}

// All returns the stores, by name.
func (a *Stores) All() []*Store {
	return slices.SortedFunc(maps.Values(a.stores), func(s, o *Store) int { return strings.Compare(s.Name(), o.Name()) })
}

// Store returns the store of that name, nil when there is none.
func (a *Stores) Store(name string) *Store { return a.stores[name] }

// Close stores what waits. Nobody uses the stores any more.
func (a *Stores) Close(ctx context.Context) error { return a.table.Close(ctx) }

// Used returns the bytes on the disk.
func (a *Stores) Used() int64 { used, _ := a.table.Used(); return used }

// Store holds the keyed records of one pipeline. All methods may be called from
// any goroutine.
type Store struct {
	opts  Options
	log   *slog.Logger
	table *table.Table
	clock *Clock
	epoch string // of the operations of this process

	mu      sync.Mutex
	index   map[string]info
	counts  counts
	begun   map[string]bool    // keys of which an attempt may be at the hub
	decided map[string]decided // what led to such an attempt, by key
	beside  map[string]bool    // sources; fixed once the store is open
	meta    meta
	sorted  []string // the keys that are there, when it is not nil
	first   uint64   // number of the oldest journal entry
	next    uint64   // number of the next
	watcher func(key string)
	syncs   SyncCounts

	// Of transactions, which run one after the other.
	seq         uint64
	journalNext uint64
}

// info is what is kept in memory of a key.
type info struct {
	revision              uint64 // of the base
	there                 bool   // there is something to keep
	served                bool   // there is a value
	based                 bool   // the hub had it
	deleted               bool   // and it was a tombstone
	pending, open, parked bool
}

type counts struct{ keys, pending, open, parked int }

// meta is what is kept of a store as a whole.
type meta struct {
	Hub       string   `json:"hub"`                 // the hub's epoch
	Turn      int      `json:"turn,omitempty"`      // how often it has gone back in time
	Position  Position `json:"position"`            // everything up to it was seen
	Interest  Interest `json:"interest,omitempty"`  // that Position is about
	Collected uint64   `json:"collected,omitempty"` // tombstones up to it are forgotten
	Comparing bool     `json:"comparing,omitempty"` // a full comparison has not ended
	Seq       uint64   `json:"seq"`                 // operations given out
	HLC       HLC      `json:"hlc"`
}

// epochName names the hub's incarnation as far as this edge can tell.
func (m *meta) epochName() string {
	if m.Turn == 0 {
		return m.Hub
	}
	return fmt.Sprintf("%s+%d", m.Hub, m.Turn)
}

// What stands in the table, behind the store's name.
const (
	kindState   = "s"
	kindJournal = "j"
	kindMeta    = "m"
	kindSource  = "p"
	kindBeside  = "b"
)

// setDefaults fills in what may be left out.
func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Skew == 0 {
		o.Skew = defaultSkew
	}
	if o.JournalEntries == 0 {
		o.JournalEntries = defaultJournal
	}
	if o.Chain == nil {
		o.Chain = func(string) []Resolver { return nil }
	}
	if o.Writable == nil {
		o.Writable = func() error { return nil }
	}
	if o.OnDelete == nil {
		o.OnDelete = func(string) OnDelete { return UpdateWins }
	}
}

func newStore(o Options) (*Store, error) {
	o.setDefaults()
	var epoch [6]byte
	if _, err := rand.Read(epoch[:]); err != nil {
		return nil, fmt.Errorf("naming an epoch: %w", err)
	}
	return &Store{
		opts: o, log: o.Logger, clock: &Clock{now: o.Now, skew: o.Skew}, epoch: hex.EncodeToString(epoch[:]),
		index: map[string]info{}, begun: map[string]bool{}, decided: map[string]decided{}, beside: map[string]bool{}, first: 1, next: 1,
	}, nil
}

// configure gives the store other options. Those that operations look at change
// between two transactions; the others are the sync's.
func (s *Store) configure(ctx context.Context, o Options) error {
	o.setDefaults()
	return s.table.Update(ctx, func(*table.Tx) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opts.Schema, s.opts.JournalEntries, s.opts.Skew, s.opts.Interest = o.Schema, o.JournalEntries, o.Skew, o.Interest
		s.opts.Chain, s.opts.OnDelete, s.opts.Writable = o.Chain, o.OnDelete, o.Writable
		s.clock.setSkew(o.Skew)
		return nil
	})
}

// load is called for every change in the table, in order.
func (s *Store) load(rest string, value []byte) error {
	kind, name := rest[:1], rest[1:]
	switch kind {
	case kindState:
		st, err := decodeState(value)
		if err != nil {
			return err
		}
		s.note(name, st)
		for _, v := range []*Value{st.Local, st.served()} {
			if v != nil && v.Op.Device == s.opts.Device {
				s.seq = max(s.seq, v.Op.Seq)
				s.clock.Observe(v.HLC)
			}
		}
	case kindMeta:
		s.meta = meta{}
		if err := json.Unmarshal(value, &s.meta); err != nil {
			return fmt.Errorf("reading the positions of %s: %w", s.opts.Name, err)
		}
		s.seq = max(s.seq, s.meta.Seq)
		s.clock.Observe(s.meta.HLC)
	case kindBeside:
		s.beside[name] = true
	case kindJournal:
		n, err := journalNumber(name)
		if err != nil {
			return err
		}
		if s.next = max(s.next, n+1); value == nil {
			s.first = max(s.first, n+1)
		}
	}
	return nil
}

// opened is called once, when everything is loaded. What waits may have been
// sent by an earlier process.
func (s *Store) opened(t *table.Table) {
	s.table = t
	s.journalNext = s.next
	for key, in := range s.index {
		if in.pending {
			s.begun[key] = true
		}
	}
}

// note keeps the index in memory.
func (s *Store) note(key string, st *state) {
	served := st.served()
	in := info{
		there: !st.empty(), pending: st.Pending != nil, open: st.Open != nil, parked: st.Parked != nil,
		served: served != nil && !served.Deleted, based: st.Base != nil,
	}
	if st.Base != nil {
		in.revision, in.deleted = st.Base.Revision, st.Base.Value.Deleted
	}
	old := s.index[key]
	count := func(n *int, before, after bool) {
		if before != after {
			*n += map[bool]int{true: 1, false: -1}[after]
		}
	}
	count(&s.counts.keys, old.served, in.served)
	count(&s.counts.pending, old.pending, in.pending)
	count(&s.counts.open, old.open, in.open)
	count(&s.counts.parked, old.parked, in.parked)
	if old.served != in.served {
		s.sorted = nil
	}
	if !in.there {
		delete(s.index, key)
	} else {
		s.index[key] = in
	}
}

// Name returns the store's name.
func (s *Store) Name() string { return s.opts.Name }

func (s *Store) name(kind, rest string) string { return s.opts.Name + "\x00" + kind + rest }

// read returns the state of a key in a transaction.
func (s *Store) read(tx *table.Tx, key string) (*state, error) {
	data, err := tx.Get(s.name(kindState, key))
	if err != nil {
		return nil, err
	}
	return decodeState(data)
}

// write sets the state of a key in a transaction; what is not there any more is
// removed.
func (s *Store) write(tx *table.Tx, key string, st *state) error {
	if st.empty() {
		tx.Delete(s.name(kindState, key))
	} else {
		data, err := marshal(st)
		if err != nil {
			return fmt.Errorf("storing %q: %w", key, err)
		}
		tx.Put(s.name(kindState, key), data)
	}
	in := *st
	tx.OnCommit(func() {
		s.mu.Lock()
		s.note(key, &in)
		watcher := s.watcher
		s.mu.Unlock()
		if in.Pending != nil && watcher != nil {
			watcher(key)
		}
	})
	return nil
}

// writeMeta changes the meta in a transaction.
func (s *Store) writeMeta(tx *table.Tx, change func(*meta)) error {
	m := meta{}
	data, err := tx.Get(s.name(kindMeta, ""))
	if err != nil {
		return err
	}
	if data != nil {
		if err := json.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("reading the positions of %s: %w", s.opts.Name, err)
		}
	}
	change(&m)
	m.Seq = s.seq
	m.HLC = s.clock.Last()
	if data, err = marshal(&m); err != nil {
		return err
	}
	tx.Put(s.name(kindMeta, ""), data)
	tx.OnCommit(func() {
		s.mu.Lock()
		s.meta = m
		s.mu.Unlock()
	})
	return nil
}

// nextOp names an operation, in a transaction.
func (s *Store) nextOp() Op {
	s.seq++
	return Op{Device: s.opts.Device, Epoch: s.epoch, Seq: s.seq}
}

func (s *Store) attempted(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun[key]
}
