// This file is what a running edge tells of what it keeps, on its control
// socket; inspect_client.go asks.

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// The paths of the control socket that show and change what is kept.
const (
	deadLettersPath = "/v1/dead-letters" // GET shows, DELETE drops
	retryPath       = "/v1/dead-letters/retry"
	messagesPath    = "/v1/queue/messages"
	queuePath       = "/v1/queue"
)

// controlLine is one line of an answer that may be long: one of its members. The
// last line of a whole answer says End. Progress stands alone in a line, and only
// for who asks for it: how much was read, of how much.
type controlLine struct {
	Item     json.RawMessage `json:"item,omitempty"`
	Progress *[2]uint64      `json:"progress,omitempty"`
	Error    string          `json:"error,omitempty"`
	End      bool            `json:"end,omitempty"`
}

// answerInspection adds the endpoints of this file.
func (e *Engine) answerInspection(mux *http.ServeMux) {
	mux.HandleFunc("GET "+deadLettersPath, e.onSelection(func(ctx context.Context, sel queue.Selection, out *lines) error {
		return queue.EachDeadLetter(ctx, e.nc, sel, out.progress, func(b *queue.Buried) error { return out.item(b) })
	}))
	mux.HandleFunc("DELETE "+deadLettersPath, e.onSelection(func(ctx context.Context, sel queue.Selection, out *lines) error {
		n, err := queue.DropDeadLetters(ctx, e.nc, e.queue.DeadLetters(), sel, func(n int) error { return out.item(n) })
		if n > 0 {
			e.log.Info("dead letters were dropped on request", "dropped", n, "selection", selectionQuery(sel).Encode())
		}
		return errors.Join(err, out.item(n))
	}))
	mux.HandleFunc("POST "+retryPath, e.onSelection(func(ctx context.Context, sel queue.Selection, out *lines) error {
		n, err := e.RetryDeadLetters(ctx, sel, func(r Retried) error { return out.item(r) })
		if n.Again+n.Failed > 0 {
			e.log.Info("dead letters were sent again on request", "again", n.Again, "failed", n.Failed, "refused", n.Refused)
		}
		return errors.Join(err, out.item(n))
	}))
	mux.HandleFunc("GET "+messagesPath, func(w http.ResponseWriter, r *http.Request) {
		filter, standing, err := e.onQueue(r)
		if err != nil {
			e.answer(w, nil, err)
			return
		}
		e.stream(w, func(out *lines) error {
			return queue.EachWaiting(r.Context(), e.nc, standing, filter, func(m *queue.Waiting) error { return out.item(m) })
		})
	})
	mux.HandleFunc("GET "+queuePath, func(w http.ResponseWriter, r *http.Request) {
		filter, standing, err := e.onQueue(r)
		var stats queue.Stats
		if err == nil {
			stats, err = queue.WaitingStats(r.Context(), e.nc, standing, filter)
		}
		e.answer(w, stats, err)
	})
}

// onQueue reads what is asked about the queue, and how far the remotes are.
func (e *Engine) onQueue(r *http.Request) (queue.MessageFilter, queue.Standing, error) {
	q := r.URL.Query()
	filter := queue.MessageFilter{IDs: q["id"], Priority: q.Get("priority"), Topic: q.Get("topic")}
	if limit := q.Get("limit"); limit != "" {
		var err error
		if filter.Limit, err = strconv.Atoi(limit); err != nil {
			return filter, queue.Standing{}, fmt.Errorf("limit: %w", err)
		}
	}
	standing := queue.Standing{Passed: e.passed, Deliveries: e.deliveries}
	var err error
	standing.Aside, err = sync.Asides(r.Context(), e.nc)
	return filter, standing, err
}

// deliveries tells which remotes have yet to pass a message, and why they have
// not.
func (e *Engine) deliveries(m *queue.Waiting) (all []queue.Delivery) {
	lane := e.queue.Lane(m.Priority)
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.Feed.Lane != lane || r.wants != nil && !r.wants(m.Pipeline, m.Topic) {
				continue
			}
			d, ok := f.Delivery(m.Number)
			if !ok {
				continue
			}
			d.Remote = r.cfg.Name
			if state, _, err := r.monitor.State(); d.LastError == "" && state != sync.Online && err != nil {
				d.LastError = err.Error()
			}
			all = append(all, d)
		}
	}
	return all
}

// passed is the number up to which every remote has the messages of a priority.
func (e *Engine) passed(p record.Priority) uint64 {
	lane := e.queue.Lane(p)
	passed, found := lane.Last(), false
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.Feed.Lane == lane {
				at, _, _ := f.Status()
				passed, found = min(passed, at.Last), true
			}
		}
	}
	if !found {
		return 0
	}
	return passed
}

func (e *Engine) onSelection(do func(context.Context, queue.Selection, *lines) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sel, err := parseSelection(r.URL.Query())
		if err != nil {
			e.answer(w, nil, err)
			return
		}
		e.stream(w, func(out *lines) error {
			out.tells = r.URL.Query().Has(progressParameter)
			return do(r.Context(), sel, out)
		})
	}
}

// stream answers with lines. An error ends them, and stands in the last.
func (e *Engine) stream(w http.ResponseWriter, write func(*lines) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lines{json: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
	last := controlLine{End: true}
	if err := write(out); err != nil {
		last = controlLine{Error: err.Error()}
	}
	if err := out.json.Encode(last); err != nil {
		e.log.Debug("answering on the control socket", "error", err)
	}
}

// lines writes the lines of one answer.
type lines struct {
	json  *json.Encoder
	flush func() error
	sent  time.Time

	tells bool      // of the progress
	told  time.Time // of it
}

// flushEvery bounds how long a line waits for company.
const flushEvery = 200 * time.Millisecond

func (l *lines) item(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := l.json.Encode(controlLine{Item: data}); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(l.sent) >= flushEvery {
		l.sent = now
		return l.flush()
	}
	return nil
}

// progressParameter asks for lines that tell how far the reading is.
const progressParameter = "progress"

// progress tells how far the reading is: at once, then now and then, and at its
// end. It fails with the next item.
func (l *lines) progress(read, all uint64) {
	now := time.Now()
	if !l.tells || read < all && now.Sub(l.told) < flushEvery {
		return
	}
	l.told = now
	_ = errors.Join(l.json.Encode(controlLine{Progress: &[2]uint64{read, all}}), l.flush())
}

// selectionQuery writes a selection as the query of a URL.
func selectionQuery(sel queue.Selection) url.Values {
	q := url.Values{"id": sel.IDs}
	for name, value := range map[string]string{"pipeline": sel.Pipeline, "stage": sel.Stage, "contains": sel.Contains} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if !sel.Since.IsZero() {
		q.Set("since", sel.Since.UTC().Format(time.RFC3339Nano))
	}
	return q
}

func parseSelection(q url.Values) (queue.Selection, error) {
	sel := queue.Selection{IDs: q["id"], Pipeline: q.Get("pipeline"), Stage: q.Get("stage"), Contains: q.Get("contains")}
	if since := q.Get("since"); since != "" {
		var err error
		if sel.Since, err = time.Parse(time.RFC3339Nano, since); err != nil {
			return sel, fmt.Errorf("since: %w", err)
		}
	}
	return sel, nil
}
