package sync

import (
	"context"

	"github.com/edged/edged/engine/store"
)

// An API that answers 500, or not at all, may be down, or may fail on what just
// this request holds. Nothing it says tells which. So a request that fails again
// and again makes the entry in it a suspect, which is put aside, under the key that
// it was sent with: were it stored after all, the API would know it again (I2).
// Whether the API works is then seen by what follows. Only a suspect that fails
// while others like it are taken loses attempts and ends as a dead letter, so that
// an outage, however long, buries nothing (I6).

// maxSuspects bounds how many suspects in a row are put aside while nothing of the
// feed is taken.
const maxSuspects = 3

// suspect is the request that failed last.
type suspect struct {
	key    string
	status int // the same every time
	tries  int
	took   uint64 // requests like it that were taken before it first failed
}

// failedAgain counts a failure and reports whether they are enough to suspect what
// was sent.
func (s *httpSession) failedAgain(c *call, out outcome) bool {
	if s.suspect.key != c.key || s.suspect.status != out.status {
		s.suspect = suspect{key: c.key, status: out.status, took: s.remote.took(c)}
	}
	s.suspect.tries++
	return s.suspect.tries >= s.remote.opts.MaxAttempts
}

// suspected returns the entry as it is put aside, or nil when the feed is to wait.
func (s *httpSession) suspected(c *call, e *store.Stored, out outcome) *aside {
	if !s.failedAgain(c, out) || !s.journal.room(1, len(e.Data)) ||
		s.suspects >= maxSuspects && s.remote.took(c) == s.suspect.took {
		return nil
	}
	now := s.remote.opts.Now()
	a := &aside{
		Epoch: s.epochOf(e.Number), Number: e.Number, Most: s.remote.opts.MaxAttempts, Key: c.key, Error: out.err.Error(),
		Data: e.Data, Stored: e.Time.UTC(), First: now.UTC(), Next: now.Add(s.remote.opts.Backoff.Wait(s.attempts)).UTC(),
	}
	s.remote.opts.Logger.Warn("the remote fails on it again and again, put aside to see whether it takes others",
		"feed", s.feed.String(), "number", e.Number, "tries", s.suspect.tries, "error", out.err)
	s.suspects++
	s.attempts, s.suspect = 0, suspect{}
	return a
}

// failedBatch is what becomes of a batch under way that the API failed on.
func (s *httpSession) failedBatch(ctx context.Context, c *call, batch []store.Stored, out outcome) error {
	state := s.journal.state
	if len(batch) == 1 {
		put := s.suspected(c, &batch[0], out)
		if put == nil {
			return s.putOff(out)
		}
		s.pastDropped(&state, state.Sending.Last, batch)
		state.Last, state.Sending = state.Sending.Last, nil
		return s.save(ctx, state, []*aside{put}, nil)
	}
	if !s.remote.opts.Isolate || !s.failedAgain(c, out) || s.suspects >= maxSuspects {
		return s.putOff(out)
	}
	s.remote.opts.Logger.Warn("the remote fails on a batch again and again, sending its records one by one",
		"feed", s.feed.String(), "first", state.Sending.First, "last", state.Sending.Last, "error", out.err)
	s.isolated = state.Sending.Last
	s.attempts, s.suspect = 0, suspect{}
	state.Sending = nil
	return s.save(ctx, state, nil, nil)
}

// atOnce is how many records the next batch may have.
func (s *httpSession) atOnce() int {
	if s.journal.state.Last < s.isolated {
		return 1
	}
	return s.chunk
}

// countsAgainst reports whether a failure says something of the entry put aside
// and not only of the API: others like it were taken since the try before.
func (s *httpSession) countsAgainst(a *aside, c *call) bool {
	took := s.remote.took(c)
	counts := a.tried && took > a.took
	a.took, a.tried = took, true
	return counts
}
