package keyed

import (
	"context"

	"github.com/edged/edged/engine/keyed/table"
)

// pull takes over what changes at the hub, until ctx ends or the hub is lost.
func (s *session) pull(ctx context.Context) error {
	if err := s.forgetCollected(ctx); err != nil {
		return err
	}
	return s.hub.Watch(ctx, s.from, s.store.opts.Interest, func(group []Remote, caughtUp bool) error {
		if len(group) > 0 {
			if err := s.apply(ctx, group); err != nil {
				return err
			}
		}
		if !caughtUp {
			return nil
		}
		if s.comparing {
			if err := s.compare(ctx); err != nil {
				return err
			}
		}
		s.set(true, nil)
		close(s.caught)
		return nil
	})
}

// apply takes a group over, with one commit: a key that has nothing pending
// becomes what the hub has, and the position passes it. A key with something
// pending is left to its turn.
func (s *session) apply(ctx context.Context, group []Remote) error {
	var turns []*Remote
	pulled := uint64(0)
	err := s.store.table.Update(ctx, func(tx *table.Tx) error {
		turns, pulled = turns[:0], 0
		for i := range group {
			r := &group[i]
			if s.comparing {
				s.seen[r.Key] = true
			}
			s.accept(r)
			took, turn, err := s.take(tx, r)
			if err != nil {
				return err
			}
			if took {
				pulled++
			}
			if turn {
				turns = append(turns, r)
			}
		}
		last := &group[len(group)-1]
		return s.store.writeMeta(tx, func(m *meta) {
			m.Position = Position{Revision: last.Revision, Received: last.Received}
		})
	})
	if err != nil {
		return err
	}
	s.store.count(func(c *SyncCounts) { c.Pulled += pulled })
	for _, r := range turns {
		s.queue.push(r.Key, r, false)
	}
	return nil
}

// accept clamps the clock of a version that the hub has.
func (s *session) accept(r *Remote) {
	if r.Value == nil {
		return
	}
	var clamped bool
	if r.Value.HLC, clamped = r.Value.HLC.clamp(r.Received, s.store.opts.Skew); clamped {
		r.Value.Clamped = true
		s.store.count(func(c *SyncCounts) { c.Clamped++ })
	}
}

// take takes one version over if it can, and reports whether it did, or whether
// the key is to have its turn.
func (s *session) take(tx *table.Tx, r *Remote) (took, turn bool, err error) {
	st, err := s.store.read(tx, r.Key)
	if err != nil {
		return false, false, err
	}
	revision, known := st.revision(s.epoch)
	switch {
	case known && st.Base != nil && r.Revision <= revision:
		return false, false, nil // it is our own, or older
	case st.Pending != nil:
		return false, true, nil
	case r.Value == nil:
		s.log.Error("a value at the hub cannot be used; the key waits until it is another", "store", s.store.opts.Name, "key", r.Key, "revision", r.Revision, "error", r.Err)
		unusable(st, r, s.store)
		return false, false, s.store.write(tx, r.Key, st)
	case known || r.Value.Hash == st.Base.Value.Hash || r.Value.VV.Contains(st.Base.Value.VV):
		s.store.clock.Observe(r.Value.HLC)
		st.closed(s.epoch, r.Revision, r.Value)
		return true, false, s.store.write(tx, r.Key, st)
	}
	// The hub has lost what it had acknowledged.
	resend(st, s.store)
	return false, true, s.store.write(tx, r.Key, st)
}

// resend makes what the hub once had something to send.
func resend(st *state, s *Store) {
	v := st.Base.Value
	st.Local, st.Pending = &v, &pending{Op: v.Op, Since: s.opts.Now().UTC(), Resend: true}
}

const compareGroup = 500 // keys in one commit

// compare ends a full comparison: a key that the hub had and has no more was
// deleted there, and its tombstone collected; or the hub has lost it.
func (s *session) compare(ctx context.Context) error {
	var gone []string
	s.store.mu.Lock()
	for key, in := range s.store.index {
		if in.based && !s.seen[key] && s.store.opts.Interest.Has(key) {
			gone = append(gone, key)
		}
	}
	s.store.mu.Unlock()
	for len(gone) > 0 {
		group := gone[:min(len(gone), compareGroup)]
		gone = gone[len(group):]
		if err := s.store.table.Update(ctx, func(tx *table.Tx) error {
			for _, key := range group {
				if err := s.missing(tx, key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	s.seen = nil
	if err := s.store.table.Update(ctx, func(tx *table.Tx) error {
		return s.store.writeMeta(tx, func(m *meta) {
			m.Comparing = false
			if m.Position.Revision < s.last { // what is not there any more was seen, too
				m.Position = Position{Revision: s.last, Received: s.asked}
			}
		})
	}); err != nil {
		return err
	}
	s.comparing = false
	return nil
}

// missing handles a key that the hub had and has no more.
func (s *session) missing(tx *table.Tx, key string) error {
	st, err := s.store.read(tx, key)
	if err != nil || st.Base == nil || st.Pending != nil {
		return err // what is pending finds out at its turn
	}
	if st.Base.Hub != s.epoch {
		resend(st, s.store)
		return s.store.write(tx, key, st)
	}
	if st.Base.Revision > s.last {
		return nil // it came after the comparison began
	}
	if !st.Base.Value.Deleted {
		if err := s.store.journal(tx, &JournalEntry{
			Key: key, Local: &st.Base.Value, Revision: st.Base.Revision, Action: TakeDelete, Resolver: policyResolver,
			Reason: "deleted at the hub while this edge was away for longer than deletes are remembered",
		}); err != nil {
			return err
		}
	}
	*st = state{}
	return s.store.write(tx, key, st)
}

// forgetCollected forgets the tombstones that every edge is past.
func (s *session) forgetCollected(ctx context.Context) error {
	var keys []string
	s.store.mu.Lock()
	collected := s.store.meta.Collected
	for key, in := range s.store.index {
		if in.deleted && in.based && !in.pending && in.revision <= collected {
			keys = append(keys, key)
		}
	}
	s.store.mu.Unlock()
	for len(keys) > 0 {
		group := keys[:min(len(keys), compareGroup)]
		keys = keys[len(group):]
		if err := s.store.table.Update(ctx, func(tx *table.Tx) error {
			for _, key := range group {
				st, err := s.store.read(tx, key)
				if err != nil {
					return err
				}
				if st.Pending != nil || st.Base == nil || !st.Base.Value.Deleted || st.Base.Hub != s.epoch || st.Base.Revision > collected {
					continue
				}
				*st = state{}
				if err := s.store.write(tx, key, st); err != nil {
					return err
				}
			}
			return s.store.writeMeta(tx, func(*meta) {})
		}); err != nil {
			return err
		}
	}
	return nil
}
