package keyed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edged/edged/engine/keyed/table"
)

// ErrStale says that a conflict is not the one that was decided about: one of
// its versions has changed since, or it is settled.
var ErrStale = errors.New("the conflict has changed since; look at it again")

// OpenConflict waits for a person.
type OpenConflict struct {
	// ID names the two versions: when one of them changes it is another.
	ID     string    `json:"id"`
	Key    string    `json:"key"`
	Since  time.Time `json:"since"`
	Base   *Value    `json:"base,omitempty"`
	Local  Value     `json:"local"`
	Remote Value     `json:"remote"`
	// Revision is that of the remote version at the hub.
	Revision uint64     `json:"revision"`
	Serves   Action     `json:"serves"` // TakeLocal or TakeRemote
	Reason   string     `json:"reason"`
	Resolver ResolverID `json:"resolver"`
}

// Conflicts returns up to limit conflicts that wait for a person, in the order
// of their keys, that come after a key.
func (s *Store) Conflicts(ctx context.Context, after string, limit int) ([]OpenConflict, error) {
	var keys []string
	s.mu.Lock()
	for key, in := range s.index {
		if in.open && key > after {
			keys = append(keys, key)
		}
	}
	s.mu.Unlock()
	slices.Sort(keys)
	var list []OpenConflict
	for _, key := range keys {
		if len(list) == limit {
			break
		}
		c, err := s.Conflict(ctx, key)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// Conflict returns the open conflict of a key, or [ErrNotFound].
func (s *Store) Conflict(ctx context.Context, key string) (OpenConflict, error) {
	data, err := s.table.Get(ctx, s.name(kindState, key))
	if err != nil {
		return OpenConflict{}, err
	}
	st, err := decodeState(data)
	if err != nil {
		return OpenConflict{}, err
	}
	if st.Open == nil {
		return OpenConflict{}, ErrNotFound
	}
	o := st.Open
	c := OpenConflict{
		ID: o.ID, Key: key, Since: o.Since, Base: o.Base, Local: *st.Local, Remote: o.Remote,
		Revision: o.Revision, Serves: TakeRemote, Reason: o.Reason, Resolver: o.Resolver,
	}
	if o.ServeLocal {
		c.Serves = TakeLocal
	}
	return c, nil
}

// Choice is what a person decides.
type Choice struct {
	// ID is that of the conflict which the person has seen.
	ID string
	// Take is TakeLocal, TakeRemote, TakeDelete, or TakeMerged with Body.
	Take Action
	Body []byte
	// Reason is for the journal: who decided, and why.
	Reason string
}

// Resolve settles an open conflict as a person has decided. It returns
// [ErrStale] when the conflict is not the one that was seen. The choice is an
// edit on top of the remote version; when the hub has moved on meanwhile it is
// refused there, and the conflict opens again.
func (s *Store) Resolve(ctx context.Context, key string, c Choice) (Entry, error) {
	var chosen *Value
	var err error
	switch c.Take {
	case TakeLocal, TakeRemote:
	case TakeMerged:
		chosen, err = newValue(c.Body, false)
	case TakeDelete:
		chosen, err = newValue(nil, true)
	default:
		err = fmt.Errorf("%w: a choice is local, remote, merged or delete, not %q", ErrRefused, c.Take)
	}
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	err = s.table.Update(ctx, func(tx *table.Tx) error {
		e, err = s.resolve(tx, key, chosen, c)
		return err
	})
	return e, err
}

func (s *Store) resolve(tx *table.Tx, key string, chosen *Value, c Choice) (Entry, error) {
	st, err := s.read(tx, key)
	if err != nil {
		return Entry{}, err
	}
	if st.Open == nil || st.Open.ID != c.ID {
		return Entry{}, ErrStale
	}
	o, local, since := st.Open, st.Local, st.Pending.Since
	entry := &JournalEntry{
		Key: key, Base: o.Base, Local: local, Remote: &o.Remote, Revision: o.Revision, Action: c.Take,
		Resolver: personResolver, Reason: c.Reason, Conflict: o.ID,
	}
	switch c.Take {
	case TakeLocal:
		chosen = local
	case TakeRemote:
		chosen = &o.Remote
	}
	st.closed(o.Hub, o.Revision, &o.Remote)
	entry.Result = &st.Base.Value
	if chosen.Hash != o.Remote.Hash {
		v := *chosen
		v.Op, v.Schema, v.Resolver = s.nextOp(), s.opts.Schema, nil
		v.HLC, v.Clock = s.clock.Now()
		st.Local, st.Pending = &v, &pending{Op: v.Op, Since: since}
		entry.Result = &v
	}
	if err := s.journal(tx, entry); err != nil {
		return Entry{}, err
	}
	tx.OnCommit(func() { s.ended(key) })
	return entryOf(key, st), s.write(tx, key, st)
}
