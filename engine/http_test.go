package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/hub"
)

// TestHTTPRemote runs a whole edge against the hub's ingest API, which refuses
// one record and whose answers get lost, and stops it in the middle: everything
// is at the hub once, the refused record among the dead letters (I2, I6, I7).
func TestHTTPRemote(t *testing.T) {
	h, err := hub.Start(t.Context(), hub.Options{
		LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", HTTPListen: "127.0.0.1:0", HTTPToken: "s3cret", DataDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	var requests atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forward(t, h.HTTPURL(), w, r, requests.Add(1))
	}))
	t.Cleanup(api.Close)

	rig := &restoreRig{t: t, hub: h, dir: t.TempDir(), file: filepath.Join(t.TempDir(), "in.ndjson")}
	var in strings.Builder
	for i := 1; i <= 60; i++ {
		fmt.Fprintf(&in, `{"id":"r%d","device_id":"d.1","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d,"bad":%t}}`+"\n", i, i, i == 33)
	}
	if err := os.WriteFile(rig.file, []byte(in.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	src := fmt.Sprintf(`
edge { device_id = "edge.1" }
remote "http" "cloud" {
  url         = %q
  token_file  = %q
  compression = "none"
}
pipeline "p" {
  collect "file" "f" {
    path   = %q
    format = "ndjson"
  }
  alert "tenth" {
    when  = record.payload.n == 10
    topic = "a/b"
  }
  batch { max_records = 7 }
  sync { to = remote.http.cloud }
}`, api.URL, token, rig.file)

	first := rig.run(src, false, func(e *engine.Engine, stop func()) {
		until(t, "some records are synced", func() bool { return e.Status().Totals.SyncedRecords >= 14 })
		stop()
	})
	if first.Waiting == 0 {
		t.Error("everything was sent at once; nothing is left for the second run")
	}
	s := rig.run(src, true, nil)
	if s.Stored != 60 || s.SyncedRecords != 59 || s.SyncedMessages != 1 || s.DeadLetters != 1 || s.Waiting != 0 {
		t.Errorf("the summary says %+v", s)
	}
	if s.Audited || !s.NoLedger {
		t.Errorf("audited %t, no ledger %t", s.Audited, s.NoLedger)
	}
	var want []string
	for i := 1; i <= 60; i++ {
		if i != 33 {
			want = append(want, fmt.Sprintf("r%d", i))
		}
	}
	if got := rig.ids(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the hub holds %v", got)
	}
	letters := rig.deadLetters()
	if len(letters) != 1 || letters[0].Stage != "sync.cloud" || letters[0].Pipeline != "p" ||
		!strings.Contains(string(letters[0].Raw), `"id":"r33"`) || !strings.Contains(letters[0].Error, "poison") {
		t.Errorf("dead letters: %+v", letters)
	}
}

// forward passes a request on to the hub and loses every third answer.
func forward(t *testing.T, to string, w http.ResponseWriter, r *http.Request, n int64) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the edge has gone
	}
	if bytes.Contains(body, []byte(`"bad":true`)) {
		http.Error(w, `{"error":"poison"}`, http.StatusBadRequest)
		return
	}
	req, err := http.NewRequest(r.Method, to+r.URL.EscapedPath(), bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header = r.Header
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	if n%3 == 0 && r.Method == http.MethodPost {
		panic(http.ErrAbortHandler) // stored, and the answer is lost
	}
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body) //nolint:errcheck // the edge may have gone
}

// run runs an edge until it is drained or stop is called.
func (r *restoreRig) run(src string, drain bool, during func(e *engine.Engine, stop func())) engine.Summary {
	r.t.Helper()
	cfg, diags := config.Parse(map[string][]byte{"test.hcl": []byte(src)}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		r.t.Fatal(diags)
	}
	e, err := engine.Open(r.t.Context(), cfg, engine.Options{DataDir: r.dir, UntilDrained: drain})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	if during != nil {
		during(e, cancel)
	}
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	s := e.Summary(r.t.Context())
	if err := e.Close(context.WithoutCancel(r.t.Context())); err != nil {
		r.t.Fatal(err)
	}
	return s
}
