package engine

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// route says which messages of one pipeline a remote gets.
type route struct {
	topics []string // nil: all
	named  []string // by the syncs of the pipeline, all of which name their topics; nil: one takes all
}

// takes reports whether messages of a topic go to the remote. A topic that no
// sync gets any more, because the configuration has changed since the message was
// raised, goes to every remote: an edit drops nothing.
func (r *route) takes(topic string) bool {
	return r.topics == nil || slices.Contains(r.topics, topic) || r.named != nil && !slices.Contains(r.named, topic)
}

func newRoute(p *config.Pipeline, s *config.Sync) *route {
	r := &route{topics: s.Topics, named: []string{}}
	for i := range p.Syncs {
		if p.Syncs[i].Topics == nil {
			r.named = nil
			break
		}
		r.named = append(r.named, p.Syncs[i].Topics...)
	}
	return r
}

// wants tells the messages of a remote, which these of all pipelines sync to, from
// those of others, by pipeline and topic. It returns nil when all of them are.
func wants(syncs map[*pipeline]*config.Sync, pipelines int) func(pipeline, topic string) bool {
	routes := map[string]*route{}
	all := len(syncs) == pipelines
	for p, s := range syncs {
		routes[p.cfg.Name] = newRoute(p.cfg, s)
		all = all && s.Topics == nil
	}
	if all {
		return nil
	}
	return func(pipeline, topic string) bool {
		r := routes[pipeline]
		return r != nil && r.takes(topic)
	}
}

// want is r.wants for a feed. What cannot be read is for the remote to refuse.
func (r *remote) want() func(*store.Stored) bool {
	if r.wants == nil {
		return nil
	}
	return func(s *store.Stored) bool {
		var m struct {
			Topic    string `json:"topic"`
			Pipeline string `json:"pipeline"`
		}
		return json.Unmarshal(s.Data, &m) != nil || r.wants(m.Pipeline, m.Topic)
	}
}

var expiresMember = []byte(`"expires":`)

// expires tells from when on a message is not to be sent any more; the zero time:
// never.
func expires(s *store.Stored) time.Time {
	if !bytes.Contains(s.Data, expiresMember) {
		return time.Time{}
	}
	var m record.Message
	if json.Unmarshal(s.Data, &m) != nil {
		return time.Time{} // what cannot be read is for the remote to refuse
	}
	return m.Expires
}
