package keyed

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edged/edged/engine/keyed/table"
)

// Entry is what a reader gets of a key.
type Entry struct {
	Key  string          `json:"key"`
	Body json.RawMessage `json:"body,omitempty"`
	// ETag names the value: the same value has the same, everywhere.
	ETag    string `json:"etag"`
	Deleted bool   `json:"deleted,omitempty"`
	// Device wrote the value, and Time is what its clock said; Clock says how far
	// that can be trusted.
	Device string    `json:"device"`
	Time   time.Time `json:"time"`
	Clock  Quality   `json:"clock"`
	Schema uint64    `json:"schema,omitempty"`
	// Revision is the hub's revision that the value is based on, 0 when it was
	// never there.
	Revision uint64 `json:"revision,omitempty"`
	// Pending: the hub has not acknowledged the value yet.
	Pending bool `json:"pending,omitempty"`
	// Conflict names the conflict that waits for a person.
	Conflict string `json:"conflict,omitempty"`
	// Parked says why the key is not synced.
	Parked string `json:"parked,omitempty"`
}

func entryOf(key string, st *state) Entry {
	v := st.served()
	e := Entry{
		Key: key, Body: v.Body, ETag: etag(v), Deleted: v.Deleted, Device: v.Op.Device,
		Time: time.Unix(0, v.HLC.Wall).UTC(), Clock: v.Clock, Schema: v.Schema, Pending: st.Pending != nil,
	}
	if st.Base != nil {
		e.Revision = st.Base.Revision
	}
	if st.Open != nil {
		e.Conflict = st.Open.ID
	}
	if st.Parked != nil {
		e.Parked = st.Parked.Reason
	}
	return e
}

const etagLength = 16

func etag(v *Value) string {
	if v == nil || v.Deleted {
		return ""
	}
	return v.Hash[:etagLength]
}

// Get returns what is served for a key, or [ErrNotFound].
func (s *Store) Get(ctx context.Context, key string) (Entry, error) {
	data, err := s.table.Get(ctx, s.name(kindState, key))
	if err != nil {
		return Entry{}, err
	}
	st, err := decodeState(data)
	if err != nil {
		return Entry{}, err
	}
	if v := st.served(); v == nil || v.Deleted {
		return Entry{}, ErrNotFound
	}
	return entryOf(key, st), nil
}

// Condition is what must hold of a value for a change to be made.
type Condition struct {
	// Match is an ETag that the value must have; "*": any value.
	Match string
	// NoneMatch is one that it must not have; "*": there must be no value.
	NoneMatch string
}

func (c Condition) check(v *Value) error {
	have := etag(v)
	wrong := func(want string) bool { return have == want || want == "*" && have != "" }
	if c.Match != "" && !wrong(c.Match) || c.NoneMatch != "" && wrong(c.NoneMatch) {
		if have == "" {
			return fmt.Errorf("%w: there is none", ErrPrecondition)
		}
		return fmt.Errorf("%w: its ETag is %q", ErrPrecondition, have)
	}
	return nil
}

// Put stores a JSON value for a key and returns when it is on the disk (I1); it
// reaches the hub when the link allows. A value that says the same as the one
// there changes nothing.
func (s *Store) Put(ctx context.Context, key string, body []byte, c Condition) (Entry, error) {
	if err := CheckKey(key); err != nil {
		return Entry{}, err
	}
	v, err := newValue(body, false)
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	err = s.table.Update(ctx, func(tx *table.Tx) error {
		e, err = s.put(tx, key, v, c)
		return err
	})
	return e, err
}

// Delete removes a key, or returns [ErrNotFound]. See [Store.Put].
func (s *Store) Delete(ctx context.Context, key string, c Condition) error {
	v, err := newValue(nil, true)
	if err != nil {
		return err
	}
	return s.table.Update(ctx, func(tx *table.Tx) error {
		_, err := s.put(tx, key, v, c)
		return err
	})
}

// Item is one put of [Store.PutAll].
type Item struct {
	Key  string
	Body []byte
}

// Check says why an item cannot be stored; see [ErrRefused].
func Check(i Item) error {
	if err := CheckKey(i.Key); err != nil {
		return err
	}
	_, err := newValue(i.Body, false)
	return err
}

// Source is what [Store.PutAll] stores of a source with its values.
type Source struct {
	Name string
	// Position is where it continues, Beside what belongs to the values and is to be
	// stored elsewhere after them. What is nil stays as it is.
	Position, Beside json.RawMessage
}

// PutAll stores values, all with one flush, and with them what is to be kept of
// their source. Items that cannot be stored have their reason in refused, at their
// place, and the others are stored. What is on the disk already when a source begins
// anew behind its position is not put twice.
func (s *Store) PutAll(ctx context.Context, items []Item, source Source) (refused []error, err error) {
	values := make([]*Value, len(items))
	refused = make([]error, len(items))
	for i, item := range items {
		if refused[i] = CheckKey(item.Key); refused[i] == nil {
			values[i], refused[i] = newValue(item.Body, false)
		}
	}
	err = s.table.Update(ctx, func(tx *table.Tx) error {
		for i, item := range items {
			if values[i] == nil {
				continue
			}
			if _, err := s.put(tx, item.Key, values[i], Condition{}); err != nil {
				return err
			}
		}
		if source.Position != nil {
			tx.Put(s.name(kindSource, source.Name), source.Position)
		}
		if source.Beside != nil {
			tx.Put(s.name(kindBeside, source.Name), source.Beside)
		}
		return nil
	})
	return refused, err
}

// SourcePosition returns where a source of [Store.PutAll] continues; nil: at its
// beginning.
func (s *Store) SourcePosition(ctx context.Context, source string) (json.RawMessage, error) {
	return s.table.Get(ctx, s.name(kindSource, source))
}

// BesideSources lists the sources that have come with something beside when the
// store was opened.
func (s *Store) BesideSources() []string { return slices.Sorted(maps.Keys(s.beside)) }

// Beside returns what the newest values of a source came with; nil: nothing yet.
func (s *Store) Beside(ctx context.Context, source string) (json.RawMessage, error) {
	return s.table.Get(ctx, s.name(kindBeside, source))
}

// put makes a change in a transaction.
func (s *Store) put(tx *table.Tx, key string, value *Value, c Condition) (Entry, error) {
	st, err := s.read(tx, key)
	if err != nil {
		return Entry{}, err
	}
	now := st.served()
	if err := c.check(now); err != nil {
		return Entry{}, err
	}
	switch {
	case value.Deleted && (now == nil || now.Deleted):
		return Entry{}, ErrNotFound
	case now != nil && now.Hash == value.Hash && st.Open == nil:
		return entryOf(key, st), nil
	}
	if err := s.room(value); err != nil {
		return Entry{}, err
	}
	v := *value
	v.Op, v.Schema = s.nextOp(), s.opts.Schema
	v.HLC, v.Clock = s.clock.Now()
	st.change(&v, v.Op, s.opts.Now().UTC(), s.attempted(key))
	if err := s.write(tx, key, st); err != nil {
		return Entry{}, err
	}
	return entryOf(key, st), nil
}

// room says why a value cannot be taken now; it wraps [table.ErrFull].
func (s *Store) room(v *Value) error {
	if err := s.opts.Writable(); err != nil {
		return fmt.Errorf("%w: %w", table.ErrFull, err)
	}
	if v.Deleted { // it makes room
		return nil
	}
	return s.table.Room(len(v.Body))
}

// List returns up to limit keys with a prefix, in order, that come after a key.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]Entry, error) {
	var list []Entry
	for _, key := range s.keys(prefix, after, limit) {
		e, err := s.Get(ctx, key)
		if err == ErrNotFound { //nolint:errorlint // it is never wrapped, and was deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

func (s *Store) keys(prefix, after string, limit int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted == nil {
		s.sorted = make([]string, 0, s.counts.keys)
		for key, in := range s.index {
			if in.served {
				s.sorted = append(s.sorted, key)
			}
		}
		slices.Sort(s.sorted)
	}
	from, found := slices.BinarySearch(s.sorted, max(prefix, after))
	if found && s.sorted[from] == after {
		from++
	}
	keys := s.sorted[from:]
	for i, key := range keys {
		if i == limit || !strings.HasPrefix(key, prefix) {
			keys = keys[:i]
			break
		}
	}
	return slices.Clone(keys)
}

// Status is what a store says of itself.
type Status struct {
	Store string `json:"store"`
	// Keys is how many there are; Pending how many the hub has not acknowledged;
	// Conflicts how many wait for a person; Parked how many are not synced for
	// another reason.
	Keys      int      `json:"keys"`
	Pending   int      `json:"pending"`
	Conflicts int      `json:"conflicts"`
	Parked    int      `json:"parked"`
	Position  Position `json:"position"` // of the hub, up to which everything was seen
	SyncCounts
}

// SyncCounts count what syncing has done since the process started.
type SyncCounts struct {
	Pushed    uint64 `json:"pushed"`    // operations that the hub took
	Pulled    uint64 `json:"pulled"`    // versions taken over from the hub
	Recovered uint64 `json:"recovered"` // answers that were lost, and found
	Resolved  uint64 `json:"resolved"`  // conflicts settled without a person
	Equal     uint64 `json:"equal"`     // changes on both sides that were the same
	Retries   uint64 `json:"retries"`   // attempts that others were faster than
	Clamped   uint64 `json:"clamped"`   // versions whose clock was ahead of the hub's
}

// Status returns the store's status. It does not block.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		Store: s.opts.Name, Keys: s.counts.keys, Pending: s.counts.pending, Conflicts: s.counts.open, Parked: s.counts.parked,
		Position: s.meta.Position, SyncCounts: s.syncs,
	}
}

func (s *Store) count(change func(*SyncCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.syncs)
}
