package sync

import (
	"context"
	"sync"
	"time"

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
// messages go before records. A nil Rate bounds nothing. Its methods may be
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
	waiting [2]int  // by Kind
	passed  float64 // bytes of messages since records last went
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
	r.wait(kind, 1)
	defer r.wait(kind, -1)
	for {
		taken := r.taken.Wait()
		ok, due := r.try(kind, float64(n))
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

func (r *Rate) wait(kind Kind, n int) {
	r.mu.Lock()
	r.waiting[kind] += n
	r.mu.Unlock()
	r.taken.Broadcast()
}

// try takes n bytes, or returns when to try again unless something changes.
func (r *Rate) try(kind Kind, n float64) (bool, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	chunk := float64(r.Chunk())
	if now := r.now(); now.After(r.filled) {
		r.tokens = min(chunk, r.tokens+r.perSecond*now.Sub(r.filled).Seconds())
		r.filled = now
	}
	starved := r.waiting[Records] > 0 && r.passed >= messageChunks*chunk
	switch {
	case kind == Messages && starved, kind == Records && r.waiting[Messages] > 0 && !starved:
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
	if kind == Messages && r.waiting[Records] > 0 {
		r.passed += n
	} else {
		r.passed = 0
	}
	return true, 0
}
