package keyed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errPark says that a key is to wait for longer.
var errPark = errors.New("others were always faster")

// step is what is to be done with a key, given what the hub has.
type step struct {
	kind  stepKind
	value *Value        // stepSwap: what to store; stepAdopt: what the hub has
	at    uint64        // stepSwap: the revision to replace; stepAdopt: the hub's
	entry *JournalEntry // of the decision
	count func(*SyncCounts)

	decision *Decision // stepAsk
	was      *Value
	remote   *Remote

	why    string // stepPark
	reason error
}

type stepKind int

const (
	stepSwap  stepKind = iota // store a value at a revision
	stepAdopt                 // the hub's is the value
	stepAsk                   // a person decides
	stepPark
)

// send brings one key's pending operations to the hub: one compare-and-swap at
// the base's revision, and when that does not succeed, what the hub then turns
// out to have says what to do. It returns nil when there is nothing more to do
// now, errPark after too many attempts.
func (s *session) send(ctx context.Context, t turn) error {
	key := t.key
	st, err := s.store.begin(ctx, key, t.remote, t.again)
	if err != nil || st == nil {
		return err
	}
	a := st.attempt()
	next, err := s.first(ctx, key, st, &a, t.remote)
	for n := 0; ; n++ {
		if err != nil {
			return err
		}
		switch next.kind {
		case stepAdopt:
			return s.store.settle(ctx, key, a, outcome{s.epoch, next.at, next.value, next.entry, next.count})
		case stepAsk:
			return s.store.askPerson(ctx, key, a, next.was, s.epoch, next.remote, next.decision)
		case stepPark:
			return s.store.park(ctx, key, next.why, next.at, next.reason)
		}
		s.store.sending(key, a.Op, next.entry)
		revision, err := s.hub.Swap(ctx, key, next.value, next.at)
		switch {
		case err == nil:
			return s.store.settle(ctx, key, a, outcome{s.epoch, revision, next.value, next.entry, func(c *SyncCounts) {
				c.Pushed++
				if next.count != nil {
					next.count(c)
				}
			}})
		case errors.Is(err, ErrRefused):
			return s.store.park(ctx, key, parkedRefused, 0, err)
		case ctx.Err() != nil, !errors.Is(err, ErrMoved) && n > 0:
			return err // nobody was faster: the hub or the way to it is in trouble
		}
		if n+1 >= s.opts.Attempts {
			if err := s.store.park(ctx, key, parkedAttempts, 0, errPark); err != nil {
				return err
			}
			return errPark
		}
		if next, err = s.retry(ctx, key, st, &a, n, errors.Is(err, ErrMoved)); err != nil {
			return err
		}
	}
}

// first is what to do at the beginning of a turn.
func (s *session) first(ctx context.Context, key string, st *state, a *sent, seen *Remote) (step, error) {
	revision, known := st.revision(s.epoch)
	switch {
	case seen != nil && (!known || seen.Revision > revision):
		s.accept(seen)
		return s.meet(ctx, key, st, a, seen)
	case !known:
		return s.ask(ctx, key, st, a)
	}
	return s.plain(st, a, revision), nil
}

// retry is what to do after an attempt that did not succeed: the answer may have
// been lost, or somebody was faster.
func (s *session) retry(ctx context.Context, key string, st *state, a *sent, n int, moved bool) (step, error) {
	if moved {
		s.store.count(func(c *SyncCounts) { c.Retries++ })
	}
	if n > 0 {
		select {
		case <-time.After(s.opts.Backoff(n - 1)):
		case <-ctx.Done():
			return step{}, ctx.Err()
		}
	}
	return s.ask(ctx, key, st, a)
}

// ask reads what the hub has, and says what to do.
func (s *session) ask(ctx context.Context, key string, st *state, a *sent) (step, error) {
	r, err := s.hub.Read(ctx, key)
	if err != nil {
		return step{}, err
	}
	if r != nil {
		s.accept(r)
	}
	return s.meet(ctx, key, st, a, r)
}

// plain sends the attempt's value as it is.
func (s *session) plain(st *state, a *sent, revision uint64) step {
	if st.Base != nil && st.Base.Value.Schema > s.store.opts.Schema {
		return s.newer(&Remote{Revision: revision, Value: &st.Base.Value})
	}
	return step{kind: stepSwap, value: s.outgoing(st, a, &a.Value, nil), at: revision}
}

// outgoing is a value with all that it includes.
func (s *session) outgoing(st *state, a *sent, v *Value, remote *Value) *Value {
	out := *v
	out.VV = nil
	if st.Base != nil {
		out.VV = out.VV.Union(st.Base.Value.VV)
	}
	if remote != nil {
		out.VV = out.VV.Union(remote.VV)
	}
	out.VV = out.VV.with(a.Op)
	return &out
}

func (s *session) newer(r *Remote) step {
	return step{
		kind: stepPark, why: parkedSchema, at: r.Revision,
		reason: fmt.Errorf("the hub has schema %d, and this edge knows %d", r.Value.Schema, s.store.opts.Schema),
	}
}

// meet says what to do, given what the hub has now; r is nil when it has
// nothing. The first case that fits.
func (s *session) meet(ctx context.Context, key string, st *state, a *sent, r *Remote) (step, error) {
	if r == nil {
		return s.meetNothing(ctx, key, st, a)
	}
	return s.meetVersion(ctx, key, st, a, r)
}

// meetNothing is meet when the hub has nothing.
func (s *session) meetNothing(ctx context.Context, key string, st *state, a *sent) (step, error) {
	revision, known := st.revision(s.epoch)
	switch {
	case !known: // the hub has lost it
		return step{kind: stepSwap, value: s.outgoing(st, a, &a.Value, nil), at: 0}, nil
	case revision == 0:
		return s.plain(st, a, 0), nil
	}
	if err := s.verify(ctx); err != nil {
		return step{}, err
	}
	// It was there, was deleted, and its tombstone is collected: nothing is
	// created in silence.
	r := &Remote{Key: key, Received: s.hubTime(), Value: deletedByHub(s.hubTime())}
	r.Value.Clock, r.Value.VV = Unknown, st.Base.Value.VV
	return s.meetVersion(ctx, key, st, a, r)
}

// meetVersion is meet when the hub has a version.
func (s *session) meetVersion(ctx context.Context, key string, st *state, a *sent, r *Remote) (step, error) {
	revision, known := st.revision(s.epoch)
	switch {
	case r.Value == nil:
		return step{kind: stepPark, why: parkedPoison, at: r.Revision, reason: fmt.Errorf("what is at the hub is %w", r.Err)}, nil
	case r.Value.VV.Covers(a.Op):
		entry := s.store.sentBy(key, a.Op)
		return step{kind: stepAdopt, value: r.Value, at: r.Revision, entry: entry, count: func(c *SyncCounts) { c.Recovered++ }}, nil
	case known && r.Revision < revision && r.Revision > 0:
		return step{}, s.regressed(ctx)
	case known && r.Revision == revision && r.Revision > 0:
		return s.plain(st, a, revision), nil
	case r.Value.Hash == a.Value.Hash && (st.Pending.Resend || a.Value.Deleted || !s.readsBodies(key)):
		return step{kind: stepAdopt, value: r.Value, at: r.Revision, count: func(c *SyncCounts) { c.Equal++ }}, nil
	case r.Value.Schema > s.store.opts.Schema:
		return s.newer(r), nil
	case !known && r.Value.Op.Seq > 0 && st.Base.Value.VV.Contains(r.Value.VV):
		// The hub has gone back in time, and what we have follows from what it has.
		return step{kind: stepSwap, value: s.outgoing(st, a, &a.Value, r.Value), at: r.Revision}, nil
	}
	return s.resolve(ctx, key, st, a, r)
}

func (s *session) readsBodies(key string) bool {
	chain := s.store.opts.Chain(DataType(key))
	return len(chain) > 0 && chain[0].ReadsBodies()
}

// resolve is a conflict.
func (s *session) resolve(ctx context.Context, key string, st *state, a *sent, r *Remote) (step, error) {
	var was *Value
	if _, known := st.revision(s.epoch); st.Base != nil && (known || r.Value.VV.Contains(st.Base.Value.VV)) {
		was = &st.Base.Value
	}
	local := a.Value
	local.HLC, _ = local.HLC.clamp(s.hubTime(), s.store.opts.Skew)
	c := conflictOf(key, was, &local, r)
	d, err := decide(ctx, c, s.store.opts.Chain(DataType(key)), s.store.opts.OnDelete(DataType(key)), st.Faults)
	if err != nil {
		return step{}, fmt.Errorf("resolving the conflict of %q: %w", key, err)
	}
	if len(d.faults) > 0 {
		if st.Faults = boundFaults(d.faults); d.Action != AskPerson { // with that it is stored anyway
			if err := s.store.noteFaults(ctx, key, a.Op, st.Faults); err != nil {
				return step{}, err
			}
		}
	}
	if d.Action == AskPerson {
		return step{kind: stepAsk, decision: &d, was: was, remote: r}, nil
	}
	made := s.store.result(&d, &a.Value, r.Value, a.Op)
	entry := s.store.entry(key, was, &local, r, &d)
	entry.Result = made
	next := step{entry: entry, count: func(c *SyncCounts) { c.Resolved++ }}
	if made.Hash == r.Value.Hash {
		next.kind, next.value, next.at = stepAdopt, r.Value, r.Revision
		return next, nil
	}
	next.kind, next.value, next.at = stepSwap, s.outgoing(st, a, made, r.Value), r.Revision
	return next, nil
}
