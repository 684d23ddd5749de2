package sync

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/edged/edged/engine/store"
)

// Remote is where feeds go. Its methods may be called from any goroutine; a
// session serves one at a time.
type Remote interface {
	Name() string
	// Reachable is a cheap guess, without a round trip, whether Probe is worth
	// trying now.
	Reachable() bool
	// Probe asks the remote and returns why it cannot take anything, or nil.
	Probe(ctx context.Context) error
	// Redial renews a connection that stays down.
	Redial() error
	Session(feed *Feed) Session
	Close()
}

// troubled is a remote that can be healthy and yet not take what it is sent.
type troubled interface {
	// Trouble is why it did not take the newest push of some feed, or nil.
	Trouble() error
}

// pinged is a remote that is not [Remote.Reachable] when its connection is dead.
type pinged interface{ pinged() }

// Session is one feed's way to one remote. It bounds in time what it does.
type Session interface {
	// Position asks the remote what it has. It is called first, and again after
	// every error.
	Position(ctx context.Context) (Position, error)
	// MaxEntries bounds the entries of one Push.
	MaxEntries() int
	// Push returns when the remote has the batch durably and everything up to
	// its Last is settled.
	Push(ctx context.Context, b *Batch) error
}

// Ahead is a session that can have the next batch on its way while one is
// settled.
type Ahead interface {
	Session
	// At is the position after the last call.
	At() Position
	// PushAhead is Push. Before it waits for the answer it calls next once for the
	// batch that will be pushed after this one; nil: it is not known yet. After an
	// error of PushAhead that batch is void.
	PushAhead(ctx context.Context, b *Batch, next func() *Batch) error
}

// Batch is what one push brings. The numbers from behind the position to Last
// that it neither holds nor explains are lost.
type Batch struct {
	Entries   []store.Stored
	Last      uint64      // everything up to this number is settled with it
	Elsewhere [][2]uint64 // numbers that belong to other remotes
	Discarded [][2]uint64 // numbers that were dropped by policy
	Lost      [][2]uint64 // numbers that damage of the edge's store has taken
	HubLost   [][2]uint64 // numbers that the remote had and lost, and that are not kept here
	Expired   [][2]uint64 // numbers that have passed their time to live
}

// Backoff is exponential with full jitter: attempt n waits a uniform part of
// Base doubled n times, at most Max.
// See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
type Backoff struct {
	Base, Max time.Duration
	Float64   func() float64 // nil: math/rand/v2
}

// Wait returns how long to wait before attempt n, counted from 0.
func (b Backoff) Wait(n int) time.Duration {
	most := b.Max
	if n < 63 && b.Base <= b.Max>>n { // else doubling n times is beyond Max, or any duration
		most = b.Base << n
	}
	random := b.Float64
	if random == nil {
		random = rand.Float64
	}
	return time.Duration(random() * float64(most))
}

// trouble keeps, by session, why the newest push was not taken. The zero value
// is ready; its methods may be called from any goroutine.
type trouble struct {
	mu sync.Mutex
	by map[any]error
}

// note sets or, with nil, clears a session's trouble.
func (t *trouble) note(session any, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[any]error{}
	}
	if err == nil {
		delete(t.by, session)
	} else {
		t.by[session] = err
	}
}

// any returns one session's trouble: others have most likely the same cause.
func (t *trouble) any() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, err := range t.by {
		return err
	}
	return nil
}

func formatNumber(n uint64) string { return strconv.FormatUint(n, 10) }
