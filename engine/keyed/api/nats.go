package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/record"
)

// Subject begins the subjects of requests on the edge's broker:
// edged.keyed.api.<store>.get, .put, .delete and .list, the names as subject
// tokens.
const Subject = "edged.keyed.api"

// request is what is asked. A key stands in the body, so that any is possible.
type request struct {
	Key       string          `json:"key,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"`
	Match     string          `json:"if_match,omitempty"`
	NoneMatch string          `json:"if_none_match,omitempty"`
	Prefix    string          `json:"prefix,omitempty"`
	After     string          `json:"after,omitempty"`
	Limit     int             `json:"limit,omitempty"`
}

// reply is what is answered.
type reply struct {
	// Status is that of HTTP.
	Status  int           `json:"status"`
	Error   string        `json:"error,omitempty"`
	Entry   *keyed.Entry  `json:"entry,omitempty"`
	Entries []keyed.Entry `json:"entries,omitempty"`
}

const natsTimeout = 30 * time.Second

// Serve answers requests on nc until ctx ends.
func Serve(ctx context.Context, nc *nats.Conn, o Options) error {
	sub, err := nc.SubscribeSync(Subject + ".*.*")
	if err != nil {
		return fmt.Errorf("serving keyed records: %w", err)
	}
	atOnce := make(chan struct{}, 64)
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			for range cap(atOnce) { // those under way
				atOnce <- struct{}{}
			}
			if ctx.Err() != nil {
				return sub.Unsubscribe()
			}
			return fmt.Errorf("serving keyed records: %w", err)
		}
		atOnce <- struct{}{}
		go func() {
			defer func() { <-atOnce }()
			data, err := json.Marshal(answer(ctx, o.Stores, msg))
			if err == nil && msg.Reply != "" {
				err = msg.Respond(data)
			}
			if err != nil && o.Logger != nil {
				o.Logger.Warn("a request could not be answered", "subject", msg.Subject, "error", err)
			}
		}()
	}
}

func answer(ctx context.Context, stores func() []*keyed.Store, msg *nats.Msg) reply {
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	name, verb, _ := strings.Cut(strings.TrimPrefix(msg.Subject, Subject+"."), ".")
	s := find(stores, func(s *keyed.Store) bool { return record.Token(s.Name()) == name })
	if s == nil {
		return reply{Status: 404, Error: "there is no keyed store of that name"}
	}
	var r request
	if err := json.Unmarshal(msg.Data, &r); err != nil {
		return reply{Status: 400, Error: "the request is not what it should be: " + err.Error()}
	}
	c := keyed.Condition{Match: r.Match, NoneMatch: r.NoneMatch}
	var out reply
	var err error
	switch verb {
	case "get":
		var e keyed.Entry
		e, err = s.Get(ctx, r.Key)
		out.Entry = &e
	case "put":
		var e keyed.Entry
		e, err = s.Put(ctx, r.Key, r.Body, c)
		out.Entry = &e
	case "delete":
		err = s.Delete(ctx, r.Key, c)
	case "list":
		if r.Limit <= 0 {
			r.Limit = listDefault
		}
		out.Entries, err = s.List(ctx, r.Prefix, r.After, min(r.Limit, listMost))
	default:
		return reply{Status: 404, Error: "there is get, put, delete and list"}
	}
	if err != nil {
		return reply{Status: statusOf(err), Error: err.Error()}
	}
	out.Status = 200
	return out
}
