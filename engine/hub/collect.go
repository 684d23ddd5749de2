package hub

import (
	"context"
	"log/slog"
	"time"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/keyed"
)

// collectEvery is how often the tombstones of keyed records are collected.
const collectEvery = time.Hour

// startCollecting collects until the function that it returns is called.
func startCollecting(b *broker.Broker, absence time.Duration, log *slog.Logger) (stop func(), err error) {
	nc, err := b.Connect("collecting")
	if err != nil {
		return nil, err
	}
	if absence == 0 {
		absence = keyed.DefaultAbsence
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(collectEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			c, err := keyed.Collect(ctx, nc, "", absence, time.Now())
			switch {
			case err != nil && ctx.Err() == nil:
				log.Warn("tombstones of keyed records were not collected", "error", err)
			case c.Tombstones+c.Edges > 0:
				log.Info("keyed records", "tombstones", c.Tombstones, "edges forgotten", c.Edges)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		nc.Close()
	}, nil
}
