package engine_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/queue"
)

// clock is a time that a test moves. Its methods may be called from any goroutine.
type clock struct{ nanos atomic.Int64 }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.nanos.Store(at.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// startAt is start with a clock.
func (r *rig) startAt(c *clock, text string) *running {
	r.t.Helper()
	host := expr.Host{Now: c.now}
	cfg, diags := config.Parse(map[string][]byte{filepath.Join(r.dir, "test.hcl"): []byte(text)}, engine.Catalog(), host)
	if diags.HasErrors() {
		r.t.Fatal(diags)
	}
	return r.open(cfg, engine.Options{DataDir: r.data, Host: host})
}

const expiring = `
edge { device_id = "expiring" }
remote %q "hub" {
  %s
}
pipeline "p" {
  collect "file" "f" {
    path   = %s
    follow = true
  }
  alert "short" {
    when     = record.payload.n %% 2 == 0
    topic    = "short"
    priority = "high"
    ttl      = "1h"
  }
  alert "long" {
    when     = record.payload.n > 15
    topic    = "long"
    priority = "high"
    ttl      = "30d"
  }
  sync { to = remote.%s.hub }
}`

// TestExpiredMessagesAreNotSent raises alerts while the hub is away for longer
// than some of them may wait. Those are not sent, their room is freed as far as
// they are the oldest, status counts them, and the hub's ledger names each of
// their numbers, so that the audit explains every one (I7).
func TestExpiredMessagesAreNotSent(t *testing.T) {
	r := newRig(t)
	leaf := freePort(t)
	now := newClock(time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC))
	run := r.startAt(now, fmt.Sprintf(expiring, "nats", `urls = ["nats-leaf://`+leaf+`"]`, r.file("in.ndjson", lines("r", 10)), "nats"))
	until(t, "ten records are stored", func() bool {
		st := run.Status()
		return st.Totals.Stored == 10 && st.Queue.ByPriority["high"] == 5
	})
	now.advance(59 * time.Minute)
	r.append("in.ndjson", linesFrom("r", 11, 20)) // 5 short, 5 long
	until(t, "twenty records are stored", func() bool {
		st := run.Status()
		return st.Totals.Stored == 20 && st.Queue.ByPriority["high"] == 15
	})
	now.advance(time.Minute) // the first five have waited for an hour
	until(t, "what has expired is dropped from the store", func() bool { return run.Status().Totals.Expired == 5 })
	now.advance(time.Hour) // so have the second

	h := startHub(t, leaf, t.TempDir())
	until(t, "nothing waits", func() bool {
		now.advance(time.Second) // for records that wait for more of them
		return run.Status().Waiting == 0
	})
	st := run.Status()
	if st.Totals.Messages != 15 || st.Totals.SyncedMessages != 5 || st.Totals.Expired != 10 {
		t.Errorf("the totals are %+v", st.Totals)
	}
	a, err := run.Audit(t.Context())
	if err != nil || a.Gaps+a.Duplicates+a.Damaged != 0 {
		t.Errorf("the audit says %+v, %v", a, err)
	}
	for _, row := range a.Pipelines {
		if row.Pipeline != "queue/high" {
			continue
		}
		past := uint64(0)
		for _, p := range row.PastTTL {
			past += p[1] - p[0] + 1
		}
		if past != 10 || row.AtHub != 5 || len(row.Discarded) != 0 {
			t.Errorf("of the queue the audit says %+v", row)
		}
	}
	got := consume(t, h, "edged.hub.queue.*.high.*")
	// In order of raising: 12 short, 14 short, 16 short and long, 17 long, …
	if diff := cmp.Diff([]string{"long 9", "long 10", "long 12", "long 13", "long 15"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run.stop()

	// The counts are durable.
	run = r.startAt(now, fmt.Sprintf(expiring, "nats", `urls = ["`+h.LeafURL()+`"]`, r.file("none.ndjson", ""), "nats"))
	if n := run.Status().Totals.Expired; n != 10 {
		t.Errorf("after a restart %d have expired, want 10", n)
	}
	run.stop()
}

// TestExpiredAtAnAPI holds the same of an HTTP remote: a message that the API put
// off expires too.
func TestExpiredAtAnAPI(t *testing.T) {
	var mu sync.Mutex
	taken := map[string]int{}
	picky := true
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodPost || r.URL.Path == "/api/ingest/batch" {
			fmt.Fprint(w, `{"failed_ids":[]}`)
			return
		}
		var m struct{ ID, Topic string }
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		if m.Topic == "short" && picky {
			w.WriteHeader(http.StatusConflict)
			return
		}
		taken[m.Topic]++
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(api.Close)
	r := newRig(t)
	now := newClock(time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC))
	run := r.startAt(now, fmt.Sprintf(expiring, "http", "url = \""+api.URL+"\"\n  compression = \"none\"", r.file("in.ndjson", lines("r", 20)), "http"))
	has := func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return map[string]int{"short": taken["short"], "long": taken["long"]}
	}
	until(t, "the short ones are put off", func() bool {
		return has()["long"] == 5 && run.Status().Queue.ByPriority["high"] == 10
	})
	if text := waitingMessages(t, r.data); len(text) != 10 || text[0].Deliveries[0].Attempts < 1 || text[0].Deliveries[0].LastError == "" {
		t.Errorf("the queue shows %+v", text)
	}
	now.advance(time.Hour)
	mu.Lock()
	picky = false
	mu.Unlock()
	r.append("in.ndjson", linesFrom("r", 21, 22)) // wakes the sender
	until(t, "nothing waits", func() bool {
		now.advance(time.Second)
		st := run.Status()
		return st.Totals.Stored == 22 && st.Waiting == 0
	})
	if st := run.Status(); st.Totals.Expired != 10 || st.Totals.SyncedMessages != 8 {
		t.Errorf("the totals are %+v", st.Totals)
	}
	if diff := cmp.Diff(map[string]int{"short": 1, "long": 7}, has()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run.stop()
}

// waitingMessages asks the edge that runs on a data directory for its queue.
func waitingMessages(t *testing.T, dir string) (got []queue.Waiting) {
	t.Helper()
	client, err := engine.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = client.Messages(t.Context(), queue.MessageFilter{}, func(m *queue.Waiting) error {
		got = append(got, *m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
