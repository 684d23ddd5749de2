// Package table is a durable map of names to bytes in one JetStream stream,
// changed by transactions that are committed in groups: one message and one
// flush for all that wait.
//
// The stream is a log. A commit appends a pack of the entries that changed; an
// index in memory says where the newest value of each name stands. What has been
// overwritten is removed from the front: what is still needed there is appended
// again first.
package table

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// Options configures one table.
type Options struct {
	Stream  string // its stream; nobody else writes to it
	Subject string // of its messages
	// MaxBytes bounds the stream on disk. Half of it is for values, the other for
	// what was overwritten.
	MaxBytes   int64
	CacheBytes int          // memory for values that were read or written last; 0: 4 MiB
	Logger     *slog.Logger // nil: silent
}

// The errors of a table.
var (
	// ErrClosed: the table has been closed.
	ErrClosed = errors.New("the keyed store is closed")
	// ErrFull: the values have used up their part of MaxBytes, or the disk has no
	// room. Nothing was stored.
	ErrFull = errors.New("the keyed store is full")
	// ErrUnknown: the broker did not answer, and the change may be stored or not.
	ErrUnknown = errors.New("it is not known whether the change is stored")
)

// Table is an open table. All methods may be called from any goroutine.
type Table struct {
	opts    Options
	nc      *nats.Conn
	stream  jetstream.Stream
	batch   *broker.AtomicBatch
	damaged int
	in      chan *update
	stop    chan struct{}
	done    chan struct{}
	closing func()

	mu    sync.RWMutex
	index map[string]entry
	live  int64 // bytes of names and values that count
	used  int64 // bytes of the stream
	packs []packInfo
	first uint64 // stream sequence of packs[0]
	cache cache

	// The committer's own.
	last    uint64 // newest stream sequence
	inDoubt *commit
}

// entry says where a value stands.
type entry struct {
	seq            uint64
	offset, length uint32
}

// packInfo is what is known of one message of the stream.
type packInfo struct {
	size int64
	live int32 // entries in it that are the newest of their name
}

// update is one transaction on its way.
type update struct {
	change func(*Tx) error
	state  atomic.Int32
	ran    chan struct{} // closed when change has returned
	done   chan error
}

// The states of an update: whoever is first to leave updateWaits decides.
const (
	updateWaits = iota
	updateRuns
	updateGivenUp
)

// Tx is one transaction. It belongs to the call that it was given to.
type Tx struct {
	table    *Table
	ctx      context.Context
	group    *commit
	changed  map[string][]byte // by this transaction; nil: removed
	order    []string
	onCommit []func()
}

const (
	maxGroup   = 1000    // transactions in a commit
	groupBytes = 1 << 20 // a commit takes no more transactions when it is larger
	overhead   = 64      // what an entry takes beside its bytes, about
	streamRoom = 8 << 20 // above MaxBytes, for compaction
)

// Open opens or makes the table and calls visit for every change in the stream
// that has not been compacted away, in order: the last call for a name has its
// newest value, nil when it was removed. value is valid until visit returns.
func Open(ctx context.Context, nc *nats.Conn, opts Options, visit func(name string, value []byte)) (*Table, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.CacheBytes == 0 {
		opts.CacheBytes = 4 << 20
	}
	t := &Table{
		opts: opts, nc: nc, batch: broker.NewAtomicBatch(nc), index: map[string]entry{}, cache: newCache(opts.CacheBytes),
		in: make(chan *update, maxGroup), stop: make(chan struct{}), done: make(chan struct{}),
	}
	t.closing = sync.OnceFunc(func() { close(t.stop) })
	if err := t.open(ctx, visit); err != nil {
		return nil, fmt.Errorf("opening %s: %w", opts.Stream, err)
	}
	go t.run()
	return t, nil
}

func (t *Table) open(ctx context.Context, visit func(name string, value []byte)) error {
	js, err := jetstream.New(t.nc)
	if err != nil {
		return err
	}
	t.stream, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: t.opts.Stream, Subjects: []string{t.opts.Subject}, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, MaxBytes: t.opts.MaxBytes + streamRoom,
		AllowAtomicPublish: true, AllowDirect: true,
	})
	if err != nil {
		return err
	}
	return t.scan(ctx, js, visit)
}

// scan reads the whole stream and builds the index.
func (t *Table) scan(ctx context.Context, js jetstream.JetStream, visit func(name string, value []byte)) error {
	state := t.stream.CachedInfo().State
	t.last, t.first = state.LastSeq, state.FirstSeq
	if state.Msgs == 0 {
		t.first = t.last + 1
		return nil
	}
	consumer, err := js.OrderedConsumer(ctx, t.opts.Stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	msgs, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer msgs.Stop()
	for next := t.first; next <= t.last; {
		msg, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		for ; next < meta.Sequence.Stream; next++ {
			t.packs = append(t.packs, packInfo{})
		}
		next = meta.Sequence.Stream + 1
		t.packs = append(t.packs, packInfo{size: int64(len(msg.Data()) + overhead)})
		t.used += int64(len(msg.Data()) + overhead)
		if err := unpack(msg.Data(), func(name, value []byte, offset int) {
			visit(string(name), value)
			t.place(string(name), value, meta.Sequence.Stream, offset)
		}); err != nil {
			t.damaged++
			t.opts.Logger.Error("a part of the keyed store is damaged and left out", "stream", t.opts.Stream, "sequence", meta.Sequence.Stream, "error", err)
		}
	}
	return nil
}

// Damaged returns how many packs were left out when the table was opened.
func (t *Table) Damaged() int { return t.damaged }

// place makes a value the newest of its name. mu is held, or nobody else is
// there yet.
func (t *Table) place(name string, value []byte, seq uint64, offset int) {
	if old, ok := t.index[name]; ok {
		t.packs[old.seq-t.first].live--
		t.live -= int64(len(name)) + int64(old.length) + overhead
	}
	if value == nil {
		delete(t.index, name)
		return
	}
	t.index[name] = entry{seq: seq, offset: uint32(offset), length: uint32(len(value))}
	t.packs[seq-t.first].live++
	t.live += int64(len(name)+len(value)) + overhead
}

// Get returns the newest durable value of a name, nil when there is none. The
// caller must not change it.
func (t *Table) Get(ctx context.Context, name string) ([]byte, error) {
	for {
		t.mu.Lock()
		at, ok := t.index[name]
		value, cached := t.cache.get(name)
		t.mu.Unlock()
		switch {
		case !ok:
			return nil, nil
		case cached:
			return value, nil
		}
		value, err := t.read(ctx, name, at)
		t.mu.Lock()
		now := t.index[name]
		if err == nil && now == at {
			t.cache.put(name, value)
		}
		t.mu.Unlock()
		if err == nil || now == at {
			return value, err
		}
		// It was moved or changed meanwhile.
	}
}

func (t *Table) read(ctx context.Context, name string, at entry) ([]byte, error) {
	msg, err := t.stream.GetMsg(ctx, at.seq)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.opts.Stream, err)
	}
	end := int64(at.offset) + int64(at.length)
	if end > int64(len(msg.Data)) {
		return nil, fmt.Errorf("reading %q from %s: %w", name, t.opts.Stream, errDamaged)
	}
	return append([]byte{}, msg.Data[at.offset:end]...), nil
}

// Room returns [ErrFull] when bytes more of values would not fit. It serves the
// caller that refuses what is new and goes on with what shrinks.
func (t *Table) Room(bytes int) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.live+int64(bytes)+overhead > t.opts.MaxBytes/2 {
		return fmt.Errorf("%w: its values take %d bytes of %d", ErrFull, t.live, t.opts.MaxBytes/2)
	}
	return nil
}

// Used returns the bytes of the stream, and of the values in it that count.
func (t *Table) Used() (used, live int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.used, t.live
}

// Update runs change in a transaction and returns when what it changed is on the
// disk (I1). Transactions run one after the other, each seeing what those before
// it did. When change returns an error nothing of it is stored and Update returns
// that error. change must not block for long and must not call Update.
//
// When ctx ends first, Update returns its error; change is then not called any
// more, or was, and what it changed may be stored yet.
func (t *Table) Update(ctx context.Context, change func(*Tx) error) error {
	u := &update{change: change, ran: make(chan struct{}), done: make(chan error, 1)}
	select {
	case <-t.stop:
		return ErrClosed
	default:
	}
	select {
	case t.in <- u:
	case <-t.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		if !u.state.CompareAndSwap(updateWaits, updateGivenUp) {
			<-u.ran
		}
		return ctx.Err()
	case <-t.done:
		select {
		case err := <-u.done:
			return err
		default:
			return ErrClosed
		}
	}
}

// Get returns the value of a name as the transactions before this one, and this
// one, have left it. The caller must not change it.
func (tx *Tx) Get(name string) ([]byte, error) {
	if v, ok := tx.changed[name]; ok {
		return v, nil
	}
	if v, ok := tx.group.changed[name]; ok {
		return v, nil
	}
	return tx.table.Get(tx.ctx, name)
}

// Put sets a value, which belongs to the table from then on.
func (tx *Tx) Put(name string, value []byte) {
	if value == nil {
		value = []byte{}
	}
	tx.set(name, value)
}

// Delete removes a name.
func (tx *Tx) Delete(name string) { tx.set(name, nil) }

func (tx *Tx) set(name string, value []byte) {
	if _, ok := tx.changed[name]; !ok {
		tx.order = append(tx.order, name)
	}
	tx.changed[name] = value
}

// Context ends when the table is closed hard.
func (tx *Tx) Context() context.Context { return tx.ctx }

// OnCommit has f called when the transaction is durable, before Update returns,
// and in the order of the transactions. It must not block.
func (tx *Tx) OnCommit(f func()) { tx.onCommit = append(tx.onCommit, f) }

// Close commits what waits and stops. When ctx ends first it returns its error.
func (t *Table) Close(ctx context.Context) error {
	t.closing()
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		t.nc.Close() // fails the commit under way
		<-t.done
		return ctx.Err()
	}
}
