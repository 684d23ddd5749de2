package keyed

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/edged/edged/engine/keyed/table"
)

// JournalEntry is one decision about two versions of a key, by a resolver, a
// policy or a person.
type JournalEntry struct {
	Number uint64    `json:"number"` // 1, 2, 3, … in a store
	Time   time.Time `json:"time"`
	Key    string    `json:"key"`
	Base   *Value    `json:"base,omitempty"`
	Local  *Value    `json:"local,omitempty"`
	Remote *Value    `json:"remote,omitempty"`
	// Revision is that of the remote version at the hub.
	Revision uint64     `json:"revision"`
	Action   Action     `json:"action"`
	Result   *Value     `json:"result,omitempty"`
	Resolver ResolverID `json:"resolver"`
	Tried    []Tried    `json:"tried,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	// Conflict names the open conflict that the entry opens or closes.
	Conflict string `json:"conflict,omitempty"`
}

// Versions returns what the entry decided about, as a resolver is told of it. It
// is false for an entry that does not have both versions.
func (e *JournalEntry) Versions() (Conflict, bool) {
	if e.Local == nil || e.Remote == nil {
		return Conflict{}, false
	}
	return *conflictOf(e.Key, e.Base, e.Local, &Remote{Key: e.Key, Revision: e.Revision, Value: e.Remote}), true
}

func journalName(n uint64) string { return fmt.Sprintf("%020d", n) }

func journalNumber(name string) (uint64, error) {
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the journal: %w", err)
	}
	return n, nil
}

// journal appends an entry in a transaction and drops the oldest above the
// bound.
func (s *Store) journal(tx *table.Tx, e *JournalEntry) error {
	e.Number, e.Time = s.journalNext, s.opts.Now().UTC()
	data, err := marshal(e)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	s.journalNext++
	tx.Put(s.name(kindJournal, journalName(e.Number)), data)
	drop := uint64(0)
	if e.Number > uint64(s.opts.JournalEntries) {
		drop = e.Number - uint64(s.opts.JournalEntries)
		tx.Delete(s.name(kindJournal, journalName(drop)))
	}
	tx.OnCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.next, s.first = e.Number+1, max(s.first, drop+1)
	})
	return nil
}

// Journal returns up to limit entries with numbers above after, oldest first.
func (s *Store) Journal(ctx context.Context, after uint64, limit int) ([]JournalEntry, error) {
	s.mu.Lock()
	first, next := s.first, s.next
	if kept := uint64(s.opts.JournalEntries); next > kept {
		first = max(first, next-kept)
	}
	s.mu.Unlock()
	var list []JournalEntry
	for n := max(first, after+1); n < next && len(list) < limit; n++ {
		data, err := s.table.Get(ctx, s.name(kindJournal, journalName(n)))
		if err != nil {
			return nil, err
		}
		if data == nil { // dropped meanwhile, or its commit failed
			continue
		}
		var e JournalEntry
		if err := json.Unmarshal(data, &e); err != nil {
			return nil, fmt.Errorf("reading entry %d of the journal: %w", n, err)
		}
		list = append(list, e)
	}
	return list, nil
}
