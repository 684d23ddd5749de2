package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/plugindev"
)

const conflictsPipeline = `
edge {
  device_id = "edge-1"
  data_dir  = "data"
  api {
    listen = %q
  }
}
remote "nats" "hub" {
  urls = [%q]
}
pipeline "settings" {
  collect "file" "none" {
    path = "none.ndjson"
  }
  store "keyed" {
    conflict = "manual"
    data_type "auto" {
      conflict = "server_wins"
    }
  }
  sync {
    to = remote.nats.hub
  }
}
`

// conflictsBench is an edge that made edits while its hub, which is there now,
// had others made: three keys wait for a person, one was settled.
type conflictsBench struct {
	t    *testing.T
	dir  string
	api  string
	edge *process
	kv   jetstream.KeyValue
}

func (b *conflictsBench) put(key, body string) {
	b.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPut, "http://"+b.api+"/keyed/settings/"+key, strings.NewReader(body))
		if err != nil {
			b.t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			if err := resp.Body.Close(); err != nil {
				b.t.Error(err)
			}
			if resp.StatusCode/100 == 2 {
				return
			}
			b.t.Fatalf("PUT %s: %s", key, resp.Status)
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("PUT %s: %v", key, err)
		}
		<-time.After(20 * time.Millisecond) // the edge is about to listen
	}
}

func (b *conflictsBench) run(args ...string) result {
	b.t.Helper()
	return edged(b.t, b.dir, "", append([]string{"conflicts"}, args...)...)
}

// list waits until so many conflicts wait, and returns them.
func (b *conflictsBench) list(n int) []engine.OpenConflict {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		r := b.run("ls", "--json", "p.hcl")
		r.wantCode(b.t, exitOK)
		if found := ndjson[engine.OpenConflict](b.t, r.stdout); len(found) == n {
			return found
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not %d conflicts wait: %s", n, r.stdout)
		}
	}
}

// at waits until a key has a value at the hub.
func (b *conflictsBench) at(key, want string) {
	b.t.Helper()
	got := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		entry, err := b.kv.Get(b.t.Context(), "settings."+key)
		if err != nil {
			b.t.Fatal(err)
		}
		if got = string(entry.Value()); strings.Contains(got, want) {
			return
		}
	}
	b.t.Fatalf("%s is %s at the hub, want %s", key, got, want)
}

func startConflicts(t *testing.T) *conflictsBench {
	free := freeAddresses(t, 2)
	b := &conflictsBench{t: t, dir: t.TempDir(), api: free[0]}
	leaf := free[1]
	writeFile(t, filepath.Join(b.dir, "p.hcl"), fmt.Sprintf(conflictsPipeline, b.api, "nats-leaf://"+leaf))
	writeFile(t, filepath.Join(b.dir, "none.ndjson"), "")
	offline := launch(t, b.dir, "run", "p.hcl")
	for _, key := range []string{"valve/1", "valve/2", "valve/3", "auto/1"} {
		b.put(key, `{"target":21,"by":"edge"}`)
	}
	offline.stop(os.Interrupt)

	h, err := hub.Start(t.Context(), hub.Options{LeafListen: leaf, ClientListen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	nc, err := nats.Connect(h.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if b.kv, err = js.KeyValue(t.Context(), "EDGED_KEYED"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"valve.1", "valve.2", "valve.3", "auto.1"} {
		if _, err := b.kv.Put(t.Context(), "settings."+key, []byte(`{"target":23,"by":"hub"}`)); err != nil {
			t.Fatal(err)
		}
	}
	b.edge = launch(t, b.dir, "run", "p.hcl")
	b.put("up/1", "1") // it runs: the commands ask it
	return b
}

// TestConflicts settles conflicts with the commands, as a person does.
func TestConflicts(t *testing.T) {
	b := startConflicts(t)
	waiting := b.list(3)
	ids := map[string]string{}
	for _, c := range waiting {
		ids[c.Key] = c.ID
	}

	shown := b.run("show", ids["valve/1"][:8], "p.hcl")
	shown.wantCode(t, exitOK)
	for _, want := range []string{ids["valve/1"], "valve/1", "by edge-1", "by hub", "Journal of the key"} {
		if !strings.Contains(shown.stdout, want) {
			t.Errorf("show has no %q:\n%s", want, shown.stdout)
		}
	}

	b.run("resolve", ids["valve/1"][:8], "--take", "local", "--reason", "measured on site", "p.hcl").wantCode(t, exitOK)
	b.at("valve.1", `"by":"edge"`)
	b.run("resolve", ids["valve/2"], "--merged", `{"target":22}`, "p.hcl").wantCode(t, exitOK)
	b.at("valve.2", `"target":22`)
	if r := b.run("resolve", ids["valve/1"], "--take", "local", "p.hcl"); r.code != exitRuntime || !strings.Contains(r.stderr, "it may be settled") {
		t.Errorf("a settled conflict: %d %s", r.code, r.stderr)
	}
	if r := b.run("resolve", "--all", "--take", "remote", "p.hcl"); r.code != exitUsage || !strings.Contains(r.stderr, "1 conflict would be settled; add --yes") {
		t.Errorf("without --yes: %d %s", r.code, r.stderr)
	}

	// What the hub has moves on: the ID that was seen is of no use any more.
	if _, err := b.kv.Put(t.Context(), "settings.valve.3", []byte(`{"target":30}`)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); b.list(1)[0].ID == ids["valve/3"]; {
		if time.Now().After(deadline) {
			t.Fatal("the conflict keeps its ID though the hub's version has changed")
		}
	}
	if r := b.run("resolve", ids["valve/3"], "--take", "local", "p.hcl"); r.code != exitRuntime {
		t.Errorf("a stale choice: %d %s", r.code, r.stderr)
	}
	b.run("resolve", "--all", "--take", "remote", "--yes", "p.hcl").wantCode(t, exitOK)
	b.list(0)

	b.edge.stop(os.Interrupt)
	if r := b.run("resolve", "--all", "--take", "remote", "p.hcl"); r.code != exitOK || !strings.Contains(r.stdout, "0 conflicts settled") {
		t.Errorf("nothing to settle: %d %s%s", r.code, r.stdout, r.stderr)
	}
	decided := b.run("ls", "--decided", "p.hcl")
	decided.wantCode(t, exitOK)
	for _, want := range []string{"person", "measured on site", "server_wins"} {
		if !strings.Contains(decided.stdout, want) {
			t.Errorf("the journal has no %q:\n%s", want, decided.stdout)
		}
	}
}

// TestConflictsReplay runs the recorded conflicts through other resolvers, with
// the edge stopped.
func TestConflictsReplay(t *testing.T) {
	b := startConflicts(t)
	b.list(3)
	b.edge.stop(os.Interrupt)

	same := b.run("replay", "--plugin", "builtin:server_wins", "--key", "auto/", "p.hcl")
	if same.wantCode(t, exitOK); !strings.Contains(same.stdout, "1 decided the same, 0 otherwise") {
		t.Errorf("server_wins of what server_wins decided:\n%s", same.stdout)
	}
	other := b.run("replay", "--plugin", "builtin:client_wins", "--json", "p.hcl")
	other.wantCode(t, exitOK)
	rows := ndjson[replayed](t, other.stdout)
	if len(rows) != 4 {
		t.Fatalf("%d rows:\n%s", len(rows), other.stdout)
	}
	for _, r := range rows {
		if !r.Differs || r.After.Body != `{"target":21,"by":"edge"}` {
			t.Errorf("client_wins on %s: %+v", r.Key, r)
		}
	}
	if r := b.run("replay", "--plugin", "builtin:dew_point", "p.hcl"); r.code != exitRuntime || !strings.Contains(r.stderr, "cannot resolve conflicts") {
		t.Errorf("a transform: %d %s", r.code, r.stderr)
	}
	if r := b.run("replay", "p.hcl"); r.code != exitUsage {
		t.Errorf("without a plugin: %d %s", r.code, r.stderr)
	}

	b.run("export", "--as", "conflicts", "-o", "conflicts.ndjson", "p.hcl").wantCode(t, exitOK)
	conflicts, err := plugindev.ParseConflicts([]byte(readFile(t, filepath.Join(b.dir, "conflicts.ndjson"))))
	if err != nil || len(conflicts) != 4 {
		t.Fatalf("%d exported conflicts, %v", len(conflicts), err)
	}
	edged(t, b.dir, "", "plugin", "test", "builtin:latest_wins", "--conflicts", "conflicts.ndjson").wantCode(t, exitOK)
	decisions := b.run("export", "p.hcl")
	if decisions.wantCode(t, exitOK); len(ndjson[engine.ConflictDecision](t, decisions.stdout)) != 4 {
		t.Errorf("exported decisions:\n%s", decisions.stdout)
	}
	if r := b.run("resolve", "--all", "--take", "remote", "--yes", "p.hcl"); r.code != exitRuntime || !strings.Contains(r.stderr, "must run") {
		t.Errorf("settling without an edge: %d %s", r.code, r.stderr)
	}
}
