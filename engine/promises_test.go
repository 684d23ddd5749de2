package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
)

// rig is a folder with input files and a data directory, and configurations
// that are run on it one after the other.
type rig struct {
	t         *testing.T
	dir, data string
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, dir: t.TempDir(), data: t.TempDir()}
}

// file writes an input file and returns its quoted path.
func (r *rig) file(name, content string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return strconv.Quote(path)
}

// append adds to a file, as what writes a log does.
func (r *rig) append(name, content string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// lines are n records in NDJSON with ids of that prefix.
func lines(prefix string, n int) string { return linesFrom(prefix, 1, n) }

// linesFrom are the records of [lines] with these numbers.
func linesFrom(prefix string, first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, `{"id":"%s%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d}}`+"\n", prefix, i, i)
	}
	return b.String()
}

func numbered(prefix string, n int) (ids []string) {
	for i := range n {
		ids = append(ids, prefix+strconv.Itoa(i+1))
	}
	return ids
}

// running is an engine at work.
type running struct {
	*engine.Engine
	t      *testing.T
	cancel context.CancelFunc
	ran    chan error
}

// start runs a configuration, given as text; change, when not nil, alters it.
func (r *rig) start(untilDrained bool, text string, change func(*config.Config)) *running {
	r.t.Helper()
	cfg, diags := config.Parse(map[string][]byte{filepath.Join(r.dir, "test.hcl"): []byte(text)}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		r.t.Fatal(diags)
	}
	if change != nil {
		change(cfg)
	}
	return r.open(cfg, engine.Options{DataDir: r.data, UntilDrained: untilDrained})
}

// open runs a configuration.
func (r *rig) open(cfg *config.Config, opts engine.Options) *running {
	r.t.Helper()
	e, err := engine.Open(r.t.Context(), cfg, opts)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	run := &running{Engine: e, t: r.t, cancel: cancel, ran: make(chan error, 1)}
	go func() { run.ran <- e.Run(ctx) }()
	return run
}

// end waits for the run to end by itself and closes the engine.
func (r *running) end() engine.Summary { r.t.Helper(); return r.endWithin(time.Minute) }

// endWithin is end with a bound of its own.
func (r *running) endWithin(most time.Duration) engine.Summary {
	r.t.Helper()
	select {
	case err := <-r.ran:
		if err != nil {
			r.t.Error(err)
		}
	case <-time.After(most):
		r.t.Fatalf("the run does not end; status %+v", r.Status())
	}
	r.cancel()
	s := r.Summary(r.t.Context())
	if err := r.Close(context.WithoutCancel(r.t.Context())); err != nil {
		r.t.Error(err)
	}
	return s
}

// stop tells the run to stop and waits for it.
func (r *running) stop() engine.Summary {
	r.t.Helper()
	r.cancel()
	return r.end()
}

func startHub(t *testing.T, leaf, dir string) *hub.Hub {
	t.Helper()
	h, err := hub.Start(t.Context(), hub.Options{LeafListen: leaf, ClientListen: "127.0.0.1:0", DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// arrivedIDs are the ids a hub has of one pipeline, in order.
func arrivedIDs(t *testing.T, h *hub.Hub, pipeline string) []string {
	t.Helper()
	nc, err := nats.Connect(h.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), "EDGED_RECORDS", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"edged.hub.records.*." + pipeline + ".>"},
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := consumer.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer msgs.Stop()
	var ids []string
	for range info.NumPending {
		msg, err := msgs.Next(jetstream.NextContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ ID string }
		if err := json.Unmarshal(msg.Data(), &r); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

// letters are the dead letters of a data directory on which nothing runs.
func (r *rig) letters() []record.DeadLetter {
	return (&restoreRig{t: r.t, dir: r.data}).deadLetters()
}

// TestEvilRecords holds I6 and I8: input that cannot be read, and records on
// which a plugin traps, loops for ever or returns garbage, end in the dead
// letters with their bytes; every other arrives, in order.
func TestEvilRecords(t *testing.T) {
	r := newRig(t)
	h := startHub(t, "127.0.0.1:0", t.TempDir())
	module, err := filepath.Abs("testdata/evil.wasm")
	if err != nil {
		t.Fatal(err)
	}
	var input strings.Builder
	input.WriteString("id,n\n")
	var want []string
	evil := map[int]string{3: "XT3", 50: "XL50", 51: "XG51", 120: "XT120"}
	for i := 1; i <= 200; i++ {
		switch {
		case evil[i] != "":
			fmt.Fprintf(&input, "%s,%d\n", evil[i], i)
		case i == 77:
			fmt.Fprintf(&input, "r%d,seven\n", i)
		default:
			fmt.Fprintf(&input, "r%d,%d\n", i, i)
			want = append(want, fmt.Sprintf("r%d", i))
		}
	}
	s := r.start(true, fmt.Sprintf(`
edge { device_id = "evil" }
remote "nats" "hub" { urls = [%q] }
plugin "evil" {
  module = %q
  limits { time = "50ms" }
}
pipeline "p" {
  collect "file" "f" {
    path      = %s
    format    = "csv"
    columns   = { n = "number" }
    id        = input.id
    data_type = "t"
  }
  transform "evil" { plugin = plugin.evil }
  batch { max_records = 9 }
  sync { to = remote.nats.hub }
}`, h.LeafURL(), module, r.file("in.csv", input.String())), nil).end()
	if s.Collected != 200 || s.Stored != 195 || s.SyncedRecords != 195 || s.DeadLetters != 5 || s.Gaps+s.Duplicates+s.Waiting != 0 {
		t.Errorf("summary %+v", s)
	}
	if diff := cmp.Diff(want, arrivedIDs(t, h, "p")); diff != "" {
		t.Errorf("at the hub (-want +got):\n%s", diff)
	}
	got := map[string]string{}
	for _, d := range r.letters() {
		name := strings.TrimSpace(string(d.Raw))
		var rec struct{ ID string }
		if json.Unmarshal(d.Raw, &rec) == nil && rec.ID != "" {
			name = rec.ID
		}
		if d.Error == "" || d.Time.IsZero() || d.ID == "" {
			t.Errorf("a dead letter that tells too little: %+v", d)
		}
		got[name] = d.Pipeline + " " + d.Stage
	}
	wantLetters := map[string]string{
		"XT3": "p transform.evil", "XL50": "p transform.evil", "XG51": "p transform.evil", "XT120": "p transform.evil",
		"r77,seven": "p collect.f",
	}
	if diff := cmp.Diff(wantLetters, got); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
}

// TestAnAlertThatFailsStopsNothing gives a rule records it cannot judge.
func TestAnAlertThatFailsStopsNothing(t *testing.T) {
	r := newRig(t)
	h := startHub(t, "127.0.0.1:0", t.TempDir())
	var input strings.Builder
	for i := range 100 {
		value := strconv.Itoa(i)
		if i%10 == 0 {
			value = `"none"`
		}
		fmt.Fprintf(&input, `{"id":"r%d","data_type":"t","n":%s}`+"\n", i, value)
	}
	run := r.start(true, fmt.Sprintf(`
edge { device_id = "alerts" }
remote "nats" "hub" { urls = [%q] }
pipeline "p" {
  collect "file" "f" {
    path      = %s
    id        = input.id
    data_type = input.data_type
    payload   = { n = input.n }
  }
  alert "high" {
    when  = record.payload.n > 89
    topic = "alerts"
  }
  sync { to = remote.nats.hub }
}`, h.LeafURL(), r.file("in.ndjson", input.String())), nil)
	s := run.end()
	stat := run.Status().Pipelines[0].Alerts[0]
	if s.Stored != 100 || s.SyncedRecords != 100 || s.Messages != 9 || s.SyncedMessages != 9 {
		t.Errorf("summary %+v", s)
	}
	if stat.Failed != 10 || stat.Fired != 9 || stat.FirstError == "" {
		t.Errorf("the rule says %+v", stat)
	}
}

// TestRestartContinues stops an edge in the middle, asks it over its socket
// while it runs, and goes on.
func TestRestartContinues(t *testing.T) {
	r := newRig(t)
	h := startHub(t, "127.0.0.1:0", t.TempDir())
	const records = 2000
	text := fmt.Sprintf(`
edge { device_id = "restarts" }
remote "nats" "hub" { urls = [%q] }
pipeline "p" {
  collect "file" "f" { path = %s }
  batch { max_records = 25 }
  sync { to = remote.nats.hub }
}`, h.LeafURL(), r.file("in.ndjson", lines("r", records)))
	for synced := uint64(1); synced < records; synced += records / 4 {
		run := r.start(false, text, nil)
		client, err := engine.Dial(r.data)
		if err != nil {
			t.Fatal(err)
		}
		var seen engine.Status
		until(t, "more is synced", func() bool {
			if seen, err = client.Status(t.Context()); err != nil {
				t.Fatal(err)
			}
			return seen.Totals.SyncedRecords >= synced
		})
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		s := run.stop()
		if s.SyncedRecords < seen.Totals.SyncedRecords || s.Stored != s.Collected || s.ThisRun.SyncedRecords > s.SyncedRecords {
			t.Errorf("summary %+v after status %+v", s.Counts, seen.Totals)
		}
		if _, err := engine.Dial(r.data); !errors.Is(err, engine.ErrNotRunning) {
			t.Errorf("a stopped edge answers: %v", err)
		}
	}
	if s := r.start(true, text, nil).end(); s.Stored != records || s.SyncedRecords != records || s.Gaps+s.Duplicates != 0 || !s.Audited {
		t.Errorf("summary %+v", s)
	}
	if diff := cmp.Diff(numbered("r", records), arrivedIDs(t, h, "p")); diff != "" {
		t.Errorf("at the hub (-want +got):\n%s", diff)
	}
}

// TestARemovedPipelineKeepsItsRecords takes a pipeline out of the files while
// one of its two hubs has yet to get its records. They are kept however much is
// freed meanwhile, and arrive when the pipeline is back (I3).
func TestARemovedPipelineKeepsItsRecords(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	leaf := freePort(t)
	one := startHub(t, "127.0.0.1:0", t.TempDir())
	head := fmt.Sprintf(`
edge { device_id = "removed" }
remote "nats" "one" { urls = [%q] }
remote "nats" "two" { urls = ["nats-leaf://%s"] }
`, one.LeafURL(), leaf)
	pipeline := func(name, file string, follow bool, remotes ...string) string {
		text := fmt.Sprintf("pipeline %q {\n  collect \"file\" \"f\" {\n    path = %s\n    follow = %t\n    poll = \"10ms\"\n  }\n", name, file, follow)
		for _, remote := range remotes {
			text += "  sync { to = remote.nats." + remote + " }\n"
		}
		return text + "}\n"
	}
	const kept, others = 300, 20_000 // 20 packs of the store at least: worth being freed
	removed := pipeline("removed", r.file("removed.ndjson", lines("k", kept)), false, "one", "two")
	stays := r.file("stays.ndjson", lines("s", others))
	free := func(cfg *config.Config) { cfg.Edge.Keep = 0 }

	run := r.start(false, head+removed, free)
	until(t, "one hub has everything", func() bool {
		return slices.ContainsFunc(run.Status().Pipelines[0].Syncs, func(s engine.SyncStatus) bool {
			return s.Remote == "one" && s.SyncedRecords == kept
		})
	})
	run.stop()

	// As much passes through as makes the edge free its storage, were it not for
	// the records that are kept.
	run = r.start(false, head+pipeline("stays", stays, true, "one"), free)
	until(t, "the other pipeline is synced", func() bool {
		s := run.Status()
		return s.Totals.Stored == others && s.Waiting == 0
	})
	// Housekeeping writes this file before it frees storage; one more record makes
	// it write again.
	r.append("stays.ndjson", lines("s", others+1)[len(lines("s", others)):])
	until(t, "housekeeping has been", func() bool {
		data, err := os.ReadFile(filepath.Join(r.data, "high-water.json"))
		return err == nil && strings.Contains(string(data), strconv.Itoa(others+1))
	})
	run.stop()

	two := startHub(t, leaf, t.TempDir())
	s := r.start(true, head+removed+pipeline("stays", stays, false, "one"), free).end()
	if s.Gaps+s.Duplicates+s.Waiting != 0 || !s.Audited {
		t.Errorf("summary %+v", s)
	}
	for name, h := range map[string]*hub.Hub{"one": one, "two": two} {
		if diff := cmp.Diff(numbered("k", kept), arrivedIDs(t, h, "removed")); diff != "" {
			t.Errorf("at hub %s (-want +got):\n%s", name, diff)
		}
	}
}

// TestStoppingWithAFullStore holds that a device whose store is full and whose
// hub is away stops when it is told to, and that nothing is missing later.
func TestStoppingWithAFullStore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	leaf := freePort(t)
	const records = 200
	var input strings.Builder
	for i := range records {
		fmt.Fprintf(&input, `{"id":"r%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"fill":%q}}`+"\n",
			i+1, strings.Repeat("x", 40<<10))
	}
	text := fmt.Sprintf(`
edge { device_id = "full" }
remote "nats" "hub" { urls = ["nats-leaf://%s"] }
pipeline "p" {
  when_full = "wait"
  collect "file" "f" { path = %s }
  sync { to = remote.nats.hub }
}`, leaf, r.file("in.ndjson", input.String()))
	small := func(cfg *config.Config) { cfg.Edge.MaxBytes, cfg.Edge.Keep = 4<<20, 0 }
	for range 2 {
		run := r.start(false, text, small)
		until(t, "the store is full", func() bool { return run.Status().Storage.Full })
		if s := run.stop(); s.Stored == 0 || s.Stored >= records || s.Collected != s.Stored {
			t.Errorf("summary %+v", s)
		}
	}
	h := startHub(t, leaf, t.TempDir())
	if s := r.start(true, text, small).end(); s.Stored != records || s.SyncedRecords != records || s.Gaps+s.Duplicates != 0 {
		t.Errorf("summary %+v", s)
	}
	if diff := cmp.Diff(numbered("r", records), arrivedIDs(t, h, "p")); diff != "" {
		t.Errorf("at the hub (-want +got):\n%s", diff)
	}
}
