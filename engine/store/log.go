// Package store keeps what the edge has acknowledged: numbered logs on
// JetStream streams, written by group commit and read back in order by any
// number of readers.
package store

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
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
)

const epochKey = "edged-epoch" // in the stream's metadata

const (
	groupEntries = 1000    // a commit takes waiting groups up to this many entries
	groupBytes   = 4 << 20 // and this many bytes
	appendQueue  = 16      // groups that may wait for the committer
)

// Options configures one log.
type Options struct {
	Stream   string // JetStream stream name
	Subject  string // prefix of subjects: entries are <Subject>.<lane>.<rest>
	MaxBytes int64  // bound of the stream on disk
	// DropOldest makes a full log drop its oldest entries; otherwise Append
	// waits for room.
	DropOldest bool
	// Single stores every entry as a message of its own, so that one can be
	// removed alone; otherwise a commit's entries share one.
	Single bool
	// Existing takes a log that is there as it is, with the bound it has: Open
	// changes no setting, and fails with [ErrNoStream] when there is none.
	Existing bool
	// Gate says what the disk takes; nil: everything. A Reserved log goes on while
	// the disk is low, because it empties another one.
	Gate     *Gate
	Reserved bool
	// Flush makes a stream durable where commits alone do not (relaxed durability);
	// nil: they do. It is for what must not be lost even then: that numbers were
	// lost, and will be given out again.
	Flush  func(stream string) error
	Logger *slog.Logger
}

// Log is a numbered log on one stream. Its entries stand in lanes; each lane
// numbers its entries 1, 2, 3, … without holes for as long as the log's epoch
// lasts. What is appended together is stored together or not at all. All
// methods may be called from any goroutine.
//
// A commit is, per lane, one message of the stream: a pack of all entries, with
// a commit entry that holds the lane's last number, its counters and the
// positions of its sources. That makes these as durable and as exact as the
// entries they speak of (I2).
type Log struct {
	opts    Options
	nc      *nats.Conn
	js      jetstream.JetStream
	stream  jetstream.Stream
	batch   *broker.AtomicBatch
	epoch   string
	in      chan *Group
	stop    chan struct{} // closed by Close: take what waits, then end
	done    chan struct{}
	hurry   chan struct{} // closed by StopWaiting
	refused bool          // the committer's: a group was refused for want of room
	durable atomic.Uint64 // stream sequence up to which everything is flushed
	newest  atomic.Uint64 // stream sequence of the newest outbox
	full    atomic.Bool
	outbox  Signal     // an outbox was committed
	changed Signal     // anything was committed
	room    Signal     // something was purged
	filled  Signal     // a commit found no room
	writing sync.Mutex // held for one commit

	stopWaiting func() // once

	mu    sync.Mutex
	boxes []boxed // the newest outboxes, oldest first
	used  int64   // bytes on disk, as estimated since the server was last asked
	lanes map[string]*Lane
}

// Entry is one thing to append: the full local subject and the bytes.
type Entry struct {
	Subject string
	Data    []byte
}

// Outbox is what leaves a lane sideways, committed together with its entries
// and handed on by [Log.NextOutbox].
type Outbox struct {
	Messages    []record.Message    `json:"messages,omitempty"`
	DeadLetters []record.DeadLetter `json:"dead_letters,omitempty"`
}

func (o *Outbox) empty() bool { return len(o.Messages)+len(o.DeadLetters) == 0 }

// Counts are a lane's counters since the log was made.
type Counts struct {
	Collected   uint64 `json:"collected,omitempty"`
	Transformed uint64 `json:"transformed,omitempty"`
	Messages    uint64 `json:"messages,omitempty"`
	DeadLetters uint64 `json:"dead_letters,omitempty"`
	Dropped     uint64 `json:"dropped,omitempty"`   // by a transform, on purpose
	Discarded   uint64 `json:"discarded,omitempty"` // stored, and dropped for want of room before they were synced
	Expired     uint64 `json:"expired,omitempty"`   // stored, and dropped because their time to live was over
	Evicted     uint64 `json:"evicted,omitempty"`   // dropped by a log that drops its oldest when it is full
}

func (c *Counts) add(d Counts) {
	c.Collected += d.Collected
	c.Transformed += d.Transformed
	c.Messages += d.Messages
	c.DeadLetters += d.DeadLetters
	c.Dropped += d.Dropped
	c.Discarded += d.Discarded
	c.Expired += d.Expired
	c.Evicted += d.Evicted
}

// Group is what one caller appends at once to one lane.
type Group struct {
	Entries []Entry // owned by the log from Append on
	Outbox  Outbox
	// Source and Position, when Position is not nil, say where that source
	// continues after this group.
	Source   string
	Position json.RawMessage
	Counts   Counts        // to be added
	State    []StateChange // in this order
	// Done is called once, when the group is durable (nil) or the log has closed
	// without storing it. It must not block. It may be nil.
	Done func(error)

	lane    *Lane
	planned time.Time   // when it was first tried
	era     *Era        // begin this era
	loss    *Loss       // note these numbers as lost
	discard [][2]uint64 // note these numbers as discarded
	expire  [][2]uint64 // note these numbers as expired
	evict   [][2]uint64 // and these as evicted
	release *Release    // and this as released
	carry   uint64      // what of the states stands below this stream sequence is about to go
}

func (g *Group) bytes() (n int) {
	for i := range g.Entries {
		n += len(g.Entries[i].Data)
	}
	for i := range g.State {
		n += len(g.State[i].Data)
	}
	return n
}

// ErrClosed is returned when the log has been closed.
var ErrClosed = errors.New("the store is closed")

// ErrNoRoom tells a group that the log is full and no longer waits for room.
var ErrNoRoom = errors.New("the store is full")

// Open creates or opens the log and starts its committer.
func Open(ctx context.Context, nc *nats.Conn, opts Options) (*Log, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	l := &Log{
		opts: opts, nc: nc, js: js, batch: broker.NewAtomicBatch(nc), lanes: map[string]*Lane{},
		in: make(chan *Group, appendQueue), stop: make(chan struct{}), done: make(chan struct{}), hurry: make(chan struct{}),
	}
	l.stopWaiting = sync.OnceFunc(func() { close(l.hurry) })
	if err := l.openStream(ctx); err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", opts.Stream, err)
	}
	go l.run()
	if err := l.openLanes(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store %s: %w", opts.Stream, err), l.Close(ctx))
	}
	return l, nil
}

// openLanes opens every lane the stream holds, configured today or not: a purge
// must know them all.
func (l *Log) openLanes(ctx context.Context) error {
	info, err := l.stream.Info(ctx, jetstream.WithSubjectFilter(l.opts.Subject+".>"))
	if err != nil {
		return err
	}
	for subject := range info.State.Subjects {
		token, _, _ := strings.Cut(strings.TrimPrefix(subject, l.opts.Subject+"."), ".")
		name, err := record.Untoken(token)
		if err != nil {
			return err
		}
		if _, err := l.Lane(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Logger returns what the log logs to.
func (l *Log) Logger() *slog.Logger { return l.opts.Logger }

// Lanes returns every lane that the log holds, by name.
func (l *Log) Lanes() []*Lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.lanes), func(a, b *Lane) int { return strings.Compare(a.name, b.name) })
}

// NewestOutbox returns the stream sequence of the newest outbox, 0 when there
// is none.
func (l *Log) NewestOutbox() uint64 { return l.newest.Load() }

// Changed returns a channel that is closed at the next commit.
func (l *Log) Changed() <-chan struct{} { return l.changed.Wait() }

// Durable returns the stream sequence up to which everything is flushed.
func (l *Log) Durable() uint64 { return l.durable.Load() }

func (l *Log) openStream(ctx context.Context) error {
	cfg := jetstream.StreamConfig{
		Name:               l.opts.Stream,
		Subjects:           []string{l.opts.Subject + ".>"},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Discard:            jetstream.DiscardNew,
		MaxBytes:           l.opts.MaxBytes + reserveBytes,
		AllowAtomicPublish: true,
		AllowDirect:        true, // for scans; a log of an earlier version gets it here
		Metadata:           map[string]string{},
	}
	old, err := l.js.Stream(ctx, l.opts.Stream)
	switch {
	case l.opts.Existing && errors.Is(err, jetstream.ErrStreamNotFound):
		return ErrNoStream
	case l.opts.Existing && err == nil:
		cfg = old.CachedInfo().Config
		l.opts.MaxBytes = cfg.MaxBytes - reserveBytes
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if cfg.Metadata[epochKey], err = newEpoch(); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		cfg.Metadata[epochKey] = old.CachedInfo().Config.Metadata[epochKey]
	}
	if l.stream = old; !l.opts.Existing {
		if l.stream, err = l.js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return err
		}
	}
	l.epoch = cfg.Metadata[epochKey]
	l.durable.Store(l.stream.CachedInfo().State.LastSeq)
	newest, err := broker.LastMessage(ctx, l.nc, "", l.opts.Stream, l.outboxFilter())
	if err != nil {
		return err
	}
	if newest != nil {
		l.newest.Store(newest.Seq)
	}
	return l.measure(ctx)
}

// newEpoch returns a name that no other incarnation of a log has.
func newEpoch() (string, error) {
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("naming an epoch: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// Epoch names this incarnation of the log: a log that was lost and made anew
// has another epoch, so that its numbers cannot be taken for the old ones.
func (l *Log) Epoch() string { return l.epoch }

// MaxBytes is the log's bound on disk.
func (l *Log) MaxBytes() uint64 { return uint64(max(l.opts.MaxBytes, 0)) }

// Full reports whether the last commit is waiting for room (I9).
func (l *Log) Full() bool { return l.full.Load() }

// The last token of a message's subject says whether it has an outbox, so that
// the outboxes are found without reading everything.
const (
	tokenPack   = ".pack"
	tokenOutbox = ".outbox"
)

// packSubject is where a pack of a commit goes.
func (l *Log) packSubject(c *laneCommit, p *pack) string {
	kind := tokenPack
	if len(p.outbox) > 0 {
		kind = tokenOutbox
	}
	return c.lane.subject(c.next.Segment) + kind
}

func (l *Log) outboxFilter() string { return l.opts.Subject + ".*.*" + tokenOutbox }

// Append hands g to the committer of the lane's log. It blocks while the
// committer is busy and the waiting line is full, until ctx ends; after an error
// Done is not called. A group is stored whole or not at all.
func (l *Lane) Append(ctx context.Context, g *Group) error {
	g.lane = l
	return l.log.append(ctx, g)
}

func (l *Log) append(ctx context.Context, g *Group) error {
	select {
	case <-l.stop:
		return ErrClosed
	default:
	}
	select {
	case l.in <- g:
		return nil
	case <-l.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// StopWaiting makes a full log refuse groups, with [ErrNoRoom], instead of
// letting them wait for room: the edge is about to stop. After the first refusal
// every group is refused, so that no position passes one that was not stored.
func (l *Log) StopWaiting() { l.stopWaiting() }

// Close commits what waits and fits, and stops the committer. When ctx ends
// first it returns its error. What was not committed is told so through Done. No
// Append may run or follow.
func (l *Log) Close(ctx context.Context) error {
	l.StopWaiting()
	close(l.stop)
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		l.nc.Close() // fails the commit under way
		<-l.done
		return ctx.Err()
	}
}

// Intact reports whether the stream still holds everything that this process knows
// to be durable. It is for asking after the server's storage was started anew.
func (l *Log) Intact(ctx context.Context) (bool, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return false, fmt.Errorf("asking for the state of %s: %w", l.opts.Stream, err)
	}
	return info.State.LastSeq >= l.Durable(), nil
}

// Usage returns how many bytes the log holds on disk.
func (l *Log) Usage(ctx context.Context) (uint64, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("asking for the size of %s: %w", l.opts.Stream, err)
	}
	return info.State.Bytes, nil
}

// Filled returns a channel that is closed when a commit next finds no room.
func (l *Log) Filled() <-chan struct{} { return l.filled.Wait() }

// Used returns how many bytes the log holds on disk, as far as this process has
// counted.
func (l *Log) Used() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(max(l.used, 0))
}

// measure asks the server how many bytes the stream holds.
func (l *Log) measure(ctx context.Context) error {
	used, err := l.Usage(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = int64(used)
	return nil
}

// hasRoom reports whether bytes more fit below the bound.
func (l *Log) hasRoom(ctx context.Context, bytes int64) (bool, error) {
	fits := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.used+bytes <= l.opts.MaxBytes
	}
	if bytes == 0 || fits() {
		return true, nil
	}
	if err := l.measure(ctx); err != nil || fits() || !l.opts.DropOldest {
		return fits(), err
	}
	return true, l.dropOldest(ctx, fits)
}

const (
	// reserveBytes is room above the bound for what must be written to make
	// room: commit entries that a purge carries forward.
	reserveBytes  = 8 << 20
	entryOverhead = 128 // what a message takes on disk beside its data, about
	commitTimeout = 30 * time.Second
	retryFirst    = 20 * time.Millisecond
	retryMost     = 2 * time.Second
)
