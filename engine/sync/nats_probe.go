package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// errRenewed says that the hub is not what it was when it was asked before, so
// that its ledger may stand elsewhere.
var errRenewed = errors.New("is another one or an older copy: asking it anew what it has")

// queueProbe is how often a probe looks at the queue's stream too: an answer is
// more than a thousand bytes.
const queueProbe = 4

// incarnation is what tells one life of a hub's stream from another: a stream
// that is made anew has another time of creation, one that was restored from a
// backup has the old one and has gone back.
type incarnation struct {
	created time.Time
	last    uint64 // stream sequence
}

// streamInfo is the part of a hub's answer that matters here.
type streamInfo struct {
	Error   *jetstream.APIError    `json:"error"`
	Config  jetstream.StreamConfig `json:"config"`
	Created time.Time              `json:"created"`
	State   struct {
		Last uint64 `json:"last_seq"`
	} `json:"state"`
}

// RefusesKey is where `edged hub` says in a stream's metadata why it takes no
// batches now.
const RefusesKey = "edged-refuses"

// Probe asks the hub for its record stream: an answer proves the whole way.
func (r *NATS) Probe(ctx context.Context) error {
	if !r.Reachable() {
		return errors.New("the leaf node is not connected")
	}
	info, err := r.streamInfo(ctx, HubRecordStream)
	switch {
	case err != nil:
		return err
	case info.Error != nil:
		if err := noStream(info.Error, HubRecordStream); err != nil {
			return err
		}
		return fmt.Errorf("asking the hub: %w", info.Error)
	case info.Config.Metadata[RefusesKey] != "":
		return fmt.Errorf("the hub takes nothing now: %s", info.Config.Metadata[RefusesKey])
	case !info.Config.AllowAtomicPublish:
		return fmt.Errorf("the hub's stream %s does not allow atomic publish, which the ledger needs", HubRecordStream)
	}
	renewed := r.renewed(HubRecordStream, info)
	r.mu.Lock()
	both := r.probes%queueProbe == 0
	r.probes++
	r.mu.Unlock()
	if both {
		// What is wrong with the queue alone concerns messages alone (I6).
		if info, err = r.streamInfo(ctx, HubQueueStream); err != nil {
			return err
		}
		if info.Error == nil {
			renewed = errors.Join(renewed, r.renewed(HubQueueStream, info))
		}
	}
	return renewed
}

func (r *NATS) streamInfo(ctx context.Context, stream string) (*streamInfo, error) {
	answer, err := r.nc.RequestWithContext(ctx, broker.APIPrefix(r.domain)+"STREAM.INFO."+stream, nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("the hub has no JetStream domain %q, or does not let this edge use it", r.domain)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the hub: %w", err)
	}
	info := &streamInfo{}
	if err := json.Unmarshal(answer.Data, info); err != nil {
		return nil, fmt.Errorf("asking the hub: reading the answer: %w", err)
	}
	return info, nil
}

// renewed notes what the stream is now, and returns errRenewed when it is not
// what it was.
func (r *NATS) renewed(stream string, info *streamInfo) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, known := r.seen[stream]
	r.seen[stream] = incarnation{created: info.Created, last: info.State.Last}
	if known && (!was.created.Equal(info.Created) || info.State.Last < was.last) {
		return fmt.Errorf("the hub's stream %s %w", stream, errRenewed)
	}
	return nil
}

// missingStream is a hub's refusal for lack of a stream.
type missingStream struct {
	stream  string
	refusal error
}

func (m *missingStream) Error() string {
	return fmt.Sprintf("the hub has no stream %s; `edged hub` makes it", m.stream)
}

func (m *missingStream) Unwrap() error { return m.refusal }

// noStream says what to do when a hub refuses because it lacks a stream; nil:
// that is not why.
func noStream(err error, stream string) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamNotFound {
		return nil
	}
	return &missingStream{stream, err}
}

// refusedBy reports whether err is a hub's answer: it is there, and says no.
func refusedBy(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api)
}

// crowded reports whether a hub had no room for one more batch under way. That
// passes quickly and is nothing that anyone need know of.
func crowded(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == broker.CodeTooManyInFlight || api.ErrorCode == broker.CodeIncompleteBatch)
}
