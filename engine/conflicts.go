// This file is what a running edge, or one that does not run, tells of the
// conflicts of its keyed records.

package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/store"
)

// The paths of the control socket that are about conflicts.
const (
	conflictsPath = "/v1/conflicts"           // GET lists those that wait for a person
	decisionsPath = "/v1/conflicts/decisions" // GET lists the journal
	resolvePath   = "/v1/conflicts/resolve"   // POST a choice
)

// ConflictFilter says which conflicts or decisions are meant; what is empty does
// not matter.
type ConflictFilter struct {
	IDs      []string // of conflicts, or their beginnings
	Pipeline string
	Prefix   string    // of the key
	Since    time.Time // of decisions
}

func (f *ConflictFilter) fits(pipeline, id, key string) bool {
	if f.Pipeline != "" && f.Pipeline != pipeline || !strings.HasPrefix(key, f.Prefix) {
		return false
	}
	for _, beginning := range f.IDs {
		if id != "" && strings.HasPrefix(id, beginning) {
			return true
		}
	}
	return len(f.IDs) == 0
}

// OpenConflict is a conflict that waits for a person, and its pipeline.
type OpenConflict struct {
	Pipeline string `json:"pipeline"`
	keyed.OpenConflict
}

// ConflictDecision is an entry of a pipeline's journal.
type ConflictDecision struct {
	Pipeline string `json:"pipeline"`
	keyed.JournalEntry
}

// ConflictChoice is what a person decides about a conflict.
type ConflictChoice struct {
	Pipeline string          `json:"pipeline"`
	Key      string          `json:"key"`
	ID       string          `json:"id"`
	Take     keyed.Action    `json:"take"`
	Body     json.RawMessage `json:"body,omitempty"`
	Reason   string          `json:"reason,omitempty"`
}

// conflictPage is how many conflicts or entries are read at a time.
const conflictPage = 100

// eachConflict calls each for the conflicts that wait, by pipeline and key.
func eachConflict(ctx context.Context, stores []*keyed.Store, f ConflictFilter, each func(*OpenConflict) error) error {
	for _, s := range stores {
		for after := ""; ; {
			page, err := s.Conflicts(ctx, after, conflictPage)
			if err != nil {
				return err
			}
			for i := range page {
				if after = page[i].Key; !f.fits(s.Name(), page[i].ID, page[i].Key) {
					continue
				}
				if err := each(&OpenConflict{s.Name(), page[i]}); err != nil {
					return err
				}
			}
			if len(page) < conflictPage {
				break
			}
		}
	}
	return nil
}

// eachDecision calls each for the entries of the journals, oldest first in each
// pipeline.
func eachDecision(ctx context.Context, stores []*keyed.Store, f ConflictFilter, each func(*ConflictDecision) error) error {
	for _, s := range stores {
		for after := uint64(0); ; {
			page, err := s.Journal(ctx, after, conflictPage)
			if err != nil {
				return err
			}
			for i := range page {
				after = page[i].Number
				if page[i].Time.Before(f.Since) || !f.fits(s.Name(), page[i].Conflict, page[i].Key) {
					continue
				}
				if err := each(&ConflictDecision{s.Name(), page[i]}); err != nil {
					return err
				}
			}
			if len(page) < conflictPage {
				break
			}
		}
	}
	return nil
}

// ErrStaleConflict says that a conflict is not the one that was decided about.
var ErrStaleConflict = keyed.ErrStale

// ResolveConflict settles a conflict as a person has decided; see
// [keyed.Store.Resolve].
func (e *Engine) ResolveConflict(ctx context.Context, c ConflictChoice) error {
	s := e.Keyed(c.Pipeline)
	if s == nil {
		return fmt.Errorf("the pipeline %q keeps no keyed records", c.Pipeline)
	}
	_, err := s.Resolve(ctx, c.Key, keyed.Choice{ID: c.ID, Take: c.Take, Body: c.Body, Reason: c.Reason})
	if err == nil {
		e.log.Info("a conflict was settled by a person", "pipeline", c.Pipeline, "key", c.Key, "take", c.Take)
	}
	return err
}

// answerConflicts adds the endpoints of this file.
func (e *Engine) answerConflicts(mux *http.ServeMux) {
	list := func(do func(context.Context, ConflictFilter, *lines) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			f, err := parseConflictFilter(r.URL.Query())
			if err != nil {
				e.answer(w, nil, err)
				return
			}
			e.stream(w, func(out *lines) error { return do(r.Context(), f, out) })
		}
	}
	mux.HandleFunc("GET "+conflictsPath, list(func(ctx context.Context, f ConflictFilter, out *lines) error {
		return eachConflict(ctx, e.keyedList(), f, func(c *OpenConflict) error { return out.item(c) })
	}))
	mux.HandleFunc("GET "+decisionsPath, list(func(ctx context.Context, f ConflictFilter, out *lines) error {
		return eachDecision(ctx, e.keyedList(), f, func(d *ConflictDecision) error { return out.item(d) })
	}))
	mux.HandleFunc("POST "+resolvePath, func(w http.ResponseWriter, r *http.Request) {
		var c ConflictChoice
		err := json.NewDecoder(io.LimitReader(r.Body, 2*keyed.MaxBodyBytes)).Decode(&c)
		if err == nil {
			err = e.ResolveConflict(r.Context(), c)
		}
		reply := choiceReply{}
		switch {
		case errors.Is(err, keyed.ErrStale):
			reply.Stale = true
		case err != nil:
			reply.Refused = err.Error()
		}
		e.answer(w, reply, nil)
	})
}

// choiceReply is the answer to a choice.
type choiceReply struct {
	Stale   bool   `json:"stale,omitempty"`
	Refused string `json:"refused,omitempty"`
}

func (f *ConflictFilter) query() url.Values {
	q := url.Values{"id": f.IDs, "pipeline": {f.Pipeline}, "prefix": {f.Prefix}}
	if !f.Since.IsZero() {
		q.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	return q
}

func parseConflictFilter(q url.Values) (f ConflictFilter, err error) {
	f = ConflictFilter{IDs: q["id"], Pipeline: q.Get("pipeline"), Prefix: q.Get("prefix")}
	if since := q.Get("since"); since != "" {
		if f.Since, err = time.Parse(time.RFC3339Nano, since); err != nil {
			return f, fmt.Errorf("since: %w", err)
		}
	}
	return f, nil
}

// Conflicts calls each for the conflicts that wait for a person, by pipeline and
// key; [store.ErrEnough] from it ends the answer.
func (c *Client) Conflicts(ctx context.Context, f ConflictFilter, each func(*OpenConflict) error) error {
	return eachLine(ctx, c, http.MethodGet, conflictsPath, f.query(), each)
}

// Decisions calls each for the entries of the journals, oldest first in each
// pipeline.
func (c *Client) Decisions(ctx context.Context, f ConflictFilter, each func(*ConflictDecision) error) error {
	return eachLine(ctx, c, http.MethodGet, decisionsPath, f.query(), each)
}

// ResolveConflict settles a conflict. It returns [ErrStaleConflict] when it is
// not the one that was decided about.
func (c *Client) ResolveConflict(ctx context.Context, choice ConflictChoice) error {
	body, err := json.Marshal(choice)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://edge"+resolvePath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the edge: %w", err)
	}
	defer resp.Body.Close() // read to its end, or of no use
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	var reply choiceReply
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return fmt.Errorf("asking the edge: %w", err)
	}
	switch {
	case reply.Stale:
		return ErrStaleConflict
	case reply.Refused != "":
		return errors.New(reply.Refused)
	}
	return nil
}

// Conflicts is as [Client.Conflicts].
func (s *Store) Conflicts(ctx context.Context, f ConflictFilter, each func(*OpenConflict) error) error {
	return s.withKeyed(ctx, func(stores []*keyed.Store) error { return eachConflict(ctx, stores, f, each) })
}

// Decisions is as [Client.Decisions].
func (s *Store) Decisions(ctx context.Context, f ConflictFilter, each func(*ConflictDecision) error) error {
	return s.withKeyed(ctx, func(stores []*keyed.Store) error { return eachDecision(ctx, stores, f, each) })
}

// ResolveConflict refuses: a choice is an operation of a device, and only the
// edge itself gives those out.
func (s *Store) ResolveConflict(context.Context, ConflictChoice) error {
	return errors.New("the edge must run to settle a conflict; start it with 'edged run'")
}

func (s *Store) withKeyed(ctx context.Context, do func([]*keyed.Store) error) error {
	stores, err := keyed.OpenExisting(ctx, s.nc, s.log.With("part", "keyed"))
	if errors.Is(err, keyed.ErrNoStores) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = do(stores.All()); errors.Is(err, store.ErrEnough) {
		err = nil
	}
	return errors.Join(err, stores.Close(ctx))
}
