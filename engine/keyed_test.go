package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/keyed/api"
)

// keyedEdge is an edge with a keyed store, used as a program beside it would.
type keyedEdge struct {
	t    *testing.T
	e    *Engine
	stop func()
}

// openKeyedEdge opens an edge with a keyed store, and does not run it.
func openKeyedEdge(t *testing.T, id, leaf, dir, pipeline string) *Engine {
	t.Helper()
	text := fmt.Sprintf(`
edge {
  device_id = %q
  api {
    listen = "127.0.0.1:0"
    token  = "secret"
  }
}
remote "nats" "hub" {
  urls = [%q]
}
%s`, id, leaf, pipeline)
	cfg, diags := config.Parse(map[string][]byte{filepath.Join(dir, "test.hcl"): []byte(text)}, Catalog(), expr.Host{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	e, err := Open(t.Context(), cfg, Options{DataDir: filepath.Join(dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func startKeyedEdge(t *testing.T, id, leaf, dir, pipeline string) *keyedEdge {
	t.Helper()
	e := openKeyedEdge(t, id, leaf, dir, pipeline)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	k := &keyedEdge{t: t, e: e}
	k.stop = gosync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(k.stop)
	return k
}

// ask makes an HTTP request and returns status, body and ETag.
func (k *keyedEdge) ask(method, path, body string, header ...string) (status int, answer, etag string) {
	k.t.Helper()
	r, err := http.NewRequestWithContext(k.t.Context(), method, "http://"+k.e.APIAddr()+path, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer secret")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() {
		if err := resp.Body.Close(); err != nil {
			k.t.Error(err)
		}
	}()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header.Get("ETag")
}

func (k *keyedEdge) put(path, body string) {
	k.t.Helper()
	if status, answer, _ := k.ask("PUT", path, body); status/100 != 2 {
		k.t.Fatalf("PUT %s: %d %s", path, status, answer)
	}
}

// becomes waits until a key has a value.
func (k *keyedEdge) becomes(path, want string) {
	k.t.Helper()
	var got string
	waitUntil(k.t, func() bool {
		_, got, _ = k.ask("GET", path, "")
		return got == want
	}, func() string { return fmt.Sprintf("%s is %s, want %s", path, got, want) })
}

func waitUntil(t *testing.T, cond func() bool, why func() string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatal(why())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestKeyedRecords takes keyed records the whole way: from a file and from
// programs at two edges, through a chain of modules, to the hub and back.
func TestKeyedRecords(t *testing.T) {
	h, err := hub.Start(t.Context(), hub.Options{LeafListen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	pipeline := `
pipeline "settings" {
  collect "file" "seed" {
    path      = "seed.ndjson"
    data_type = "setpoint"
    id        = input.name
    payload   = input
  }
  store "keyed" {
    conflict = "latest_wins"
    data_type "order" {
      conflict = [plugin.orders, "manual"]
    }
  }
  sync {
    to = remote.nats.hub
  }
}
plugin "orders" {
  module = "builtin:merge"
  config = { fields = { "notes" = "union" } }
}
`
	dirA, dirB := t.TempDir(), t.TempDir()
	write := func(dir, text string) {
		if err := os.WriteFile(filepath.Join(dir, "seed.ndjson"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(dirA, `{"name":"fan","value":1.50}`+"\n"+`{"name":"pump","value":2}`+"\n")
	write(dirB, "")
	a := startKeyedEdge(t, "a", h.LeafURL(), dirA, pipeline)
	b := startKeyedEdge(t, "b", h.LeafURL(), dirB, pipeline)
	b.becomes("/keyed/settings/setpoint/pump", `{"name":"pump","value":2}`)
	a.put("/keyed/settings/order/7", `{"status":"new","notes":["a"]}`)
	b.becomes("/keyed/settings/order/7", `{"status":"new","notes":["a"]}`)

	// Both change the order while neither sees the other.
	b.stop()
	a.put("/keyed/settings/order/7", `{"status":"done","notes":["a"]}`)
	waitUntil(t, func() bool { return a.e.Keyed("settings").Status().Pending == 0 }, func() string { return "a does not sync" })
	offline := startKeyedEdge(t, "b", "nats-leaf://127.0.0.1:1", dirB, pipeline)
	offline.put("/keyed/settings/order/7", `{"status":"new","notes":["a","b"]}`)
	offline.put("/keyed/settings/setpoint/fan", `{"off":true}`)
	offline.stop()
	b = startKeyedEdge(t, "b", h.LeafURL(), dirB, pipeline)
	for _, k := range []*keyedEdge{a, b} {
		k.becomes("/keyed/settings/order/7", `{"status":"done","notes":["a","b"]}`)
		k.becomes("/keyed/settings/setpoint/fan", `{"off":true}`)
	}
	journal, err := b.e.Keyed("settings").Journal(t.Context(), 0, 10)
	if err != nil || len(journal) != 1 || journal[0].Resolver.Name != "orders" || len(journal[0].Resolver.SHA256) != 64 {
		t.Errorf("journal %+v, %v", journal, err)
	}
	rows := map[string]uint64{}
	for _, p := range b.e.Status().Plugins {
		if p.Pipeline != "" || len(p.Stores) != 1 || p.Stores[0] != "settings" || p.SHA256 == "" {
			t.Errorf("plugin %+v", p)
		}
		rows[p.Name] = p.Conflicts
	}
	if diff := cmp.Diff(map[string]uint64{"builtin:latest_wins": 0, "orders": 1, "builtin:manual": 0}, rows); diff != "" {
		t.Errorf("conflicts by plugin (-want +got):\n%s", diff)
	}
	if s := b.e.Status().Pipelines[0].Keyed; s == nil || s.Keys != 3 || s.CaughtUp == nil || !*s.CaughtUp {
		t.Errorf("status %+v", s)
	}
}

// TestKeyedAPI holds what programs beside the edge rely on.
func TestKeyedAPI(t *testing.T) {
	k := startKeyedEdge(t, "a", "nats-leaf://127.0.0.1:1", t.TempDir(), `
pipeline "s" {
  store "keyed" {
    conflict = "latest_wins"
  }
  sync {
    to = remote.nats.hub
  }
}`)
	const key = "/keyed/s/set%20point/a.*>/%C3%A9"
	status, _, etag := k.ask("PUT", key, ` { "x" : 1e400 } `)
	if status != 201 || etag == "" {
		t.Fatalf("PUT: %d, ETag %s", status, etag)
	}
	if status, body, again := k.ask("GET", key, ""); status != 200 || body != `{"x":1e400}` || again != etag {
		t.Errorf("GET: %d %s %s", status, body, again)
	}
	for _, c := range []struct {
		method, path, body string
		header             []string
		want               int
	}{
		{"GET", "/keyed/s/none", "", nil, 404},
		{"GET", "/keyed/other/none", "", nil, 404},
		{"GET", "/elsewhere", "", nil, 404},
		{"GET", key, "", []string{"If-None-Match", etag}, 304},
		{"GET", key, "", []string{"Authorization", "Bearer wrong"}, 401},
		{"POST", key, "", nil, 405},
		{"PUT", key, "1", []string{"If-Match", `"0123456789abcdef"`}, 412},
		{"PUT", key, "1", []string{"If-None-Match", "*"}, 412},
		{"PUT", key, `{"a":1,"\u0061":2}`, nil, 422},
		{"PUT", key, `NaN`, nil, 422},
		{"PUT", key, strings.Repeat("[", 200) + strings.Repeat("]", 200), nil, 422},
		{"PUT", key, `"` + strings.Repeat("x", keyed.MaxBodyBytes) + `"`, nil, 413},
		{"PUT", "/keyed/s/" + strings.Repeat("k", 600), `1`, nil, 422},
		{"PUT", key, `{"x":1}`, []string{"If-Match", etag}, 200},
		{"DELETE", key, "", []string{"If-Match", etag}, 412},
		{"DELETE", key, "", nil, 204},
		{"DELETE", key, "", nil, 404},
		{"PUT", "/keyed/s/list/1", "1", nil, 201},
		{"PUT", "/keyed/s/list/2", "2", nil, 201},
		{"GET", "/keyed/s?limit=0", "", nil, 400},
	} {
		if status, answer, _ := k.ask(c.method, c.path, c.body, c.header...); status != c.want {
			t.Errorf("%s %.40s %.20s: %d %s, want %d", c.method, c.path, c.body, status, answer, c.want)
		}
	}
	if _, body, _ := k.ask("GET", "/keyed/s?prefix=list/&limit=1", ""); !strings.Contains(body, `"next":"list/1"`) {
		t.Errorf("list: %s", body)
	}
	if _, body, _ := k.ask("GET", "/keyed", ""); !strings.Contains(body, `"keys":2,"pending":3`) {
		t.Errorf("status: %s", body)
	}

	// The same by request on the edge's broker.
	nc, err := k.e.broker.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, c := range []struct{ verb, body, want string }{
		{"put", `{"key":"n","body":{"a":1.0}}`, `{"status":200,"entry":{"key":"n","body":{"a":1.0}`},
		{"get", `{"key":"n"}`, `{"status":200,"entry":{"key":"n","body":{"a":1.0}`},
		{"put", `{"key":"n","body":2,"if_none_match":"*"}`, `{"status":412`},
		{"list", `{"prefix":"n"}`, `{"status":200,"entries":[{"key":"n"`},
		{"delete", `{"key":"n"}`, `{"status":200}`},
		{"get", `{"key":"n"}`, `{"status":404`},
		{"burn", `{}`, `{"status":404`},
		{"get", `[`, `{"status":400`},
	} {
		msg, err := nc.Request(api.Subject+".s."+c.verb, []byte(c.body), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(msg.Data), c.want) || !json.Valid(msg.Data) {
			t.Errorf("%s %s: %s, want %s", c.verb, c.body, msg.Data, c.want)
		}
	}
}
