package sync

import (
	"context"
	"errors"
	"time"
)

// Later is the error of a Push or Retry after which this feed rests until
// Until, while the other feeds of the remote go on (I6). The session has kept
// its position: it need not be asked again.
type Later struct {
	Until time.Time
	Err   error
}

func (l *Later) Error() string { return l.Err.Error() }

// Unwrap returns the reason.
func (l *Later) Unwrap() error { return l.Err }

// Partial is a session whose remote may take a batch and refuse some of its
// entries. Those are put aside durably, the batch counts as settled, and they
// are sent again on a schedule of their own. It bounds its own requests in time.
type Partial interface {
	Session
	// At is the position after the last call.
	At() Position
	// NextRetry tells when the next entry put aside is due; the zero time: none is.
	NextRetry() time.Time
	// Retry sends some of what is due and reports whether any of it was settled.
	Retry(ctx context.Context) (bool, error)
}

// attempt is [Sender.step] together with what the session has put aside. What a
// remote puts off makes this feed wait and no other.
func (s *Sender) attempt(ctx context.Context, f *FeedSender, now bool) (sent bool, wait time.Duration, err error) {
	p, ok := f.session.(Partial)
	if !ok {
		return s.step(ctx, f, now)
	}
	clock := s.opts.Now()
	if clock.Before(f.later) {
		return false, f.later.Sub(clock), nil
	}
	retried, err := false, error(nil)
	if next := p.NextRetry(); !next.IsZero() && !next.After(clock) {
		retried, err = p.Retry(ctx)
	}
	if err == nil {
		sent, wait, err = s.step(ctx, f, now)
	}
	f.follow(p.At(), retried, clock)
	if retried {
		s.progress.Broadcast()
	}
	if later := (*Later)(nil); errors.As(err, &later) {
		f.note(err)
		f.later = later.Until
		f.tried(f.later)
		s.opts.Monitor.Recheck()
		return sent || retried, later.Until.Sub(clock), nil
	}
	if next := p.NextRetry(); !next.IsZero() {
		wait = min(wait, max(next.Sub(clock), 0))
	}
	return sent || retried, wait, err
}

// follow takes over the session's position. The feed may be ahead of it by
// entries that belong to other remotes.
func (f *FeedSender) follow(at Position, retried bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acknowledged(at)
	if at.Last > f.at.Last { // a part of the batch was taken
		f.tries = tries{}
	}
	at.Last = max(at.Last, f.at.Last)
	f.at = at
	if retried {
		f.lastSync = now
	}
}

// behind returns how many entries the remote has not settled.
func (f *FeedSender) behind() uint64 {
	newest := f.Feed.Lane.Last()
	at, _, _ := f.Status()
	if at.Last >= newest {
		return 0
	}
	return newest - at.Last
}
