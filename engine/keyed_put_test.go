package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/collect"
	"github.com/edged/edged/engine/record"
)

// putPipeline keeps a setting, remembers what it passed on, and raises messages.
const putPipeline = `
plugin "quiet" {
  module = "builtin:deadband"
  allow  = ["kv"]
  config = { fields = { "t" = "5" } }
}
pipeline "p" {
  collect "file" "seed" {
    path      = "seed.ndjson"
    follow    = true
    poll      = "20ms"
    data_type = "setting"
    device_id = "d"
    id        = input.id
    payload   = { t = input.t, text = input.text }
  }
  transform "quiet" {
    plugin = plugin.quiet
  }
  alert "hot" {
    when    = record.payload.t > 30
    topic   = "hot"
    message = { t = record.payload.t, text = record.payload.text }
  }
  store "keyed" {
    key      = "setting/${record.device_id}"
    conflict = "latest_wins"
  }
}
`

// TestKeyedBatchIsOne holds that a batch of a keyed pipeline is stored as a whole
// though it is two commits: a process that ends between them leaves the rest of it
// to the next, which does it once.
func TestKeyedBatchIsOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		pad  int  // bytes of the message's text
		both bool // the process ends after the second commit
	}{
		{"between", 10, false},
		{"after", 10, true},
		// It does not fit beside the values and goes first: what is between is repeated.
		{"large", besideBytes, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			seed := filepath.Join(dir, "seed.ndjson")
			if err := os.WriteFile(seed, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			putAndEnd(t, dir, c.pad, c.both)
			start := func() (*keyedEdge, func() Counts) {
				k := startKeyedEdge(t, "a", "nats-leaf://127.0.0.1:1", dir, putPipeline)
				return k, func() Counts { return k.e.Status().Pipelines[0].Totals }
			}
			k, counts := start()
			waitUntil(t, func() bool { return counts().Collected >= 1 }, func() string { return fmt.Sprintf("counts %+v", counts()) })
			k.becomes("/keyed/p/setting/d", fmt.Sprintf(`{"t":40,"text":%q}`, strings.Repeat("<", c.pad)))
			// The plugin knows what it passed on.
			if err := os.WriteFile(seed, []byte(`{"id":"r2","t":41,"text":""}`+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, func() bool { return counts().Collected >= 2 }, func() string { return fmt.Sprintf("counts %+v", counts()) })
			k.stop()
			k, counts = start()
			k.becomes("/keyed/p/setting/d", fmt.Sprintf(`{"t":40,"text":%q}`, strings.Repeat("<", c.pad)))
			if n := counts(); n.Collected != 2 || n.Messages != 1 || n.Dropped != 1 || n.DeadLetters != 0 {
				t.Errorf("counts %+v", n)
			}
		})
	}
}

// putAndEnd takes one record into the store, with its second commit or without.
func putAndEnd(t *testing.T, dir string, pad int, both bool) {
	t.Helper()
	e := openKeyedEdge(t, "a", "nats-leaf://127.0.0.1:1", dir, putPipeline)
	defer func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	p := e.setup.Load().pipelines[0]
	if err := e.finishKeyed(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w := newWorker(t.Context(), e, p, p.sources[0])
	b := &collect.Batch{Records: []record.Record{{
		ID: "r1", DeviceID: "d", DataType: "setting", Timestamp: time.Unix(1, 0),
		Payload: fmt.Appendf(nil, `{"t":40,"text":%q}`, strings.Repeat("<", pad)),
	}}}
	if both {
		if err := w.process(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := p.keys.hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.keys.release()
	g, err := w.prepare(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.putValues(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}
