package hub

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/guard"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

const (
	// diskFullAfter is what Retry-After says while the disk takes nothing.
	diskFullAfter = storeFullAfter
	toldTimeout   = 5 * time.Second
)

// diskGuard guards the hub's disk. While that is full, or fails, requests are refused,
// and so are the batches of edges: their streams take no atomic batch. That does
// not touch one that is being committed, as a limit of bytes would.
type diskGuard struct {
	*guard.Guard
	nc     *nats.Conn
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}
}

func newDiskGuard(opts Options) *diskGuard {
	d := &diskGuard{log: opts.Logger, done: make(chan struct{})}
	d.Guard = guard.New(guard.Options{
		Dir: opts.DataDir, MaxBytes: opts.MaxBytes, Taker: "the hub", Logger: opts.Logger.With("part", "disk"), Told: d.told,
	})
	return d
}

// start guards until stop.
func (d *diskGuard) start(b *broker.Broker) (err error) {
	if d.nc, err = b.Connect("disk"); err != nil {
		return err
	}
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(d.done)
		if err := d.Run(ctx, b); err != nil {
			d.log.Error("the disk is not guarded any more", "error", err)
		}
	}()
	return nil
}

func (d *diskGuard) stop() {
	d.cancel()
	<-d.done
	d.nc.Close()
}

// told lets the streams take batches or not. Their settings are on the disk too:
// while nothing at all can be written, the server takes nothing and answers nobody.
func (d *diskGuard) told(ctx context.Context, level store.Level, why error) error {
	if level == store.GateShut {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, toldTimeout)
	defer cancel()
	js, err := jetstream.New(d.nc)
	if err != nil {
		return err
	}
	for _, name := range []string{sync.HubRecordStream, sync.HubQueueStream} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
		cfg := stream.CachedInfo().Config
		cfg.AllowAtomicPublish = level == store.GateOpen
		metadata := map[string]string{}
		maps.Copy(metadata, cfg.Metadata)
		if delete(metadata, sync.RefusesKey); !cfg.AllowAtomicPublish {
			metadata[sync.RefusesKey] = why.Error()
		}
		cfg.Metadata = metadata
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
	}
	return nil
}

// refuses is the answer to what would be stored, nil: it is taken.
func (d *diskGuard) refuses() error {
	level, why := d.Gate().State()
	if level == store.GateOpen {
		return nil
	}
	return &refusal{status: http.StatusServiceUnavailable, after: diskFullAfter, reason: "the hub takes nothing now: " + why.Error()}
}
