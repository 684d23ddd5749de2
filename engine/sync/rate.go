package sync

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/store"
)

const (
	// chunkTime is how much of a limited link's time one push of records may
	// take: what an alarm behind it may have to wait for.
	chunkTime = 500 * time.Millisecond
	minChunk  = 4 << 10
	maxChunk  = 1 << 20
	// While records wait, messages may take so many chunks before one of records
	// goes: nothing starves (I5).
	messageChunks = 8
)

// Rate bounds what is sent to one remote: a token bucket over bytes, in which
// messages go before records, keyed ones or not. Of one kind each goes in its
// turn, so that many small takers do not keep a large one waiting. A nil Rate bounds nothing. Its methods may be
// called from any goroutine.
//
// A push takes its bytes as a whole, before its first byte goes, so that no
// batch stands half sent at the hub. The bucket holds one chunk. What is larger
// goes when the bucket is full and leaves a debt that is paid before the next
// records go; messages may go one chunk into debt, so that they hardly wait.
type Rate struct {
	perSecond float64
	now       func() time.Time
	taken     store.Signal

	mu      sync.Mutex
	tokens  float64 // below zero: debt
	filled  time.Time
	waiting [2][]*turn // by Kind, first come first
	passed  float64    // bytes of messages since records last went
}

// turn is one call of Take.
type turn struct {
	kind Kind
	n    float64
}

// NewRate returns a bucket that is full. bytesPerSecond 0 bounds nothing and
// gives nil. now may be nil.
func NewRate(bytesPerSecond int64, now func() time.Time) *Rate {
	if bytesPerSecond <= 0 {
		return nil
	}
	if now == nil {
		now = time.Now
	}
	r := &Rate{perSecond: float64(bytesPerSecond), now: now, filled: now()}
	r.tokens = float64(r.Chunk())
	return r
}

// Chunk is the most bytes that one push should bring; 0: as many as it likes.
func (r *Rate) Chunk() int {
	if r == nil {
		return 0
	}
	return min(max(int(r.perSecond*chunkTime.Seconds()), minChunk), maxChunk)
}

// Take waits until n bytes may go, or ctx ends, and takes them.
func (r *Rate) Take(ctx context.Context, kind Kind, n int) error {
	if r == nil {
		return nil
	}
	t := &turn{kind, float64(n)}
	r.join(t)
	defer r.leave(t)
	for {
		taken := r.taken.Wait()
		ok, due := r.try(t)
		if ok {
			return nil
		}
		timer := time.NewTimer(due)
		select {
		case <-taken:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

func (r *Rate) join(t *turn) {
	r.mu.Lock()
	r.waiting[t.kind] = append(r.waiting[t.kind], t)
	r.mu.Unlock()
	r.taken.Broadcast()
}

func (r *Rate) leave(t *turn) {
	r.mu.Lock()
	line := r.waiting[t.kind]
	i := slices.Index(line, t)
	r.waiting[t.kind] = slices.Delete(line, i, i+1)
	r.mu.Unlock()
	r.taken.Broadcast()
}

// try takes the bytes of a turn, or returns when to try again unless something
// changes.
func (r *Rate) try(t *turn) (bool, time.Duration) {
	kind, n := t.kind, t.n
	r.mu.Lock()
	defer r.mu.Unlock()
	chunk := float64(r.Chunk())
	if now := r.now(); now.After(r.filled) {
		r.tokens = min(chunk, r.tokens+r.perSecond*now.Sub(r.filled).Seconds())
		r.filled = now
	}
	starved := len(r.waiting[Records]) > 0 && r.passed >= messageChunks*chunk
	switch {
	case r.waiting[kind][0] != t, kind == Messages && starved, kind == Records && len(r.waiting[Messages]) > 0 && !starved:
		return false, idle
	}
	need := min(n, chunk)
	if kind == Messages {
		need -= chunk
	}
	if r.tokens < need {
		return false, time.Duration((need-r.tokens)/r.perSecond*float64(time.Second)) + time.Microsecond
	}
	r.tokens -= n
	if kind == Messages && len(r.waiting[Records]) > 0 {
		r.passed += n
	} else {
		r.passed = 0
	}
	return true, 0
}

// Keyed returns a hub of keyed records that takes the bytes of what is stored
// there from r, as records.
func (r *Rate) Keyed(hub keyed.Hub) keyed.Hub {
	if r == nil {
		return hub
	}
	return &ratedHub{hub, r}
}

type ratedHub struct {
	keyed.Hub
	rate *Rate
}

// swapOverhead is what a value takes on the wire beside its key and itself, about.
const swapOverhead = 200

// Swap implements [keyed.Hub].
func (h *ratedHub) Swap(ctx context.Context, key string, v *keyed.Value, expect uint64) (uint64, error) {
	data, err := v.Encode()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", keyed.ErrRefused, err)
	}
	if err := h.rate.Take(ctx, Records, len(key)+len(data)+swapOverhead); err != nil {
		return 0, err
	}
	return h.Hub.Swap(ctx, key, v, expect)
}
