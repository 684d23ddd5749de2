package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	gosync "sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

const (
	stateBucket = "EDGED_STATE"
	// housekeepEvery is how often positions are saved and storage is freed.
	housekeepEvery = 2 * time.Second
)

// stateStore remembers, across restarts, what each remote was known to have. It
// is a hint for people and for a start without a link; the remote's own ledger
// is the truth.
type stateStore struct {
	kv    jetstream.KeyValue
	mu    gosync.Mutex
	saved map[string]savedPosition
	met   map[string]bool // which feeds this process has asked their remote about
}

type savedPosition struct {
	Epoch      string    `json:"epoch"`
	Last       uint64    `json:"last"`
	Total      uint64    `json:"total"`
	Aside      uint64    `json:"aside,omitempty"`
	AsideSince time.Time `json:"aside_since,omitzero"`
	Seq        uint64    `json:"seq,omitempty"`
	Expired    uint64    `json:"expired,omitempty"`
	Discarded  uint64    `json:"discarded,omitempty"`
	Failed     uint64    `json:"failed,omitempty"`
	LastSync   time.Time `json:"last_sync,omitzero"`
	// LastError is empty when the last try went well.
	LastError string `json:"last_error,omitempty"`
	sync.Past
}

func (p *savedPosition) position() sync.Position {
	return sync.Position{Last: p.Last, Total: p.Total, Aside: p.Aside, AsideSince: p.AsideSince, Expired: p.Expired, Discarded: p.Discarded, Failed: p.Failed, Seq: p.Seq}
}

// maxSavedError bounds an error as it is saved.
const maxSavedError = 500

func openState(ctx context.Context, nc *nats.Conn) (*stateStore, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: stateBucket, MaxBytes: 16 << 20})
	if err != nil {
		return nil, fmt.Errorf("opening the bucket %s: %w", stateBucket, err)
	}
	saved, err := readState(ctx, kv)
	if err != nil {
		return nil, err
	}
	return &stateStore{kv: kv, saved: saved, met: map[string]bool{}}, nil
}

// readState reads every saved position, by its key.
func readState(ctx context.Context, kv jetstream.KeyValue) (map[string]savedPosition, error) {
	saved := map[string]savedPosition{}
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the bucket %s: %w", stateBucket, err)
	}
	for key := range keys.Keys() {
		entry, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s of the bucket %s: %w", key, stateBucket, err)
		}
		var p savedPosition
		if json.Unmarshal(entry.Value(), &p) != nil {
			continue // damaged: it is only a hint, and the remote is asked anyhow
		}
		saved[key] = p
	}
	return saved, nil
}

func stateKey(remote string, kind sync.Kind, lane string) string {
	name := "records"
	if kind == sync.Messages {
		name = "queue"
	}
	return "sync." + record.Token(remote) + "." + name + "." + record.Token(lane)
}

// recall tells a feed what was saved of it. A position of another epoch says
// nothing.
func (s *stateStore) recall(remote string, f *sync.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := stateKey(remote, f.Kind, f.Lane.Name())
	p := s.saved[key]
	f.Met = s.met[key]
	if p.Epoch == epochOf(f.Lane) {
		f.Known, f.Past = p.position(), p.Past
	}
	f.LastSync, f.LastError = p.LastSync, p.LastError
}

// meet remembers which feeds of a remote have asked it. That is true of those that
// come in their place, also when the remote was gone in between.
func (s *stateStore) meet(r *remote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range r.feeds {
		if f.Met() {
			s.met[stateKey(r.cfg.Name, f.Feed.Kind, f.Feed.Lane.Name())] = true
		}
	}
}

// epochOf is the epoch of a lane's newest era.
func epochOf(lane *store.Lane) string {
	eras := lane.Eras()
	return eras[len(eras)-1].Epoch
}

// knownSynced returns the number up to which a lane that no pipeline owns any
// more is known to be at every remote it was synced to, of those that are still
// configured (I3). 0: nothing is known to be anywhere.
func (e *Engine) knownSynced(lane *store.Lane) uint64 {
	epoch := epochOf(lane)
	e.state.mu.Lock()
	defer e.state.mu.Unlock()
	somewhere, lowest := uint64(0), lane.Last()
	for key, p := range e.state.saved {
		remote, ok := strings.CutSuffix(strings.TrimPrefix(key, "sync."), ".records."+record.Token(lane.Name()))
		if !ok {
			continue
		}
		if p.Epoch != epoch {
			p.Last = 0
		}
		somewhere = max(somewhere, p.Last)
		if slices.ContainsFunc(e.config().Remotes, func(r config.Remote) bool { return record.Token(r.Name) == remote }) {
			lowest = min(lowest, p.Last)
		}
	}
	return min(somewhere, lowest)
}

// saveState writes the positions that have changed.
func (e *Engine) saveState(ctx context.Context) error {
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			at, lastSync, lastErr := f.Status()
			key := stateKey(r.cfg.Name, f.Feed.Kind, f.Feed.Lane.Name())
			p := savedPosition{
				Epoch: epochOf(f.Feed.Lane), Last: at.Last, Total: at.Total, Aside: at.Aside, AsideSince: at.AsideSince, Expired: at.Expired, Discarded: at.Discarded, Failed: at.Failed, Seq: at.Seq,
				LastSync: lastSync, Past: f.Past(),
			}
			if lastErr != nil {
				text := lastErr.Error()
				p.LastError = strings.ToValidUTF8(text[:min(len(text), maxSavedError)], "")
			}
			e.state.mu.Lock()
			old := e.state.saved[key]
			e.state.mu.Unlock()
			if p.LastSync.IsZero() {
				p.LastSync = old.LastSync
			}
			if reflect.DeepEqual(old, p) { // a remote that has nothing yet is remembered too
				continue
			}
			data, err := json.Marshal(p)
			if err != nil {
				return fmt.Errorf("saving the sync state: %w", err)
			}
			if _, err := e.state.kv.Put(ctx, key, data); err != nil {
				return fmt.Errorf("saving the sync state: %w", err)
			}
			e.state.mu.Lock()
			e.state.saved[key] = p
			e.state.mu.Unlock()
		}
	}
	return nil
}

// housekeep saves positions and frees what every remote has, until ctx ends.
func (e *Engine) housekeep(ctx context.Context) {
	for _, lane := range e.removedLanes() {
		if max(e.knownSynced(lane), lane.GivenUp()) < lane.Last() {
			e.log.Warn("a pipeline is no longer configured and has records that may not be synced; they are kept",
				"pipeline", lane.Name(), "stored", lane.Last())
		}
	}
	tick := time.NewTicker(housekeepEvery)
	defer tick.Stop()
	keeper := newKeeper(e)
	for {
		filled, queueFilled := e.records.Filled(), e.queue.Log().Filled()
		select {
		case <-tick.C:
		case <-filled:
		case <-queueFilled:
		case <-ctx.Done():
			return
		}
		if level, _ := e.disk.Gate().State(); level == store.GateShut {
			continue // the guard tells of it, and looks after it
		}
		err := errors.Join(e.saveState(ctx), e.saveHighWater(), keeper.free(ctx))
		if err != nil && ctx.Err() == nil {
			e.log.Warn("housekeeping", "error", err)
		}
	}
}

func (e *Engine) messageFloor() uint64 {
	durable := e.queue.Log().Durable()
	floor := durable + 1
	taken := false
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.pipeline == nil {
				taken = true
				floor = min(floor, f.Floor(durable))
			}
		}
	}
	if !taken {
		return 0
	}
	return floor
}
