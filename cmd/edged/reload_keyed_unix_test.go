//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	gosync "sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/keyed"
)

// keyedReload is an edge with a pipeline whose keys the edge and the hub change all
// the time, and whose conflicts a module of its own decides.
type keyedReload struct {
	*reloadRig
	api        string
	kv         jetstream.KeyValue
	conflict   string // the chain
	transforms string // stages of the pipeline
	more       string // blocks beside it
	end        func() // of the changes
	refused    atomic.Int64
	puts       atomic.Int64
}

func (k *keyedReload) keyedConfig() string {
	return fmt.Sprintf(`
edge {
  device_id = "reload"
  api {
    listen = %q
  }
}
remote "nats" "hub" {
  urls = ["nats-leaf://%s"]
  %s
}
plugin "own" {
  module = "own.wasm"
}
pipeline "settings" {
  collect "file" "in" {
    path   = "in.ndjson"
    follow = true
    poll   = "10ms"
  }
  %s
  store "keyed" {
    conflict = %s
  }
  sync { to = remote.nats.hub }
}
%s
`, k.api, k.hub.leaf, k.link, k.transforms, k.conflict, k.more)
}

// strategy makes own.wasm the shipped module of a strategy, told apart by a section
// at its end.
func (k *keyedReload) strategy(name, version string) {
	k.t.Helper()
	code := readFile(k.t, filepath.Join(repository, "plugins", name, name+".wasm"))
	writeFile(k.t, filepath.Join(k.dir, "own.wasm"), code+"\x00"+string(rune(len(version)+2))+"\x01v"+version)
}

func startKeyedReload(t *testing.T) *keyedReload {
	t.Helper()
	dir := t.TempDir()
	k := &keyedReload{
		reloadRig: &reloadRig{t: t, dir: dir, dataDir: filepath.Join(dir, "data"), hub: launchHub(t, hubDirMade(t, filepath.Join(dir, "hub")))},
		api:       freeAddresses(t, 1)[0], conflict: `[plugin.own, "manual"]`,
	}
	k.openInput()
	k.strategy("client_wins", "1")
	k.write(k.keyedConfig())
	k.edge = launch(t, dir, "run", "p.hcl", "--data-dir", k.dataDir, "--no-progress")
	eventually(t, "the edge runs", func() bool { _, ok := statusOf(k.dataDir); return ok })
	nc, err := nats.Connect(k.hub.client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if k.kv, err = js.KeyValue(t.Context(), keyed.HubBucket); err != nil {
		t.Fatal(err)
	}
	return k
}

// quarrel has both sides change the same few keys until end is called.
func (k *keyedReload) quarrel() {
	ctx, cancel := context.WithCancel(context.Background())
	var all gosync.WaitGroup
	for i := range 4 {
		key := fmt.Sprintf("hot/%d", i)
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				k.puts.Add(1)
				if status := k.put("settings", key, fmt.Sprintf(`{"edge":%d}`, n)); status/100 != 2 {
					k.refused.Add(1)
				}
			}
		})
		all.Go(func() {
			at := "settings." + strings.Replace(key, "/", ".", 1)
			for n := 0; ctx.Err() == nil; n++ {
				// The hub changes what the edge has brought: one faster than that would
				// let it bring nothing.
				if e, err := k.kv.Get(ctx, at); err != nil || !strings.Contains(string(e.Value()), `"edge":`) {
					continue
				}
				if _, err := k.kv.Put(ctx, at, fmt.Appendf(nil, `{"hub":%d}`, n)); err != nil && ctx.Err() == nil {
					k.t.Error(err)
					return
				}
			}
		})
	}
	k.end = func() { cancel(); all.Wait() }
	k.t.Cleanup(k.end)
}

// put returns the API's status, 0 when it does not answer.
func (k *keyedReload) put(store, key, body string) int {
	return k.ask(http.MethodPut, store, key, body)
}

func (k *keyedReload) ask(method, store, key, body string) int {
	req, err := http.NewRequest(method, "http://"+k.api+"/keyed/"+store+"/"+key, strings.NewReader(body)) //nolint:noctx // the edge answers or ends
	if err != nil {
		k.t.Error(err)
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0
	}
	return resp.StatusCode
}

// decisions are all that were made, in their order.
func (k *keyedReload) decisions() (all []engine.ConflictDecision) {
	k.t.Helper()
	client, err := engine.Dial(k.dataDir)
	if err != nil {
		k.t.Fatal(err)
	}
	err = client.Decisions(k.t.Context(), engine.ConflictFilter{}, func(d *engine.ConflictDecision) error {
		all = append(all, *d)
		return nil
	})
	if err = errors.Join(err, client.Close()); err != nil {
		k.t.Fatal(err)
	}
	return all
}

// decided waits until 20 more conflicts are decided, and holds that all are since the
// ones before by one module, which it names, and as that decides.
func (k *keyedReload) decided(action keyed.Action, before []engine.ConflictDecision) []engine.ConflictDecision {
	k.t.Helper()
	var all []engine.ConflictDecision
	eventually(k.t, "conflicts are decided", func() bool { all = k.decisions(); return len(all) >= len(before)+20 })
	for i := range all {
		d := &all[i]
		if i >= len(before) && (d.Action != action || d.Resolver.SHA256 != all[len(all)-1].Resolver.SHA256 || len(d.Resolver.SHA256) != 64) {
			k.t.Fatalf("decision %d of %d, %d of them before the change: %s by %+v, want %s; the newest is by %+v",
				i, len(all), len(before), d.Action, d.Resolver, action, all[len(all)-1].Resolver)
		}
	}
	return all
}

// TestReloadKeyed changes what a keyed pipeline is made of while both sides change its
// keys: every request is answered, every record stored once, and each conflict decided
// once, by the module that the journal names.
func TestReloadKeyed(t *testing.T) {
	t.Parallel()
	k := startKeyedReload(t)
	k.quarrel()
	var all []engine.ConflictDecision
	shas := map[string]bool{}
	step := func(action keyed.Action, refused string, change func()) {
		t.Helper()
		k.grow(500)
		change()
		k.write(k.keyedConfig())
		k.hangup(refused)
		k.grow(100)
		all = k.decided(action, k.decisions())
		shas[all[len(all)-1].Resolver.SHA256] = true
	}
	step(keyed.TakeLocal, "", func() {}) // nothing changes
	step(keyed.TakeRemote, "", func() { k.strategy("server_wins", "2") })
	step(keyed.TakeRemote, "Resolver cannot be loaded", func() { writeFile(t, filepath.Join(k.dir, "own.wasm"), "\x00asm, and then something else") })
	step(keyed.TakeLocal, "", func() { k.strategy("client_wins", "3") })
	step(keyed.TakeRemote, "", func() { k.conflict = `"server_wins"` })
	step(keyed.TakeLocal, "", func() {
		k.conflict, k.transforms = `plugin.own`, "transform \"t\" { plugin = plugin.t }"
		k.more = "plugin \"t\" {\n  module = \"builtin:fields\"\n  config = { drop = [\"x\"] }\n}\n"
	})
	step(keyed.TakeLocal, "", func() { k.link = `monitor { every = "7s" }` })
	step(keyed.TakeLocal, "", func() { k.link = `compression = "best"` })
	if len(shas) != 4 { // two builds of client_wins, one of server_wins, and the one that comes with edged
		t.Errorf("the journal names %d modules: %v", len(shas), shas)
	}
	k.end()
	if n := k.refused.Load(); n > 0 {
		t.Errorf("%d of %d requests were not answered", n, k.puts.Load())
	}
	k.settled()
	once := map[string]bool{}
	for _, d := range k.decisions() {
		this := fmt.Sprintf("%s %v %d %s", d.Key, d.Local.Op, d.Revision, d.Remote.Hash)
		if once[this] {
			t.Errorf("a conflict was decided twice: %s by %+v", this, d.Resolver)
		}
		once[this] = true
	}
	k.edge.stop(syscall.SIGTERM)
	k.hub.stop(syscall.SIGTERM)
}

// settled holds that everything that was read is at the hub, and read once.
func (k *keyedReload) settled() {
	k.t.Helper()
	var s engine.Status
	eventually(k.t, "the hub has everything", func() (ok bool) {
		s, ok = statusOf(k.dataDir)
		return ok && s.Totals.Collected >= uint64(k.written) && s.Pipelines[0].Keyed.Pending == 0
	})
	if s.Totals.Collected != uint64(k.written) || s.Totals.DeadLetters > 0 {
		k.t.Errorf("%d records were collected of %d: %+v", s.Totals.Collected, k.written, s.Totals)
	}
	for i := range k.written {
		want := fmt.Sprintf(`"body":{"n":%d},`, i+1)
		if e, err := k.kv.Get(k.t.Context(), fmt.Sprintf("settings.t.r%d", i+1)); err != nil || !strings.Contains(string(e.Value()), want) {
			k.t.Fatalf("record %d at the hub: %v, %v", i+1, e, err)
		}
	}
}

// TestReloadKeyedPipelines adds, removes and brings back pipelines with keyed records.
func TestReloadKeyedPipelines(t *testing.T) {
	t.Parallel()
	k := startKeyedReload(t)
	const second = `
pipeline "second" {
  collect "file" "none" {
    path = "none.ndjson"
  }
  store "keyed" {
    conflict = "latest_wins"
  }
  sync { to = remote.nats.hub }
}`
	writeFile(t, filepath.Join(k.dir, "none.ndjson"), "")
	load := func(more string) {
		t.Helper()
		k.more = more
		k.write(k.keyedConfig())
		k.hangup("")
	}
	want := func(method, key, body string, status int) {
		t.Helper()
		if got := k.ask(method, "second", key, body); got != status {
			t.Fatalf("%s %s: %d, want %d", method, key, got, status)
		}
	}
	atHub := func(key, value string) {
		t.Helper()
		eventually(t, key+" is at the hub", func() bool {
			e, err := k.kv.Get(t.Context(), "second."+key)
			return err == nil && strings.Contains(string(e.Value()), `"body":`+value+`,`)
		})
	}
	want(http.MethodPut, "a", `1`, http.StatusNotFound)
	load(second)
	want(http.MethodPut, "a", `1`, http.StatusCreated)
	atHub("a", `1`)
	load("")
	want(http.MethodGet, "a", "", http.StatusNotFound)
	if _, err := k.kv.PutString(t.Context(), "second.b", `2`); err != nil {
		t.Fatal(err)
	}
	load(strings.Replace(second, `"latest_wins"`, `"server_wins"`, 1))
	want(http.MethodGet, "a", "", http.StatusOK)
	want(http.MethodPut, "a", `3`, http.StatusOK)
	atHub("a", `3`)
	eventually(t, "what was set meanwhile is here", func() bool { return k.ask(http.MethodGet, "second", "b", "") == http.StatusOK })
	k.edge.stop(syscall.SIGTERM)

	// Brought back by a start, and then without: what it kept waits for it.
	k.more = ""
	k.write(k.keyedConfig())
	k.edge = launch(t, k.dir, "run", "p.hcl", "--data-dir", k.dataDir, "--no-progress")
	k.reloads = 0
	eventually(t, "the edge runs", func() bool { _, ok := statusOf(k.dataDir); return ok })
	want(http.MethodGet, "a", "", http.StatusNotFound)
	load(second)
	want(http.MethodGet, "a", "", http.StatusOK)
	want(http.MethodPut, "a", `4`, http.StatusOK)
	atHub("a", `4`)
	k.edge.stop(syscall.SIGTERM)
	k.hub.stop(syscall.SIGTERM)
}
