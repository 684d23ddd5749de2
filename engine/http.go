package engine

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// openHTTP opens an HTTP remote.
func (e *Engine) openHTTP(ctx context.Context, cfg *config.Remote, rate *sync.Rate, log *slog.Logger) (*sync.HTTP, error) {
	path := pathsOf(cfg)
	opts := sync.HTTPOptions{
		Name: cfg.Name, Edge: e.config().Edge.DeviceID, URL: cfg.Args.String("url"), Health: cfg.Args.String("health"),
		Token: cfg.Args.String("token"), TokenFile: path(cfg.Args.String("token_file")),
		Timeout: cfg.Args.Duration("timeout"), Compression: cfg.Args.String("compression"),
		Headers: cfg.Args.Map("headers"), MaxAttempts: int(cfg.Args.Int("max_attempts")),
		MaxRetryAfter: cfg.Args.Duration("max_retry_after"), Isolate: cfg.Args.String("on_server_error") == "isolate",
		Conn: e.nc, DeadLetter: e.deadLetter, Rate: rate, Logger: log, Now: e.now,
	}
	if tls, ok := cfg.Args.Block("tls"); ok {
		files := broker.TLSFiles{CA: path(tls.String("ca")), Cert: path(tls.String("cert")), Key: path(tls.String("key"))}
		var err error
		if opts.TLS, err = files.ClientConfig(); err != nil {
			return nil, fmt.Errorf("remote %s: %w", cfg.Name, err)
		}
	}
	return sync.OpenHTTP(ctx, opts)
}

// deadLetter keeps what a remote does not take: through the outbox of its
// pipeline, where it is counted in the same commit (I6, I7). It returns when
// the dead letter is durable.
func (e *Engine) deadLetter(ctx context.Context, d record.DeadLetter) error {
	lane, err := e.records.Lane(ctx, d.Pipeline)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	err = lane.Append(ctx, &store.Group{
		Outbox: store.Outbox{DeadLetters: []record.DeadLetter{d}},
		Counts: store.Counts{DeadLetters: 1},
		Done:   func(err error) { done <- err },
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// auditor is a remote that keeps a ledger of what it has.
type auditor interface {
	Audit(ctx context.Context, feed *sync.Feed) (sync.FeedAudit, error)
}
