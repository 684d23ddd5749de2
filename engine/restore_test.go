package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/store"
)

// restoreRig is a hub that stays and an edge whose data directory is tampered
// with between runs.
type restoreRig struct {
	t    *testing.T
	hub  *hub.Hub
	dir  string // the edge's data
	file string // what it collects
	// alerts raises a message for every record.
	alerts bool
}

func newRestoreRig(t *testing.T) *restoreRig {
	h, err := hub.Start(t.Context(), hub.Options{LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return &restoreRig{t: t, hub: h, dir: t.TempDir(), file: filepath.Join(t.TempDir(), "in.ndjson")}
}

// collect adds records to the file and runs the edge until all are synced. The
// engine's view and an independent client's view of the hub must agree.
func (r *restoreRig) collect(first, last int) engine.Summary {
	r.t.Helper()
	f, err := os.OpenFile(r.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := first; i <= last; i++ {
		fmt.Fprintf(f, `{"id":"r%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d}}`+"\n", i, i)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
	e, err := engine.Open(r.t.Context(), r.config(), engine.Options{DataDir: r.dir, UntilDrained: true})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := e.Run(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	s := e.Summary(r.t.Context())
	if err := e.Close(context.WithoutCancel(r.t.Context())); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// config is what the edge runs.
func (r *restoreRig) config() *config.Config {
	r.t.Helper()
	src := fmt.Sprintf(`
edge { device_id = "restored" }
remote "nats" "hub" { urls = [%q] }
pipeline "p" {
  collect "file" "f" {
    path   = %q
    format = "ndjson"
  }
  %s
  batch { max_records = 7 }
  sync { to = remote.nats.hub }
}`, r.hub.LeafURL(), r.file, map[bool]string{true: "alert \"all\" { when = true }"}[r.alerts])
	cfg, diags := config.Parse(map[string][]byte{"test.hcl": []byte(src)}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		r.t.Fatal(diags)
	}
	return cfg
}

// ids returns the record ids at the hub, as an independent client reads them.
func (r *restoreRig) ids() []string {
	r.t.Helper()
	nc, err := nats.Connect(r.hub.ClientURL())
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	stream, err := js.Stream(r.t.Context(), "EDGED_RECORDS")
	if err != nil {
		r.t.Fatal(err)
	}
	var ids []string
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg, err := stream.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		if strings.HasPrefix(msg.Subject, "edged.hub.records.") {
			ids = append(ids, strings.SplitN(string(msg.Data), `"`, 5)[3])
		}
	}
	return ids
}

func (r *restoreRig) want(s engine.Summary, last int) {
	r.t.Helper()
	ids := r.ids()
	for i, id := range ids {
		if id != fmt.Sprintf("r%d", i+1) {
			r.t.Fatalf("at the hub place %d holds %s", i+1, id)
		}
	}
	if len(ids) != last || !s.Audited || s.Gaps != 0 || s.Duplicates != 0 {
		r.t.Errorf("the hub holds %d records, want %d; the summary says %+v", len(ids), last, s)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	skip := func(path string, d fs.DirEntry) bool { return d.Type()&fs.ModeSocket != 0 }
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || skip(path, d) {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A device restored from an older copy of its whole data directory: only the
// hub knows that it has gone back in time. The file is read again from the old
// position, so those records come twice from the source, under a new epoch; what
// comes after is not taken for what the hub already has.
func TestARestoredDataDirectoryBeginsANewEpoch(t *testing.T) {
	r := newRestoreRig(t)
	r.want(r.collect(1, 50), 50)
	image := t.TempDir()
	copyDir(t, r.dir, image)
	r.want(r.collect(51, 80), 80)
	copyDir(t, image, r.dir)
	s := r.collect(81, 100)
	ids := r.ids()
	if len(ids) != 80+50 { // 51 to 80 again, and 81 to 100
		t.Fatalf("the hub holds %d records, want 130", len(ids))
	}
	for i, id := range ids[80:] {
		if id != fmt.Sprintf("r%d", 51+i) {
			t.Fatalf("after the restore place %d holds %s", i, id)
		}
	}
	if !s.Audited || s.Gaps != 0 || s.Duplicates != 0 || s.Stored != 100 {
		t.Errorf("the summary says %+v", s)
	}
	if s = r.collect(101, 110); s.Waiting != 0 || len(r.ids()) != 140 {
		t.Errorf("later: %d at the hub, %+v", len(r.ids()), s)
	}
}

// Only the streams have gone back (a power cut without fsync, a damaged block):
// the high-water mark beside them tells, even without a hub, and a dead letter
// says what was lost.
func TestAStoreThatLostItsTailIsFoundOutAndReported(t *testing.T) {
	r := newRestoreRig(t)
	r.want(r.collect(1, 50), 50)
	image := t.TempDir()
	copyDir(t, filepath.Join(r.dir, "jetstream"), image)
	r.want(r.collect(51, 80), 80)
	copyDir(t, image, filepath.Join(r.dir, "jetstream"))
	s := r.collect(81, 100)
	if len(r.ids()) != 130 || s.Gaps != 0 || s.Duplicates != 0 {
		t.Errorf("the hub holds %d records, want 130; %+v", len(r.ids()), s)
	}
	if r.lost() != "lost from the local store: records/p 51 to 80" {
		t.Errorf("the trace says %q", r.lost())
	}
}

// lost returns what the dead letters say of a loss.
func (r *restoreRig) lost() string {
	r.t.Helper()
	for _, d := range r.deadLetters() {
		if d.Stage == "store" {
			return d.Error
		}
	}
	return ""
}

// An edge whose data is gone begins anew; the hub keeps what it had.
func TestALostDataDirectoryBeginsANewEpoch(t *testing.T) {
	r := newRestoreRig(t)
	r.want(r.collect(1, 30), 30)
	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	s := r.collect(31, 40)
	if len(r.ids()) != 70 || s.Gaps != 0 || s.Duplicates != 0 || s.Stored != 40 {
		t.Errorf("the hub holds %d records, want 70; %+v", len(r.ids()), s)
	}
}

// What was moved to the queue is not looked at again after a restart, and what
// was not is.
func TestAMoverGoesOnWhereItWas(t *testing.T) {
	r := newRestoreRig(t)
	r.alerts = true
	if s := r.collect(1, 40); s.Messages != 40 || s.SyncedMessages != 40 {
		t.Errorf("the first run: %+v", s)
	}
	if s := r.collect(41, 50); s.Messages != 50 || s.SyncedMessages != 50 || s.ThisRun.SyncedMessages != 10 || s.Duplicates != 0 {
		t.Errorf("the second run: %+v", s)
	}
	// Without the mark everything is looked at, and nothing is taken twice.
	if err := os.Remove(filepath.Join(r.dir, "high-water.json")); err != nil {
		t.Fatal(err)
	}
	if s := r.collect(51, 60); s.SyncedMessages != 60 || s.ThisRun.SyncedMessages != 10 || s.Duplicates != 0 {
		t.Errorf("the third run: %+v", s)
	}
}

// A hub that is restored from a backup while the edge does not run: at its next
// start the edge knows that the hub had more, and sends again what it keeps. What
// it no longer keeps, status and audit name.
func TestAHubRestoredFromABackup(t *testing.T) {
	for name, purged := range map[string]uint64{"kept": 0, "partly kept": 200} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := &restoreRig{t: t, dir: t.TempDir(), file: filepath.Join(t.TempDir(), "in.ndjson")}
			start := func(on string) {
				var err error
				if r.hub, err = hub.Start(t.Context(), hub.Options{LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", DataDir: on}); err != nil {
					t.Fatal(err)
				}
			}
			stop := func() {
				if err := r.hub.Close(); err != nil {
					t.Error(err)
				}
			}
			start(dir)
			r.want(r.collect(1, 50), 50)
			stop()
			image := t.TempDir()
			copyDir(t, dir, image)
			start(dir)
			r.want(r.collect(51, 200), 200)
			r.want(r.collect(201, 400), 400)
			stop()
			start(image)
			defer stop()
			if purged == 0 {
				r.want(r.collect(401, 420), 420)
				return
			}
			r.purge(purged)
			s := r.collect(401, 420)
			ids := append(numbered("r", 50), numbered("r", 420)[purged:]...)
			if got := r.ids(); !slices.Equal(got, ids) || s.Gaps != 150 || s.Duplicates != 0 {
				t.Errorf("the hub holds %d records, want %d; the summary says %+v", len(got), len(ids), s)
			}
			lost := [][2]uint64{{51, purged}}
			status, audit := r.look()
			if got := status.Pipelines[0].Syncs[0].HubLost; !slices.Equal(got, lost) {
				t.Errorf("the status names %v, want %v", got, lost)
			}
			for _, row := range audit.Pipelines {
				if row.Pipeline == "p" && (!slices.Equal(row.HubLost, lost) || !slices.Equal(row.Gaps, lost)) {
					t.Errorf("the audit finds %+v", row)
				}
			}
		})
	}
}

// purge drops the records up to a number from the store of an edge that does not
// run, as if their time were over.
func (r *restoreRig) purge(last uint64) {
	r.t.Helper()
	b, err := broker.Start(r.t.Context(), broker.Options{Name: "purge", Domain: "purge", Dir: filepath.Join(r.dir, "jetstream")})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	nc, err := b.Connect("purge")
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	log, err := store.Open(r.t.Context(), nc, store.Options{Stream: "EDGED_RECORDS", Subject: "edged.records", Existing: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	lane, err := log.Lane(r.t.Context(), "p")
	if err != nil {
		r.t.Fatal(err)
	}
	seq, err := lane.Find(r.t.Context(), last+1)
	if err == nil {
		err = log.Purge(r.t.Context(), seq)
	}
	if err := errors.Join(err, log.Close(context.WithoutCancel(r.t.Context()))); err != nil {
		r.t.Fatal(err)
	}
}

// look opens the edge, runs nothing, and asks for status and audit.
func (r *restoreRig) look() (engine.Status, engine.Audit) {
	r.t.Helper()
	e, err := engine.Open(r.t.Context(), r.config(), engine.Options{DataDir: r.dir})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := e.Close(context.WithoutCancel(r.t.Context())); err != nil {
			r.t.Error(err)
		}
	}()
	for deadline := time.Now().Add(time.Minute); ; {
		a, err := e.Audit(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if !slices.ContainsFunc(a.Pipelines, func(p engine.AuditPipeline) bool { return p.Error != "" }) {
			return e.Status(), a
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the hub cannot be asked: %+v", a)
		}
	}
}
