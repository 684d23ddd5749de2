package keyed

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Hub is the other side: one store's keys, with one value each and a total order
// of their revisions. Its methods may be called from any goroutine.
type Hub interface {
	// State asks what the hub is, and whether it still has the history that this
	// edge has seen up to a position.
	State(ctx context.Context, seen Position) (HubState, error)
	// Read returns the newest version of a key as whoever orders the writes has
	// it, not a copy that may lag behind; nil: there is none.
	Read(ctx context.Context, key string) (*Remote, error)
	// Swap stores v as the newest version of key if the one before has the
	// revision expect (0: there is none), and returns its revision. ErrMoved: it
	// has not, and nothing was stored. ErrRefused: the hub will never take v. After
	// any other error it may have been stored.
	Swap(ctx context.Context, key string, v *Value, expect uint64) (uint64, error)
	// Watch calls each for the newest version of every key of the interest that
	// changed after the revision, in the order of revisions, in groups as they
	// come, and goes on with what changes until ctx ends, each returns an error, or
	// the hub is lost. caughtUp is true with the group, perhaps an empty one, that
	// ends with what was there when Watch began.
	Watch(ctx context.Context, after uint64, interest Interest, each func(group []Remote, caughtUp bool) error) error
	// Report tells the hub up to which revision this edge has everything, so that
	// tombstones can be collected.
	Report(ctx context.Context, r Registration) error
}

// ErrMoved says that a key has another revision than the one expected.
var ErrMoved = errors.New("the key has changed at the hub")

// HubState is what a hub says of itself.
type HubState struct {
	// Epoch names this incarnation of the hub's bucket.
	Epoch string
	// Last is its newest revision.
	Last uint64
	// Regressed: the bucket has gone back in time behind the position that was
	// asked about, as a backup does: revisions behind that mean something else now.
	Regressed bool
	// Now is the hub's time.
	Now time.Time
	// Collected is the revision up to which tombstones were collected: who was
	// not past it must compare everything.
	Collected uint64
}

// Remote is a version of a key at the hub.
type Remote struct {
	Key      string
	Revision uint64
	Received time.Time // by the hub's clock
	Value    *Value    // nil: Err says why it cannot be used
	Err      error
}

// Position is how far an edge has seen the hub's history: a revision, and when
// the hub received it.
type Position struct {
	Revision uint64    `json:"revision"`
	Received time.Time `json:"received"`
}

// Registration is what the hub knows of one edge of a store.
type Registration struct {
	Device   string    `json:"device"`
	Position uint64    `json:"position"`
	Time     time.Time `json:"time"`
}

// Interest is the edge's share of the hub's keys: patterns of keys, of whose
// parts `*` stands for any one and a `>` at the end for one or more. None: all
// keys.
type Interest []string

// Has reports whether the interest includes a key.
func (i Interest) Has(key string) bool {
	if len(i) == 0 {
		return true
	}
	parts := strings.Split(key, "/")
	for _, pattern := range i {
		if matches(strings.Split(pattern, "/"), parts) {
			return true
		}
	}
	return false
}

func matches(pattern, parts []string) bool {
	for n, p := range pattern {
		switch {
		case p == ">":
			return n < len(parts)
		case n >= len(parts) || p != "*" && p != parts[n]:
			return false
		}
	}
	return len(pattern) == len(parts)
}
