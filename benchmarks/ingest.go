package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine"
)

// collectArm: a file of records into the store of an edge, fsynced before the
// position moves; no transform, no rule, no sync.
func collectArm(ctx context.Context, a *armRun) (time.Duration, error) {
	took, err := runEdge(ctx, a.dir, edgeFile{source: fileSource(a.Data)}, func(engine.Status) error { return nil })
	if err != nil {
		return 0, err
	}
	// The edge is closed: another server opens its store and counts.
	s, nc, err := startServer(filepath.Join(a.dir, "data", "jetstream"), "")
	if err != nil {
		return 0, err
	}
	defer stopServer(s)
	defer nc.Close()
	t, err := countEdge(ctx, nc, nil)
	return took, t.exactly(a.Records, err)
}

// pipelineArm: the same file through the dew point plugin and two rules into
// the store, and over a leaf node into the embedded hub, which fsyncs too.
func pipelineArm(ctx context.Context, a *armRun) (time.Duration, error) {
	addr, err := freeAddress()
	if err != nil {
		return 0, err
	}
	f := edgeFile{
		source: fileSource(a.Data), transform: true, rules: true, batch: 999,
		remote: fmt.Sprintf("embedded      = true\n  client_listen = %q", addr),
	}
	return runEdge(ctx, a.dir, f, func(engine.Status) error {
		nc, err := nats.Connect("nats://" + addr)
		if err != nil {
			return err
		}
		defer nc.Close()
		t, err := countHub(ctx, nc, "EDGED_RECORDS", "edged.hub.records.>", []byte(`"dew_point":`))
		if err := t.exactly(a.Records, err); err != nil {
			return err
		}
		if t.Marked != a.Records {
			return fmt.Errorf("%d of %d records at the hub have a dew point", t.Marked, a.Records)
		}
		q, err := countHub(ctx, nc, "EDGED_QUEUE", "edged.hub.queue.>", nil)
		if err == nil && q.Records != a.Alerts {
			err = fmt.Errorf("%d messages at the hub, want %d", q.Records, a.Alerts)
		}
		return err
	})
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
