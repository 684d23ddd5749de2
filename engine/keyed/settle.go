package keyed

import (
	"context"
	"fmt"
	"slices"

	"github.com/edged/edged/engine/keyed/table"
)

// ended forgets that an attempt for a key may be on its way.
func (s *Store) ended(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.begun, key)
	delete(s.decided, key)
}

// decided is a decision whose result may be on its way to the hub.
type decided struct {
	op    Op // of the attempt
	entry *JournalEntry
}

// sending remembers the decision behind what is about to be sent: when the answer
// is lost, what the hub then has says only that the operation is in it.
func (s *Store) sending(key string, op Op, entry *JournalEntry) {
	if entry == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decided[key] = decided{op, entry}
}

// sentBy returns the decision about an operation that turns out to be at the hub;
// nil: it needed none, or another process made it.
func (s *Store) sentBy(key string, op Op) *JournalEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.decided[key]; d.op == op {
		return d.entry
	}
	return nil
}

// begin returns what is to be sent for a key, or nil when there is nothing to do
// now. From then on an attempt may be on its way: what is changed meanwhile
// remembers it. remote is a newer version that the hub was seen to have, or nil;
// again: what is parked gets another chance.
func (s *Store) begin(ctx context.Context, key string, remote *Remote, again bool) (st *state, err error) {
	err = s.table.Update(ctx, func(tx *table.Tx) error {
		if st, err = s.read(tx, key); err != nil {
			return err
		}
		switch {
		case st.Pending == nil,
			st.Open != nil && (remote == nil || remote.Revision <= st.Open.Revision),
			st.Parked != nil && !again && (remote == nil || remote.Revision <= st.Parked.Revision):
			st = nil
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.begun[key] = true
		return nil
	})
	return st, err
}

// outcome is where a key has arrived at the hub.
type outcome struct {
	hub      string
	revision uint64
	value    *Value
	entry    *JournalEntry // of the decision that led to it; nil: none was needed
	count    func(*SyncCounts)
}

// settle ends an attempt: the hub has what o says, and the operations up to the
// attempt's are done. What was changed here since it began is brought onto the
// hub's value, by the resolvers if that is not what was sent.
func (s *Store) settle(ctx context.Context, key string, a sent, o outcome) error {
	var since *Decision // about the changes since, up to the operation
	var upTo Op
	for {
		var conflict *Conflict
		err := s.table.Update(ctx, func(tx *table.Tx) error {
			st, err := s.read(tx, key)
			if err != nil {
				return err
			}
			conflict = nil
			if st.Pending == nil || st.attempt().Op != a.Op {
				return nil // a person was faster
			}
			if st.Sent != nil && a.Value.Hash != o.value.Hash && (since == nil || upTo != st.Pending.Op) {
				conflict, upTo = conflictOf(key, &a.Value, st.Local, &Remote{Revision: o.revision, Value: o.value}), st.Pending.Op
				return nil
			}
			return s.finish(tx, key, st, &a, &o, since)
		})
		if err != nil || conflict == nil {
			return err
		}
		d, err := decide(ctx, conflict, s.opts.Chain(DataType(key)), s.opts.OnDelete(DataType(key)), nil)
		if err != nil {
			return err
		}
		since = &d
	}
}

// finish is settle's change of the state.
func (s *Store) finish(tx *table.Tx, key string, st *state, a *sent, o *outcome, since *Decision) error {
	later, local, p := st.Sent != nil, st.Local, st.Pending
	st.closed(o.hub, o.revision, o.value)
	if o.entry != nil {
		if err := s.journal(tx, o.entry); err != nil {
			return err
		}
	}
	if later {
		p.Resend = false
		if err := s.rebase(tx, key, st, a, o, since, local, p); err != nil {
			return err
		}
	}
	s.clock.Observe(o.value.HLC)
	tx.OnCommit(func() {
		s.ended(key)
		if o.count != nil {
			s.count(o.count)
		}
	})
	return s.write(tx, key, st)
}

// rebase keeps what was changed after the attempt, on top of what the hub has.
func (s *Store) rebase(tx *table.Tx, key string, st *state, a *sent, o *outcome, since *Decision, local *Value, p *pending) error {
	result := local
	if since != nil {
		entry := s.entry(key, &a.Value, local, &Remote{Revision: o.revision, Value: o.value}, since)
		result = s.result(since, local, o.value, p.Op)
		entry.Result = result
		if since.Action == AskPerson {
			st.Local, st.Pending = local, p
			s.openConflict(st, &a.Value, o.hub, &Remote{Revision: o.revision, Value: o.value}, since)
			entry.Conflict, entry.Result = st.Open.ID, nil
		}
		if err := s.journal(tx, entry); err != nil {
			return err
		}
	}
	if st.Open == nil && result.Hash != o.value.Hash {
		st.Local, st.Pending = result, p
	}
	return nil
}

// result is the value that a decision makes of two; nil: none yet.
func (s *Store) result(d *Decision, local, remote *Value, op Op) *Value {
	v := *local
	switch d.Action {
	case TakeLocal:
		return local
	case TakeRemote:
		return remote
	case TakeMerged, TakeDelete:
		made, err := newValue(d.Body, d.Action == TakeDelete)
		if err != nil { // cannot be: the decision was checked
			return remote
		}
		v.Body, v.Deleted, v.Hash = made.Body, made.Deleted, made.Hash
		v.Op, v.Resolver = op, &d.Resolver
		v.Schema = max(local.Schema, remote.Schema)
		if remote.HLC.Compare(v.HLC) > 0 {
			v.HLC, v.Clock, v.Clamped = remote.HLC, remote.Clock, remote.Clamped
		}
		return &v
	}
	return nil
}

// conflictOf is what resolvers are told.
func conflictOf(key string, was, local *Value, remote *Remote) *Conflict {
	version := func(v *Value, revision uint64) Version {
		return Version{
			Key: key, Device: v.Op.Device, DataType: DataType(key), HLC: v.HLC, Clock: v.Clock,
			Deleted: v.Deleted, Revision: revision, Body: v.Body,
		}
	}
	c := &Conflict{Local: version(local, 0), Remote: version(remote.Value, remote.Revision)}
	if was != nil {
		b := version(was, 0)
		c.Base = &b
	}
	return c
}

// entry is the journal's about a decision.
func (s *Store) entry(key string, was, local *Value, remote *Remote, d *Decision) *JournalEntry {
	return &JournalEntry{
		Key: key, Base: was, Local: local, Remote: remote.Value, Revision: remote.Revision,
		Action: d.Action, Resolver: d.Resolver, Tried: d.Tried, Reason: d.Reason,
	}
}

// openConflict leaves a key to a person.
func (s *Store) openConflict(st *state, was *Value, hub string, remote *Remote, d *Decision) {
	since := s.opts.Now().UTC()
	if st.Open != nil {
		since = st.Open.Since
	}
	st.Open = &openState{
		Since: since, Base: was, Remote: *remote.Value, Hub: hub, Revision: remote.Revision,
		ServeLocal: d.ServeLocal, Reason: d.Reason, Resolver: d.Resolver,
	}
	st.Open.ID = st.openID()
}

// askPerson stores an open conflict, with the entry that says why.
func (s *Store) askPerson(ctx context.Context, key string, a sent, was *Value, hub string, remote *Remote, d *Decision) error {
	return s.table.Update(ctx, func(tx *table.Tx) error {
		st, err := s.read(tx, key)
		if err != nil || st.Pending == nil || st.attempt().Op != a.Op {
			return err
		}
		if st.Open != nil && st.Open.Revision >= remote.Revision && st.Open.Hub == hub {
			return nil
		}
		// The hub has moved past what was sent, so that it cannot be stored any more.
		st.Sent = nil
		s.openConflict(st, was, hub, remote, d)
		st.Faults, st.Parked = boundFaults(d.faults), nil
		tx.OnCommit(func() { s.ended(key) })
		entry := s.entry(key, was, st.Local, remote, d)
		entry.Conflict = st.Open.ID
		if err := s.journal(tx, entry); err != nil {
			return err
		}
		return s.write(tx, key, st)
	})
}

// maxFaults bounds how many faults are remembered of a key.
const maxFaults = 8

func boundFaults(f []fault) []fault { return f[max(0, len(f)-maxFaults):] }

// park lets a key wait, so that those behind it do not (I6).
func (s *Store) park(ctx context.Context, key string, why string, revision uint64, reason error) error {
	return s.table.Update(ctx, func(tx *table.Tx) error {
		st, err := s.read(tx, key)
		if err != nil || st.Pending == nil {
			return err
		}
		now := s.opts.Now().UTC()
		if old := st.Parked; old != nil && old.Why == why && old.Revision == revision {
			return nil
		}
		st.Parked = &parked{Why: why, Reason: reason.Error(), Since: now, Revision: revision}
		s.log.Warn("a key waits", "store", s.opts.Name, "key", key, "why", why, "reason", reason)
		return s.write(tx, key, st)
	})
}

// unusable notes that what the hub has of a key cannot be used.
func unusable(st *state, r *Remote, s *Store) {
	st.Parked = &parked{
		Why: parkedPoison, Reason: fmt.Sprintf("what is at the hub is %v", r.Err), Since: s.opts.Now().UTC(), Revision: r.Revision,
	}
}

// noteFaults remembers which resolvers failed on a conflict.
func (s *Store) noteFaults(ctx context.Context, key string, op Op, faults []fault) error {
	return s.table.Update(ctx, func(tx *table.Tx) error {
		st, err := s.read(tx, key)
		if err != nil || st.Pending == nil || st.attempt().Op != op || slices.Equal(st.Faults, faults) {
			return err
		}
		st.Faults = faults
		return s.write(tx, key, st)
	})
}
