package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// Events are published on the edge's own broker, below eventSubject: what
// happens, for anyone who listens. They are not kept.
const (
	eventSubject = "edged.events"
	// connectionEvents is followed by the remote's name as a subject token; the
	// body is a [sync.Change].
	connectionEvents = eventSubject + ".connection"
	eventsPath       = "/v1/events"
	eventBacklog     = 1024 // events that may wait for a slow listener
)

// Event is one thing that happened at the edge.
type Event struct {
	Subject string          `json:"subject"`
	Data    json.RawMessage `json:"data"`
}

func (e *Engine) publishChange(c sync.Change) {
	data, err := json.Marshal(c)
	if err == nil {
		err = e.nc.Publish(connectionEvents+"."+record.Token(c.Remote), data)
	}
	if err != nil && !e.nc.IsClosed() {
		e.log.Warn("publishing a change of connection", "error", err)
	}
}

// answerEvents adds the endpoint that tells events as they happen.
func (e *Engine) answerEvents(mux *http.ServeMux) {
	mux.HandleFunc("GET "+eventsPath, func(w http.ResponseWriter, r *http.Request) {
		e.stream(w, func(out *lines) error { return e.follow(r.Context(), out) })
	})
}

// follow writes the state of every remote, as a change from it to itself, and
// then every event until ctx ends.
func (e *Engine) follow(ctx context.Context, out *lines) error {
	events := make(chan *nats.Msg, eventBacklog)
	sub, err := e.nc.ChanSubscribe(eventSubject+".>", events)
	if err != nil {
		return fmt.Errorf("listening for events: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only when the connection is gone
	for _, r := range e.remotes() {
		state, since, reason := r.monitor.State()
		now := sync.Change{Remote: r.cfg.Name, From: state, To: state, Time: since}
		if reason != nil {
			now.Error = reason.Error()
		}
		data, err := json.Marshal(now)
		if err != nil {
			return err
		}
		if err := out.item(Event{Subject: connectionEvents + "." + record.Token(r.cfg.Name), Data: data}); err != nil {
			return err
		}
	}
	for {
		if len(events) == 0 {
			if err := out.flush(); err != nil {
				return err
			}
		}
		select {
		case msg := <-events:
			data := json.RawMessage(msg.Data)
			if !json.Valid(data) { // anyone on the edge may publish there
				if data, err = json.Marshal(string(msg.Data)); err != nil {
					return err
				}
			}
			if err := out.item(Event{Subject: msg.Subject, Data: data}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Events calls each for the state of every remote, as a change from it to
// itself, and then for every event, until the edge stops (nil), ctx ends or each
// fails.
func (c *Client) Events(ctx context.Context, each func(*Event) error) error {
	return eachLine(ctx, c, http.MethodGet, eventsPath, nil, each)
}
