package keyed_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/sync"
)

// startHTTPHub is a hub that serves keyed records over HTTP too.
func startHTTPHub(t testing.TB, dir string) *testHub {
	t.Helper()
	h, err := hub.Start(t.Context(), hub.Options{
		LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", HTTPListen: "127.0.0.1:0", HTTPToken: "secret", DataDir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	th := &testHub{t: t, h: h, dir: dir, leaf: h.LeafURL()}
	th.connect(h.ClientURL())
	t.Cleanup(th.close)
	return th
}

// overHTTP lets an edge reach its store at an API instead of over its leaf node.
func overHTTP(t testing.TB, h *testHub, address string) func(keyed.Hub) keyed.Hub {
	t.Helper()
	remote, err := sync.OpenHTTP(t.Context(), sync.HTTPOptions{Name: "api", Edge: "e", URL: address, Token: "secret", Compression: "gzip", Conn: h.nc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.Close)
	return func(keyed.Hub) keyed.Hub { return remote.Keyed("s") }
}

// TestHTTPBesideNATS has edges over HTTP and over a leaf node share a store:
// edits on both sides end alike, in all of them.
func TestHTTPBesideNATS(t *testing.T) {
	h := startHTTPHub(t, t.TempDir())
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{latestWins()}}
	leaf := startEdge(t, "leaf", o).run()
	o.wrap = overHTTP(t, h, h.h.HTTPURL())
	a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
	all := []*testEdge{leaf, a, b}
	const big = `{"n":12345678901234567890123,"e":1e400,"text":"<ü> & \u0000"}`
	a.put("setpoint/über allem", big)
	for i := range 600 { // more than one request takes
		leaf.put(fmt.Sprintf("setpoint/%d", i), fmt.Sprint(i))
		b.put(fmt.Sprintf("order/%d", i), fmt.Sprintf(`{"n":%d}`, i))
	}
	quiesced(t, h, all...)
	for _, e := range all {
		if got := e.get("setpoint/über allem"); got != big {
			t.Errorf("%s has %s", e.id, got)
		}
		if n := e.store.Status().Keys; n != 1201 {
			t.Errorf("%s has %d keys", e.id, n)
		}
	}
	for _, e := range all {
		e.cut()
	}
	for i, e := range all {
		e.put("setpoint/1", fmt.Sprintf(`{"by":%q}`, e.id))
		e.put(fmt.Sprintf("setpoint/%d", 2+i), `"own"`)
	}
	a.delete("setpoint/9")
	b.delete("setpoint/9")
	before := h.revisions()
	for _, e := range all {
		e.mend()
		e.drained()
	}
	quiesced(t, h, all...)
	equal(t, h, all, "setpoint/1", "setpoint/2", "setpoint/3", "setpoint/4", "setpoint/9")
	if got := a.get("setpoint/1"); got != `{"by":"b"}` {
		t.Errorf("the latest is %s", got)
	}
	if n := h.revisions() - before; n > 7 {
		t.Errorf("%d revisions for 7 operations whose conflicts the later side wins", n)
	}
	if j := b.journal(); len(j) == 0 {
		t.Error("b met no conflict")
	}
}

// TestCase01OverHTTP is [TestSum] through a proxy that loses answers after the API has
// acted, and requests before.
func TestCase01OverHTTP(t *testing.T) {
	h := startHTTPHub(t, t.TempDir())
	target, err := url.Parse(h.h.HTTPURL())
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.FlushInterval = -1
	var requests, stored atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/batch") {
			forward.ServeHTTP(w, r)
			return
		}
		if requests.Add(1)%5 == 3 {
			panic(http.ErrAbortHandler) // the connection ends
		}
		answer := httptest.NewRecorder()
		forward.ServeHTTP(answer, r)
		if strings.Contains(answer.Body.String(), `{"revision"`) && stored.Add(1)%3 == 1 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(answer.Code)
		if _, err := w.Write(answer.Body.Bytes()); err != nil {
			t.Error(err)
		}
	}))
	defer proxy.Close()
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{sums()}, wrap: overHTTP(t, h, proxy.URL)}
	all := make([]*testEdge, 4)
	for i := range all {
		all[i] = startEdge(t, fmt.Sprintf("e%d", i), o).run()
	}
	var adding gosync.WaitGroup
	for _, e := range all {
		adding.Go(func() {
			for range 30 {
				e.add("counter", 1)
			}
		})
	}
	adding.Wait()
	quiesced(t, h, all...)
	equal(t, h, all, "counter")
	if got := all[0].get("counter"); got != "120" {
		t.Errorf("the sum is %s, want 120", got)
	}
	recovered := uint64(0)
	for _, e := range all {
		recovered += e.store.Status().Recovered
		e.close() // before the proxy
	}
	if recovered == 0 {
		t.Error("no answer was lost")
	}
}

// TestHTTPHubRestarts holds that a stream of changes ends with its hub and goes on
// with the next.
func TestHTTPHubRestarts(t *testing.T) {
	dir := t.TempDir()
	h := startHTTPHub(t, dir)
	var mu gosync.Mutex
	address := h.h.HTTPURL()
	proxy := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		mu.Lock()
		defer mu.Unlock()
		target, err := url.Parse(address)
		if err != nil {
			t.Error(err)
		}
		r.SetURL(target)
	}})
	defer proxy.Close()
	local := startHub(t, t.TempDir()) // only for the state of the remote
	o := edgeOptions{leaf: local.leaf, wrap: overHTTP(t, local, proxy.URL)}
	a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
	a.put("k/1", "1")
	quiesced(t, h, a, b)
	h.close()
	a.put("k/1", "2")
	h2 := startHTTPHub(t, dir)
	mu.Lock()
	address = h2.h.HTTPURL()
	mu.Unlock()
	quiesced(t, h2, a, b)
	equal(t, h2, []*testEdge{a, b}, "k/1")
	if got := b.get("k/1"); got != "2" {
		t.Errorf("b has %s", got)
	}
	a.close()
	b.close()
}

// TestKeyedAPIRefusals holds what the API answers to a client that is wrong.
func TestKeyedAPIRefusals(t *testing.T) {
	h := startHTTPHub(t, t.TempDir())
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ask := func(method, path, body, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, h.h.HTTPURL()+"/api/keyed/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer)
	}
	many := `{"records":[` + strings.Repeat(`{},`, keyed.HTTPSwaps) + `{}]}`
	for _, c := range []struct {
		method, path, body, token string
		status                    int
		answer                    string
	}{
		{"GET", "s/state", "", "wrong", 401, "token"},
		{"GET", "s/state?revision=x", "", "secret", 400, "revision"},
		{"GET", "s=zz/state", "", "secret", 400, "name of the store"},
		{"GET", "s/record?key=", "", "secret", 400, "key is empty"},
		{"GET", "s/record?key=none", "", "secret", 404, "no such key"},
		{"GET", "s/changes?after=-1", "", "secret", 400, "after"},
		{"GET", "s/changes?" + strings.Repeat("interest=a&", 101), "", "secret", 400, "patterns"},
		{"POST", "s/batch", "[", "secret", 400, "records"},
		{"POST", "s/batch", many, "secret", 413, "more than 256"},
		{"POST", "s/edges", "{}", "secret", 400, "device"},
		{"POST", "s/batch", `{"records":[{"key":"k","value":{"a":1}},{"key":"","value":{}},{"key":"k","value":3}]}`, "secret", 200, `"refused"`},
		{"PUT", "s/batch", "", "secret", 405, ""},
	} {
		status, answer := ask(c.method, c.path, c.body, c.token)
		if status != c.status || !strings.Contains(answer, c.answer) {
			t.Errorf("%s %s: %d %s, want %d with %q", c.method, c.path, status, answer, c.status, c.answer)
		}
	}
	if n := h.revisions(); n != 0 {
		t.Errorf("%d revisions of what was refused", n)
	}
}

// FuzzWireRemote holds what comes over the wire to what can be stored.
func FuzzWireRemote(f *testing.F) {
	f.Add([]byte(`{"key":"a","revision":1,"received":"2026-11-22T06:15:00Z","value":{"body":{"n":1e400},"hash":"x","hlc":"1/2","op":{"device":"d","epoch":"e","seq":1}}}`))
	f.Add([]byte(`{"key":"a","revision":1,"error":"no JSON"}`))
	f.Add([]byte(`{"revision":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var w keyed.WireRemote
		if json.Unmarshal(data, &w) != nil {
			return
		}
		r, err := w.Remote()
		if err != nil || r.Value == nil {
			return
		}
		encoded, err := r.Value.Encode()
		if err != nil {
			t.Fatalf("%s: taken and not encoded: %v", data, err)
		}
		v, err := keyed.Decode(encoded, r.Received)
		if err != nil || !bytes.Equal(v.Body, r.Value.Body) || v.Hash != r.Value.Hash {
			t.Fatalf("%s: it became %+v, %v", data, v, err)
		}
	})
}
