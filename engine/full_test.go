package engine_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/hub"
)

// freePort returns an address that nothing listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	return l.Addr().String()
}

// until polls what only a running engine can tell.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(8 * time.Minute); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited eight minutes until %s", what)
		}
	}
}

// An edge whose store holds about 3 MiB collects 8 MB while its hub is away.
// With drop_oldest it takes everything and says what it dropped; otherwise the
// source waits and nothing is missing in the end.
func TestWhatHappensWhenTheStoreIsFull(t *testing.T) {
	const records, size = 200, 40 << 10
	for _, policy := range []string{"wait", "drop_oldest_synced", "drop_oldest"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			addr := freePort(t)
			file := filepath.Join(t.TempDir(), "in.ndjson")
			var text strings.Builder
			for i := range records {
				fmt.Fprintf(&text, `{"id":"r%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d,"fill":%q}}`+"\n",
					i+1, i+1, strings.Repeat("x", size))
			}
			if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, diags := config.Parse(map[string][]byte{"test.hcl": fmt.Appendf(nil, `
edge { device_id = "full" }
remote "nats" "hub" { urls = ["nats-leaf://%s"] }
pipeline "p" {
  when_full = %q
  collect "file" "f" { path = %q }
  sync { to = remote.nats.hub }
}`, addr, policy, file)}, engine.Catalog(), expr.Host{})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			cfg.Edge.MaxBytes = 4 << 20
			if policy == "wait" { // which does not shorten keep
				cfg.Edge.Keep = 0
			}
			e, err := engine.Open(t.Context(), cfg, engine.Options{DataDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- e.Run(ctx) }()
			if policy == "drop_oldest" {
				until(t, "the source has ended", func() bool { return e.Status().Pipelines[0].Sources[0].State == "ended" })
			} else {
				until(t, "the store is full", func() bool { return e.Status().Storage.Full })
			}
			offline := e.Status()
			if s := offline.Storage; s.Bytes > s.MaxBytes {
				t.Errorf("the store holds %d bytes of %d", s.Bytes, s.MaxBytes)
			}
			h, err := hub.Start(t.Context(), hub.Options{LeafListen: addr, DataDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			until(t, "all is stored and synced", func() bool {
				s := e.Status()
				return s.Totals.Stored == records && s.Waiting == 0
			})
			a, err := e.Audit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			row := a.Pipelines[len(a.Pipelines)-1]
			// What was on its way when it was dropped may have arrived all the same: the
			// ledger says so, exactly, and the total is its.
			discarded, named := e.Status().Totals.Discarded, uint64(0)
			for _, d := range row.Discarded {
				named += d[1] - d[0] + 1
			}
			if a.Gaps != 0 || a.Duplicates != 0 || row.AtHub+named != records || named != discarded {
				t.Errorf("discarded %d, the audit says %+v", discarded, row)
			}
			if (policy == "drop_oldest") != (discarded > 0) || (discarded > 0) != (len(row.Discarded) > 0) {
				t.Errorf("%s discarded %d: %v", policy, discarded, row.Discarded)
			}
			if policy != "drop_oldest" && offline.Totals.Stored >= records {
				t.Errorf("the store was full with all %d records", offline.Totals.Stored)
			}
			stop()
			if err := <-ran; err != nil {
				t.Error(err)
			}
			if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
