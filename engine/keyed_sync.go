package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/sync"
)

// keyedSync is the sync of a pipeline's store with a remote.
type keyedSync struct {
	pipeline *pipeline
	remote   *config.Remote
	monitor  *sync.Monitor
	hub      keyed.Hub
	conn     *nats.Conn // nil: the hub needs none of its own
	sync     *keyed.Sync
	running  *task
}

// keyedGrace is how long a sync that changes may be done with the conflicts that
// it is deciding. What it is cut off in begins anew.
const keyedGrace = 10 * time.Second

// openKeyedSyncs makes the syncs of keyed stores, once their remotes are there.
func (e *Engine) openKeyedSyncs(context.Context) error {
	e.onClose("keyed links", func(context.Context) error {
		for _, k := range e.setup.Load().syncs {
			k.close()
		}
		return nil
	})
	set := e.setup.Load()
	return e.eachKeyedSync(set, func(p *pipeline, r *remote) error {
		k, err := e.newKeyedSync(p, r)
		if err == nil {
			set.syncs = append(set.syncs, k)
		}
		return err
	})
}

// eachKeyedSync calls each for the stores that sync, with their remotes.
func (e *Engine) eachKeyedSync(set *setup, each func(*pipeline, *remote) error) error {
	for _, r := range set.remotes {
		for p := range syncsTo(set, r.cfg) {
			if p.keyed == nil {
				continue
			}
			if err := each(p, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// newKeyedSync opens a store's way to its hub.
func (e *Engine) newKeyedSync(p *pipeline, r *remote) (*keyedSync, error) {
	k := &keyedSync{pipeline: p, remote: r.cfg, monitor: r.monitor}
	switch remote := r.remote.(type) {
	case *sync.HTTP:
		k.hub = remote.Keyed(p.cfg.Name)
	case *sync.NATS:
		var err error
		if k.conn, err = e.broker.ConnectLink(r.cfg.Name); err != nil {
			return nil, err
		}
		k.hub = keyed.NewNATSHub(k.conn, r.cfg.Args.String("domain"), p.cfg.Name)
	default:
		return nil, fmt.Errorf("pipeline %s: keyed records do not sync to remotes of the kind %q", p.cfg.Name, r.cfg.Kind)
	}
	k.hub = r.rate.Keyed(k.hub)
	e.renewKeyedSync(k)
	return k, nil
}

// renewKeyedSync makes the sync anew: each runs once.
func (e *Engine) renewKeyedSync(k *keyedSync) {
	k.sync = keyed.NewSync(keyed.SyncOptions{
		Store: k.pipeline.keyed, Hub: k.hub, WaitUp: k.monitor.WaitUp, Logger: e.log.With("part", "keyed", "remote", k.remote.Name),
	})
}

func (k *keyedSync) start(c *crew) {
	if k.running == nil {
		k.running = startTask(c.background, k.sync.Run)
	}
}

// stop returns when the sync has ended, done with what it was deciding.
func (k *keyedSync) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), keyedGrace)
	defer cancel()
	k.sync.Finish(ctx)
	k.running.stop()
}

func (k *keyedSync) close() {
	if k.conn != nil {
		k.conn.Close()
	}
}

// keyedDrained reports whether nothing waits for a hub but what waits for a
// person, or is parked.
func (e *Engine) keyedDrained() bool {
	for _, k := range e.setup.Load().syncs {
		caughtUp, _ := k.sync.State()
		if s := k.pipeline.keyed.Status(); !caughtUp || s.Pending > s.Conflicts+s.Parked {
			return false
		}
	}
	return true
}
