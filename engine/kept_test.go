package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/store"
)

// twoPipelines are one with a sync and one without, each with a file.
const twoPipelines = `
edge { device_id = "e" }
remote "nats" "hub" { urls = ["nats-leaf://%s"] }
pipeline "goes" {
  %s
  collect "file" "f" {
    path   = %s
    follow = true
  }
  sync { to = remote.nats.hub }
}
pipeline "stays" {
  collect "file" "f" { path = %s }
}`

func pipelineStatus(t *testing.T, s engine.Status, name string) engine.PipelineStatus {
	t.Helper()
	for _, p := range s.Pipelines {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no pipeline %s in %+v", name, s.Pipelines)
	return engine.PipelineStatus{}
}

// offline opens the store of the rig while no edge runs on it.
func (r *rig) offline(do func(*engine.Store)) {
	r.t.Helper()
	s, err := engine.OpenStore(r.t.Context(), r.data, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	do(s)
	if err := s.Close(); err != nil {
		r.t.Error(err)
	}
}

// kept are the ids that the store has of a pipeline.
func kept(t *testing.T, s *engine.Store, pipeline string) (ids []string) {
	t.Helper()
	err := s.Records(t.Context(), pipeline, nil, func(f *store.Found) error {
		var r struct{ ID string }
		err := json.Unmarshal(f.Data, &r)
		ids = append(ids, r.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestAPipelineWithoutASyncHoldsNothingBack holds I3 and I9: what every remote of
// a pipeline has goes by age though another pipeline keeps all it has, for ever.
func TestAPipelineWithoutASyncHoldsNothingBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr := freePort(t)
	text := fmt.Sprintf(twoPipelines, addr, "", r.file("goes.ndjson", lines("g", 50)), r.file("stays.ndjson", lines("s", 50)))
	near := freePort(t)
	startHub(t, near, t.TempDir())
	text += fmt.Sprintf(`
remote "nats" "near" { urls = ["nats-leaf://%s"] }
pipeline "quick" {
  collect "file" "f" { path = %s }
  sync { to = remote.nats.near }
}`, near, r.file("quick.ndjson", lines("q", 50)))
	atOnce := func(cfg *config.Config) { cfg.Edge.Keep = 0 }
	run := r.start(false, text, atOnce)
	until(t, "all is stored, and what is synced of it gone", func() bool {
		s := run.Status()
		return s.Totals.Stored == 150 && pipelineStatus(t, s, "quick").Kept.Records == 0
	})
	if k := pipelineStatus(t, run.Status(), "goes").Kept; k.Records != 50 || k.Waiting != 50 || k.Synced != 0 || k.OldestWaiting.IsZero() {
		t.Errorf("without a link: %+v", k)
	}
	run.stop()
	r.offline(func(s *engine.Store) {
		if n := len(kept(t, s, "goes")); n != 50 {
			t.Errorf("%d records of 50 are kept that no remote has (I3)", n)
		}
	})
	startHub(t, addr, t.TempDir())
	run = r.start(false, text, atOnce)
	until(t, "what is synced is gone", func() bool { return pipelineStatus(t, run.Status(), "goes").Kept.Records == 0 })
	s := run.Status()
	if p := pipelineStatus(t, s, "goes"); p.Waiting != 0 || p.Totals.SyncedRecords != 50 || p.Syncs[0].Status != engine.SyncSynced {
		t.Errorf("it was purged before it was synced: %+v", p)
	}
	if k := pipelineStatus(t, s, "stays").Kept; k.Records != 50 || k.Waiting != 0 || k.Bytes < 50*100 {
		t.Errorf("the pipeline without a sync: %+v", k)
	}
	run.stop()
	r.offline(func(s *engine.Store) {
		if diff := cmp.Diff(numbered("s", 50), kept(t, s, "stays")); diff != "" || len(kept(t, s, "goes")) > 0 {
			t.Errorf("kept (-want +got):\n%s\nand %v", diff, kept(t, s, "goes"))
		}
		v, err := s.Verify(t.Context(), nil)
		if err != nil || v.Damaged != 0 {
			t.Errorf("verify says %+v, %v", v, err)
		}
	})
}

// TestKeepBytesBoundsWhatIsSynced holds I3 and I9 for the bound by size: synced
// records go at it, the oldest first, and none that waits.
func TestKeepBytesBoundsWhatIsSynced(t *testing.T) {
	t.Parallel()
	const records = 400
	r := newRig(t)
	addr := freePort(t)
	text := fmt.Sprintf(twoPipelines, addr, `keep_bytes = "1MiB"`, r.file("goes.ndjson", ""), r.file("stays.ndjson", lines("s", 5)))
	run := r.start(false, text, nil)
	for i := 0; i < records; { // in commits of 20: what goes is whole packs
		var in strings.Builder
		for range 20 {
			i++
			fmt.Fprintf(&in, `{"id":"g%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d,"fill":%q}}`+"\n",
				i, i, strings.Repeat("x", 10<<10))
		}
		r.append("goes.ndjson", in.String())
		until(t, fmt.Sprintf("%d are stored", i), func() bool { return pipelineStatus(t, run.Status(), "goes").Totals.Stored == uint64(i) })
	}
	if k := pipelineStatus(t, run.Status(), "goes").Kept; k.Records != records || k.Bytes < records*10<<10 {
		t.Errorf("what waits: %+v", k)
	}
	startHub(t, addr, t.TempDir())
	until(t, "what is synced is within its bound", func() bool {
		p := pipelineStatus(t, run.Status(), "goes")
		return p.Waiting == 0 && p.Kept.Bytes <= 1<<20+1<<18
	})
	k := pipelineStatus(t, run.Status(), "goes").Kept
	if k.Records < 60 || k.Synced != k.Records {
		t.Errorf("%+v", k)
	}
	run.stop()
	r.offline(func(s *engine.Store) {
		ids := kept(t, s, "goes")
		if uint64(len(ids)) != k.Records || ids[len(ids)-1] != fmt.Sprintf("g%d", records) {
			t.Errorf("the store has %d records of %d, up to %s", len(ids), k.Records, ids[len(ids)-1])
		}
	})
}

// TestRecordsAreReleasedOnRequest holds I7: what is given up of a pipeline without
// a sync, running, and of a removed one, without an edge, is counted with its
// numbers and the time; a pipeline with a sync is refused (I3).
func TestRecordsAreReleasedOnRequest(t *testing.T) {
	r := newRig(t)
	text := fmt.Sprintf(twoPipelines, freePort(t), "", r.file("goes.ndjson", lines("g", 20)), r.file("stays.ndjson", lines("s", 30)))
	run := r.start(false, text, nil)
	until(t, "all is stored", func() bool { return run.Status().Totals.Stored == 50 })
	for _, name := range []string{"goes", "none"} {
		if _, err := run.Release(t.Context(), name); !errors.Is(err, engine.ErrNotReleased) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := run.Release(t.Context(), "stays")
	if diff := cmp.Diff(engine.Released{Pipeline: "stays", First: 1, Last: 30, Records: 30}, got); diff != "" || err != nil {
		t.Errorf("released (-want +got):\n%s\n%v", diff, err)
	}
	if _, err := run.Release(t.Context(), "stays"); !errors.Is(err, engine.ErrNotReleased) {
		t.Errorf("released again: %v", err)
	}
	run.stop()

	// The one with a sync is removed; no remote has it.
	removed := `
edge { device_id = "e" }
pipeline "stays" {
  collect "file" "f" { path = ` + r.file("stays.ndjson", lines("s", 30)) + ` }
}`
	run = r.start(false, removed, nil)
	p := pipelineStatus(t, run.Status(), "goes")
	if !p.Removed || p.Kept.Records != 20 || p.Waiting != 20 {
		t.Errorf("the removed pipeline: %+v", p)
	}
	run.stop()
	check := func(ps engine.PipelineStatus, last uint64) {
		t.Helper()
		if ps.Kept.Records != 0 || ps.Totals.Discarded != last || ps.Totals.Stored != last {
			t.Errorf("%s: %+v", ps.Name, ps)
		}
		if len(ps.Released) != 1 || ps.Released[0].Last != last || time.Since(ps.Released[0].Time) > time.Hour {
			t.Errorf("%s: released %+v", ps.Name, ps.Released)
		}
	}
	r.offline(func(s *engine.Store) {
		got, err := s.Release(t.Context(), "goes", []string{"hub"})
		if diff := cmp.Diff(engine.Released{Pipeline: "goes", First: 1, Last: 20, Records: 20}, got); diff != "" || err != nil {
			t.Errorf("released (-want +got):\n%s\n%v", diff, err)
		}
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		check(pipelineStatus(t, st, "goes"), 20)
		check(pipelineStatus(t, st, "stays"), 30)
		if v, err := s.Verify(t.Context(), nil); err != nil || v.Damaged != 0 {
			t.Errorf("verify says %+v, %v", v, err)
		}
	})
	run = r.start(false, removed, nil)
	defer run.stop()
	check(pipelineStatus(t, run.Status(), "goes"), 20)
}

// TestSyncStateIsKept holds that how a sync stands is told after a restart before
// the remote is reached, and when no edge runs.
func TestSyncStateIsKept(t *testing.T) {
	r := newRig(t)
	var down atomic.Bool
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var body struct{ Records []struct{ ID string } }
		switch {
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case q.Method == http.MethodPost && json.NewDecoder(q.Body).Decode(&body) != nil:
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		for _, record := range body.Records {
			if record.ID == "a7" {
				w.WriteHeader(http.StatusMultiStatus)
				fmt.Fprint(w, `{"failed_ids":["a7"]}`)
				return
			}
		}
		fmt.Fprint(w, `{"failed_ids":[]}`)
	}))
	defer api.Close()
	text := `
edge { device_id = "e" }
remote "http" "api" {
  url          = "` + api.URL + `"
  max_attempts = 1
}
pipeline "p" {
  collect "file" "f" {
    path   = ` + r.file("in.ndjson", lines("a", 10)) + `
    follow = true
  }
  sync { to = remote.http.api }
}`
	run := r.start(false, text, nil)
	sync := func(s engine.Status) engine.SyncStatus { return pipelineStatus(t, s, "p").Syncs[0] }
	until(t, "all is settled", func() bool { return run.Status().Totals.Stored == 10 && run.Status().Waiting == 0 })
	before := sync(run.Status())
	if before.SyncedRecords != 9 || before.FailedRecords != 1 || before.LastSync.IsZero() || before.Status != engine.SyncSynced {
		t.Errorf("after the first records: %+v", before)
	}
	down.Store(true)
	r.append("in.ndjson", lines("b", 5))
	until(t, "the API fails", func() bool { s := sync(run.Status()); return s.Waiting == 5 && s.Status == engine.SyncFailing })
	failing := sync(run.Status())
	run.stop()
	api.Close()
	check := func(s engine.SyncStatus) {
		t.Helper()
		if s.SyncedRecords != 9 || s.FailedRecords != 1 || s.Waiting != 5 || s.Status != engine.SyncFailing ||
			s.LastError != failing.LastError || !s.LastSync.Equal(before.LastSync) || s.OldestWaiting.IsZero() {
			t.Errorf("got %+v\nwant %+v", s, failing)
		}
	}
	r.offline(func(s *engine.Store) {
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Running || st.Waiting != 5 || st.Totals.Stored != 15 {
			t.Errorf("offline: %+v", st)
		}
		check(sync(st))
	})
	cfg, diags := parse(r, text)
	if diags != nil {
		t.Fatal(diags)
	}
	e, err := engine.Open(t.Context(), cfg, engine.Options{DataDir: r.data})
	if err != nil {
		t.Fatal(err)
	}
	check(sync(e.Status())) // it does not run yet
	if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// TestWhatWasPutAsideWaits holds that the time of the oldest that waits is that of
// a record that an API has put aside, though all behind it went and is purged.
func TestWhatWasPutAsideWaits(t *testing.T) {
	r := newRig(t)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var body struct{ Records []struct{ ID string } }
		if q.Method == http.MethodPost && json.NewDecoder(q.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if slices.ContainsFunc(body.Records, func(r struct{ ID string }) bool { return r.ID == "a7" }) {
			w.WriteHeader(http.StatusMultiStatus)
			fmt.Fprint(w, `{"failed_ids":["a7"]}`)
			return
		}
		fmt.Fprint(w, `{"failed_ids":[]}`)
	}))
	defer api.Close()
	text := `
edge {
  device_id = "e"
  keep      = "0s"
}
remote "http" "api" {
  url          = "` + api.URL + `"
  max_attempts = 1000
}
pipeline "p" {
  collect "file" "f" {
    path   = ` + r.file("in.ndjson", lines("a", 10)) + `
    follow = true
  }
  sync { to = remote.http.api }
}`
	begun := time.Now().Add(-time.Second) // the clock of the server is not this one to the nanosecond
	run := r.start(false, text, nil)
	settled := func(stored uint64) func() bool {
		return func() bool { s := run.Status(); return s.Totals.Stored == stored && s.Waiting == 1 }
	}
	until(t, "one is put aside", settled(10))
	since := pipelineStatus(t, run.Status(), "p").Kept.OldestWaiting
	if since.Before(begun) || since.After(time.Now()) {
		t.Fatalf("it waits since %v", since)
	}
	check := func(what string, st engine.Status) {
		t.Helper()
		p := pipelineStatus(t, st, "p")
		if !p.Kept.OldestWaiting.Equal(since) || !p.Syncs[0].OldestWaiting.Equal(since) || p.Kept.Seconds <= 0 {
			t.Errorf("%s it waits since %v, its sync since %v, want %v", what, p.Kept.OldestWaiting, p.Syncs[0].OldestWaiting, since)
		}
	}
	r.append("in.ndjson", lines("b", 5000))
	until(t, "all behind it went", settled(5010))
	until(t, "the record itself is purged", func() bool { return pipelineStatus(t, run.Status(), "p").Kept.Oldest.After(since) })
	check("behind others", run.Status())
	run.stop()
	r.offline(func(s *engine.Store) {
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		check("offline", st)
	})
}

func parse(r *rig, text string) (*config.Config, error) {
	cfg, diags := config.Parse(map[string][]byte{r.dir + "/test.hcl": []byte(text)}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		return nil, diags
	}
	return cfg, nil
}

// TestMessagesStayForKeep holds that messages that every remote has stay on the
// device as long as records do: a restored hub gets them again.
func TestMessagesStayForKeep(t *testing.T) {
	const messages = 40
	for keep, stay := range map[string]bool{"1h": true, "0s": false} {
		t.Run(keep, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h := startHub(t, "127.0.0.1:0", t.TempDir())
			run := r.start(false, fmt.Sprintf(`
edge {
  device_id = "edge"
  keep      = %q
}
remote "nats" "hub" { urls = [%q] }
pipeline "p" {
  collect "file" "f" {
    path   = %s
    follow = true
    poll   = "10ms"
  }
  alert "early" { when = record.payload.n <= %d }
  batch { max_wait = "10ms" }
  sync { to = remote.nats.hub }
}`, keep, h.LeafURL(), r.file("in.ndjson", ""), messages), nil)
			for n := 1; n <= messages; n++ { // in commits of their own, in both logs
				r.append("in.ndjson", linesFrom("r", n, n))
				until(t, "it is synced", func() bool {
					s := run.Status()
					return s.Totals.Stored == uint64(n) && s.Waiting == 0
				})
			}
			for n := messages + 1; n <= messages+2; n++ { // the second round ends the first
				r.append("in.ndjson", linesFrom("r", n, n))
				until(t, "housekeeping has been", func() bool {
					data, err := os.ReadFile(filepath.Join(r.data, "high-water.json"))
					return err == nil && strings.Contains(string(data), fmt.Sprintf(`"last":%d}`, n))
				})
			}
			run.stop()
			if first := r.firstMessage(); stay && first != 1 || !stay && first > 0 && first <= messages/2 {
				t.Errorf("the queue begins with message %d", first)
			}
		})
	}
}

// firstMessage returns the lowest number that the queue's stream holds of the
// normal priority, of an edge that does not run; 0: it holds none.
func (r *rig) firstMessage() uint64 {
	r.t.Helper()
	b, err := broker.Start(r.t.Context(), broker.Options{Name: "look", Domain: "look", Dir: filepath.Join(r.data, "jetstream")})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	nc, err := b.Connect("look")
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	log, err := store.Open(r.t.Context(), nc, store.Options{
		Stream: "EDGED_QUEUE", Subject: "edged.queue", Existing: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	lane, err := log.Lane(r.t.Context(), "normal")
	if err != nil {
		r.t.Fatal(err)
	}
	first, err := lane.First(r.t.Context())
	if err := errors.Join(err, log.Close(context.WithoutCancel(r.t.Context()))); err != nil {
		r.t.Fatal(err)
	}
	return first
}
