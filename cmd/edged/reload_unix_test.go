//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
)

// reloadRig is an edge with two pipelines that read one growing file: "p" sends
// every record through a plugin to a hub, "sums" makes one of every five.
type reloadRig struct {
	t       *testing.T
	hub     *hubProcess
	edge    *process
	dir     string
	dataDir string
	file    *os.File
	written int
	reloads uint64

	link, sums, other string // more of the hub's remote, of "sums", and of the file
}

// config is the edge's file; what it is called with differs from one to the next.
func (r *reloadRig) config(extra, sumLimits string) string {
	return fmt.Sprintf(`
edge {
  device_id = "reload"
}
remote "nats" "hub" {
  urls = ["nats-leaf://%s"]
  %s
}
%s
plugin "own" {
  module = "own.wasm"
}
plugin "aggregate" {
  module = "builtin:aggregate"
  allow  = ["kv"]
  config = { fields = ["n"], records = 5, calculate = ["sum"], decimals = 0 }
  %s
}
pipeline "p" {
  collect "file" "in" {
    path   = "in.ndjson"
    follow = true
    poll   = "10ms"
  }
  transform "own" { plugin = plugin.own }
  sync { to = remote.nats.hub }
  %s
}
pipeline "sums" {
  collect "file" "in" {
    path   = "in.ndjson"
    follow = true
    poll   = "10ms"
  }
  transform "sum" { plugin = plugin.aggregate }
  %s
}
`, r.hub.leaf, r.link, r.other, sumLimits, extra, r.sums)
}

func (r *reloadRig) write(config string) {
	r.t.Helper()
	writeFile(r.t, filepath.Join(r.dir, "p.hcl"), config)
}

// grow adds n records to the input.
func (r *reloadRig) grow(n int) {
	r.t.Helper()
	var b strings.Builder
	for range n {
		r.written++
		fmt.Fprintf(&b, `{"id":"r%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d}}`+"\n", r.written, r.written)
	}
	if _, err := r.file.WriteString(b.String()); err != nil {
		r.t.Fatal(err)
	}
}

// hangup sends SIGHUP and waits until the edge says what became of it.
func (r *reloadRig) hangup(refused string) {
	r.t.Helper()
	before, _ := statusOf(r.dataDir)
	if err := r.edge.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
	if refused == "" {
		r.reloads++
	}
	var got engine.ReloadStatus
	eventually(r.t, "the configuration was loaded anew or refused", func() bool {
		s, ok := statusOf(r.dataDir)
		if !ok || s.Reload == nil || before.Reload != nil && s.Reload.Time.Equal(before.Reload.Time) {
			return false
		}
		got = *s.Reload
		return true
	})
	if got.Count != r.reloads || (got.Error == "") != (refused == "") || !strings.Contains(got.Error, refused) {
		r.t.Fatalf("after SIGHUP the status says %+v, want an error with %q and %d reloads\nstderr: %s", got, refused, r.reloads, tailOf(r.edge.stderr.String()))
	}
}

// flows holds that records still go through both pipelines.
func (r *reloadRig) flows() {
	r.t.Helper()
	r.grow(100)
	eventually(r.t, "both pipelines have read everything", func() bool {
		s, ok := statusOf(r.dataDir)
		return ok && s.Totals.Collected == uint64(2*r.written)
	})
}

func startReloadRig(t *testing.T) *reloadRig {
	t.Helper()
	dir := t.TempDir()
	r := &reloadRig{t: t, dir: dir, dataDir: filepath.Join(dir, "data"), hub: launchHub(t, hubDirMade(t, filepath.Join(dir, "hub")))}
	r.openInput()
	r.module("")
	r.write(r.config("", ""))
	r.edge = launch(t, dir, "run", "p.hcl", "--data-dir", r.dataDir, "--no-progress")
	eventually(t, "the edge runs", func() bool { _, ok := statusOf(r.dataDir); return ok })
	return r
}

// openInput makes the file that the edge reads.
func (r *reloadRig) openInput() {
	r.t.Helper()
	var err error
	if r.file, err = os.Create(filepath.Join(r.dir, "in.ndjson")); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := r.file.Close(); err != nil {
			r.t.Error(err)
		}
	})
}

// module writes own.wasm: a plugin that passes every record, with a custom
// section at its end that tells one version from another.
func (r *reloadRig) module(version string) {
	r.t.Helper()
	code := readFile(r.t, filepath.Join(repository, "engine", "testdata", "evil.wasm"))
	if version != "" {
		code += "\x00" + string(rune(len(version)+2)) + "\x01v" + version
	}
	writeFile(r.t, filepath.Join(r.dir, "own.wasm"), code)
}

// TestReloadUnderLoad changes rules, plugins, batches and pipelines while records
// come in: none is lost, none comes twice, and what plugins keep goes on.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	r := startReloadRig(t)
	const alert = `alert "many" { when = record.payload.n %% %d == 0 }`
	for i, change := range []func(){
		func() { r.write(r.config(fmt.Sprintf(alert, 100), "")) },
		func() { r.module("2") },
		func() { r.write(r.config("batch { max_records = 7 }", "")) },
		func() { r.write(r.config("", `limits { time = "1s" }`)) },
		func() { r.module("three") },
		func() {}, // nothing changes
		func() { r.write(r.config(fmt.Sprintf(alert, 50), `limits { time = "2s" }`)) },
	} {
		r.grow(3000)
		change()
		r.hangup("")
		r.grow(500 + i)
	}
	r.holds()
}

// holds holds that everything is stored once and that the hub has it, and ends.
func (r *reloadRig) holds() {
	t := r.t
	t.Helper()
	r.flows()
	eventually(t, "the hub has everything", func() bool {
		s, ok := statusOf(r.dataDir)
		return ok && s.Pipelines[0].Waiting == 0 && s.Pipelines[1].Waiting == 0 && s.Queue.Waiting == 0
	})
	if strings.Contains(r.edge.stderr.String(), "a new epoch") {
		t.Errorf("the edge does not know what it has sent itself:\n%s", tailOf(r.edge.stderr.String()))
	}
	if s, _ := statusOf(r.dataDir); s.Pipelines[0].Totals.SyncedRecords != uint64(r.written) || s.ThisRun.Collected != s.Totals.Collected {
		t.Errorf("status %+v", s.ThisRun)
	}
	if res := edged(t, r.dir, "", "audit", "p.hcl", "--data-dir", r.dataDir); res.code != exitOK {
		t.Errorf("audit: %d\n%s%s", res.code, res.stdout, res.stderr)
	}
	r.edge.stop(syscall.SIGTERM)
	got := r.stored()
	var want []string
	for i := range r.written {
		want = append(want, fmt.Sprintf("p r%d 0", i+1))
	}
	for last := 5; last <= r.written; last += 5 {
		want = append(want, fmt.Sprintf("sums r%d %d", last, 5*last-10))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stored (-want +got):\n%.2000s", diff)
	}
	r.hub.stop(syscall.SIGTERM)
}

// stored are pipeline, id and sum of everything that is stored, by pipeline.
func (r *reloadRig) stored() (all []string) {
	r.t.Helper()
	for _, pipeline := range []string{"p", "sums"} {
		res := edged(r.t, r.dir, "", "store", "export", "--data-dir", r.dataDir, "--pipeline", pipeline)
		if res.code != exitOK {
			r.t.Fatal(res.stderr)
		}
		for lines := bufio.NewScanner(strings.NewReader(res.stdout)); lines.Scan(); {
			var line struct {
				Record struct {
					ID      string
					Payload struct{ N json.RawMessage }
				}
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				r.t.Fatal(err)
			}
			var n struct{ Sum int }
			if pipeline == "sums" {
				if err := json.Unmarshal(line.Record.Payload.N, &n); err != nil {
					r.t.Fatal(err)
				}
			}
			all = append(all, fmt.Sprintf("%s %s %d", pipeline, line.Record.ID, n.Sum))
		}
	}
	return all
}

// TestReloadRefused holds that what is wrong changes nothing and is said: by the
// command with its exit code, by the signal in the status; and that what runs
// runs on.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	r := startReloadRig(t)
	good := r.config("", "")
	r.flows()
	before, _ := statusOf(r.dataDir)
	refused := func(code int, want string) {
		t.Helper()
		res := edged(t, r.dir, "", "reload", "--data-dir", r.dataDir)
		if res.code != code || !strings.Contains(res.stderr, want) {
			t.Errorf("reload: %d, want %d and %q\n%s%s", res.code, code, want, res.stdout, res.stderr)
		}
		r.flows()
	}
	r.write(good + "pipeline {")
	refused(exitConfig, "p.hcl:38")
	r.hangup("p.hcl:38")
	r.flows()
	r.write(strings.Replace(good, `"builtin:aggregate"`, `"builtin:aggregatt"`, 1))
	refused(exitConfig, `Did you mean "aggregate"`)
	r.write(strings.Replace(good, `device_id = "reload"`, `device_id = "other"`, 1))
	refused(exitConfig, "Cannot change at run time")
	r.write(strings.Replace(good, fmt.Sprintf("urls = [\"nats-leaf://%s\"]", r.hub.leaf), "embedded = true", 1))
	refused(exitConfig, `the remote "hub" has changed`)
	r.write(good)
	writeFile(t, filepath.Join(r.dir, "own.wasm"), "\x00asm, and then something else")
	refused(exitConfig, "Plugin cannot be loaded")
	r.hangup("Plugin cannot be loaded")
	r.flows()
	after, _ := statusOf(r.dataDir)
	if diff := cmp.Diff(before.Plugins[0].SHA256, after.Plugins[0].SHA256); diff != "" || after.Plugins[0].Records <= before.Plugins[0].Records {
		t.Errorf("the old module does not run on: %+v", after.Plugins[0])
	}
	if res := edged(t, r.dir, "", "status", "--data-dir", r.dataDir); !strings.Contains(res.stdout, "configuration refused") {
		t.Errorf("status says\n%s", res.stdout)
	}
	r.module("2")
	res := edged(t, r.dir, "", "reload", "p.hcl", "--data-dir", r.dataDir)
	if res.code != exitOK || !strings.Contains(res.stdout, `started: pipeline "p"`) || !strings.Contains(res.stdout, `kept: pipeline "sums"`) {
		t.Errorf("reload: %d\n%s%s", res.code, res.stdout, res.stderr)
	}
	r.flows()
	if s, _ := statusOf(r.dataDir); s.Plugins[0].SHA256 == before.Plugins[0].SHA256 {
		t.Error("the new module does not run")
	}
	r.edge.stop(syscall.SIGTERM)
	r.hub.stop(syscall.SIGTERM)
	if res := edged(t, r.dir, "", "reload", "--data-dir", r.dataDir); res.code != exitNoEdge {
		t.Errorf("with no edge: %d %s", res.code, res.stderr)
	}
}

// TestReloadRemotes changes, adds and removes NATS remotes while records come in: none
// is lost, none comes twice, also at a hub that was left and is come back to.
func TestReloadRemotes(t *testing.T) {
	t.Parallel()
	r := startReloadRig(t)
	second := launchHub(t, hubDirMade(t, filepath.Join(r.dir, "second")))
	other := fmt.Sprintf("remote \"nats\" \"other\" {\n  urls = [\"nats-leaf://%s\"]\n}", second.leaf)
	_, port, _ := strings.Cut(r.hub.leaf, ":")
	for i, change := range []func(){
		func() { r.link = `monitor { every = "7s" }` },
		func() { r.link = `compression = "best"` },
		func() { r.other = other }, // nothing syncs to it yet
		func() { r.sums = "sync { to = remote.nats.other }" },
		func() { r.link = `max_rate = "20MiB/s"` },
		func() { r.other = strings.Replace(other, "127.0.0.1", "localhost", 1) },
		func() { r.sums, r.other = "", "" },
		func() { r.sums, r.other = "sync { to = remote.nats.other }", other },
		func() { r.hub.leaf = "localhost:" + port },
	} {
		r.grow(2000)
		change()
		r.write(r.config("", ""))
		r.hangup("")
		r.grow(500 + i)
	}
	eventually(t, "the second hub has everything", func() bool {
		s, ok := statusOf(r.dataDir)
		return ok && len(s.Remotes) == 2 && s.Pipelines[1].Waiting == 0
	})
	r.holds()
	second.stop(syscall.SIGTERM)
}
