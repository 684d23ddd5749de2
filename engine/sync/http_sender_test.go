package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// ingestHub is a real hub with its ingest API, behind a proxy that spoils some
// of the requests.
type ingestHub struct {
	t      *testing.T
	dir    string
	proxy  *httptest.Server
	client *http.Client

	mu  gosync.Mutex
	hub *hub.Hub
	rng *rand.Rand // nil: all goes well
}

func startIngestHub(t *testing.T) *ingestHub {
	h := &ingestHub{t: t, dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{}}}
	h.start()
	h.proxy = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(func() {
		h.proxy.Close()
		h.stop()
	})
	return h
}

func (h *ingestHub) start() {
	h.t.Helper()
	var err error
	h.hub, err = hub.Start(context.WithoutCancel(h.t.Context()), hub.Options{
		LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", HTTPListen: "127.0.0.1:0", HTTPToken: "s3cret", DataDir: h.dir,
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *ingestHub) stop() {
	h.client.CloseIdleConnections()
	if err := h.hub.Close(); err != nil {
		h.t.Error(err)
	}
}

// restart stops the hub while it answers, and starts it again.
func (h *ingestHub) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop()
	h.start()
}

func (h *ingestHub) luck() float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rng == nil {
		return 1
	}
	return h.rng.Float64()
}

func (h *ingestHub) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" {
		return
	}
	luck := h.luck()
	switch {
	case luck < 0.1:
		w.WriteHeader(500)
		return
	case luck < 0.15:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(429)
		return
	case luck < 0.2:
		io.WriteString(w, "<html>") //nolint:errcheck // the client may have gone
		return
	case luck < 0.25:
		cut(w, "")
		return
	}
	status, answer, err := h.forward(r)
	switch {
	case luck < 0.35:
		cut(w, "")
	case luck < 0.45:
		cut(w, fmt.Sprintf("HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%s", status, len(answer), answer[:len(answer)/2]))
	case luck < 0.5 || err != nil:
		w.WriteHeader(502)
	default:
		w.WriteHeader(status)
		w.Write(answer) //nolint:errcheck // the client may have gone
	}
}

func (h *ingestHub) forward(r *http.Request) (int, []byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	req, err := http.NewRequest(r.Method, h.hub.HTTPURL()+r.URL.EscapedPath(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = r.Header.Clone()
	resp, err := h.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// ids returns the ids of all records or messages below a subject, in order.
func (h *ingestHub) ids(stream, below string) (ids []string) {
	h.t.Helper()
	nc, err := nats.Connect(h.hub.ClientURL())
	if err != nil {
		h.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := js.Stream(h.t.Context(), stream)
	if err != nil {
		h.t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		msg, err := s.GetMsg(h.t.Context(), seq)
		if err != nil {
			h.t.Fatal(err)
		}
		if strings.HasPrefix(msg.Subject, below+".") {
			var v struct{ ID string }
			if err := json.Unmarshal(msg.Data, &v); err != nil {
				h.t.Fatal(err)
			}
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// sendingEdge is a store with two pipelines and one priority of the queue, and
// a sender at work.
type sendingEdge struct {
	t       *testing.T
	dir     string
	b       *broker.Broker
	nc      *nats.Conn
	records *store.Log
	queue   *store.Log
	remote  *sync.HTTP
	monitor *sync.Monitor
	sender  *sync.Sender
	feeds   []*sync.FeedSender
	lanes   []*store.Lane // a, b, high
	dead    atomic.Int64
	stop    func()
}

func startSendingEdge(t *testing.T, url string) *sendingEdge {
	t.Helper()
	e := &sendingEdge{t: t, dir: t.TempDir()}
	e.start(url)
	t.Cleanup(func() { e.stop() })
	return e
}

func (e *sendingEdge) start(url string) {
	e.t.Helper()
	var err error
	check := func() {
		if err != nil {
			e.t.Helper()
			e.t.Fatal(err)
		}
	}
	e.b, err = broker.Start(e.t.Context(), broker.Options{Name: "edge-s", Domain: "edge-s", Dir: filepath.Join(e.dir, "js")})
	check()
	e.nc, err = e.b.Connect("test")
	check()
	quiet := slog.New(slog.DiscardHandler)
	e.records, err = store.Open(e.t.Context(), e.nc, store.Options{Stream: "EDGED_RECORDS", Subject: "edged.records", MaxBytes: 1 << 30, Logger: quiet})
	check()
	e.queue, err = store.Open(e.t.Context(), e.nc, store.Options{Stream: "EDGED_QUEUE", Subject: "edged.queue", MaxBytes: 1 << 30, Logger: quiet})
	check()
	quick := sync.Backoff{Base: time.Millisecond, Max: 20 * time.Millisecond}
	e.remote, err = sync.OpenHTTP(e.t.Context(), sync.HTTPOptions{
		Name: "cloud", Edge: "e1", URL: url, Token: "s3cret", Compression: "zstd", Backoff: quick, Conn: e.nc, Logger: quiet,
		DeadLetter: func(context.Context, record.DeadLetter) error { e.dead.Add(1); return nil },
	})
	check()
	e.monitor = sync.NewMonitor(sync.MonitorOptions{
		Remote: e.remote, Logger: quiet, Poll: 5 * time.Millisecond, Every: 20 * time.Millisecond, Backoff: quick,
	})
	e.sender = sync.NewSender(sync.SenderOptions{
		Remote: e.remote, Monitor: e.monitor, Logger: quiet, Backoff: quick,
		Changed: []func() <-chan struct{}{e.records.Changed, e.queue.Changed},
	})
	e.lanes, e.feeds = nil, nil
	for _, l := range []struct {
		log  *store.Log
		name string
		kind sync.Kind
	}{{e.records, "a", sync.Records}, {e.records, "b", sync.Records}, {e.queue, "high", sync.Messages}} {
		lane, err := l.log.Lane(e.t.Context(), l.name)
		if err != nil {
			e.t.Fatal(err)
		}
		e.lanes = append(e.lanes, lane)
		feed := &sync.Feed{Kind: l.kind, Lane: lane}
		e.feeds = append(e.feeds, e.sender.Add(feed, batch.Policy{MaxRecords: 40, MaxBytes: 1 << 20}, 0))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running gosync.WaitGroup
	running.Go(func() { e.monitor.Run(ctx) })
	running.Go(func() { e.sender.Run(ctx) })
	e.stop = func() {
		cancel()
		running.Wait()
		e.remote.Close()
		for _, log := range []*store.Log{e.records, e.queue} {
			if err := log.Close(context.Background()); err != nil {
				e.t.Error(err)
			}
		}
		e.nc.Close()
		if err := e.b.Close(); err != nil {
			e.t.Error(err)
		}
	}
}

func (e *sendingEdge) restart(url string) {
	e.t.Helper()
	e.stop()
	e.start(url)
}

// put stores n records on each lane, and a quarter as many messages.
func (e *sendingEdge) put(n int) {
	e.t.Helper()
	for i, lane := range e.lanes {
		g := &store.Group{}
		if e.feeds[i].Feed.Kind == sync.Messages {
			n /= 4
		}
		for k := range n {
			id := fmt.Sprintf("%s%d", lane.Name(), lane.Last()+uint64(k)+1)
			r := record.Record{ID: id, DeviceID: "d", DataType: "t", Timestamp: time.Now(), Payload: []byte(`{}`)}
			data, subject := r.AppendJSON(nil), lane.Subject("t", "d")
			if e.feeds[i].Feed.Kind == sync.Messages {
				data = fmt.Appendf(nil, `{"id":%q,"topic":"x","priority":"high","pipeline":"a","created":"2026-11-22T06:15:00Z","body":1}`, id)
				subject = lane.Subject("x")
			}
			g.Entries = append(g.Entries, store.Entry{Subject: subject, Data: data})
		}
		done := make(chan error, 1)
		g.Done = func(err error) { done <- err }
		if err := lane.Append(e.t.Context(), g); err != nil {
			e.t.Fatal(err)
		}
		if err := <-done; err != nil {
			e.t.Fatal(err)
		}
	}
}

// until waits for something to become true, looking again at every push.
func (e *sendingEdge) until(what string, cond func() bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-e.sender.Progress():
		case <-tick.C:
		case <-ctx.Done():
			for _, f := range e.feeds {
				at, _, err := f.Status()
				e.t.Logf("%s at %+v: %v", f.Feed, at, err)
			}
			e.t.Fatalf("never %s", what)
		}
	}
}

func (e *sendingEdge) drained() bool {
	for _, f := range e.feeds {
		if f.Waiting() > 0 {
			return false
		}
	}
	return true
}

// TestExactlyOnceOverHTTP puts a bad proxy between edge and hub and restarts
// both: every record and message is at the hub once, in order (I2, I4).
func TestExactlyOnceOverHTTP(t *testing.T) {
	t.Parallel()
	h := startIngestHub(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h.rng = rand.New(rand.NewPCG(seed, 0))
	e := startSendingEdge(t, h.proxy.URL)
	const rounds, each = 6, 200
	for round := range rounds {
		e.put(each)
		e.until("some are sent", func() bool {
			f := e.feeds[round%3]
			at, _, _ := f.Status()
			return at.Last > f.Feed.Lane.Last()*uint64(round)/uint64(round+1)
		})
		if round%2 == 0 {
			e.restart(h.proxy.URL)
		} else {
			h.restart()
		}
	}
	e.until("everything is sent", e.drained)
	for _, c := range []struct {
		lane, stream, subject string
		n                     int
	}{
		{"a", "EDGED_RECORDS", "edged.hub.records.e1.a", rounds * each},
		{"b", "EDGED_RECORDS", "edged.hub.records.e1.b", rounds * each},
		{"high", "EDGED_QUEUE", "edged.hub.queue.e1.high", rounds * each / 4},
	} {
		got := h.ids(c.stream, c.subject)
		if want := numbered(c.lane, c.n); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: the hub has %d: %v", c.lane, len(got), got)
		}
	}
	if n := e.dead.Load(); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// TestOneFeedInTrouble holds that an API which cannot take one pipeline's
// records still gets the other's and the messages (I6), and that the state
// tells of it until it is over.
func TestOneFeedInTrouble(t *testing.T) {
	t.Parallel()
	h := startIngestHub(t)
	var sick atomic.Bool
	sick.Store(true)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sick.Load() && r.Header.Get("Edged-Pipeline") == "a" && r.URL.Path == sync.HTTPBatchPath {
			w.WriteHeader(500)
			return
		}
		h.serve(w, r)
	}))
	t.Cleanup(api.Close)
	e := startSendingEdge(t, api.URL)
	e.put(100)
	e.until("the others are sent", func() bool { return e.feeds[1].Waiting() == 0 && e.feeds[2].Waiting() == 0 })
	e.until("degraded", func() bool {
		state, _, err := e.monitor.State()
		return state == sync.Degraded && err != nil && strings.Contains(err.Error(), "500")
	})
	e.put(100) // degraded, it still sends
	e.until("the others are sent again", func() bool { return e.feeds[1].Waiting() == 0 && e.feeds[2].Waiting() == 0 })
	if n := e.feeds[0].Waiting(); n != 200 {
		t.Errorf("%d of the one in trouble wait", n)
	}
	sick.Store(false)
	e.until("everything is sent", e.drained)
	e.until("online", func() bool { state, _, _ := e.monitor.State(); return state == sync.Online })
	if got := h.ids("EDGED_RECORDS", "edged.hub.records.e1.a"); strings.Join(got, " ") != strings.Join(numbered("a", 200), " ") {
		t.Errorf("the hub has %v", got)
	}
}

// TestAsideWaits holds that what the API has refused for now counts as waiting
// and does not hold back the purge: it is kept apart (I3).
func TestAsideWaits(t *testing.T) {
	api := newCloud(t)
	hold := make(chan struct{})
	api.judge = func(ids []string) (int, string) {
		if strings.HasPrefix(ids[0], "high") {
			return 202, ""
		}
		select {
		case <-hold:
			return 200, `{"failed_ids":[]}`
		default:
			return 207, fmt.Sprintf(`{"failed_ids":[%q]}`, ids[0])
		}
	}
	e := startSendingEdge(t, api.URL)
	e.put(30)
	e.until("one is aside", func() bool {
		at, _, _ := e.feeds[0].Status()
		return at.Last == 30 && at.Aside == 1
	})
	if n := e.feeds[0].Waiting(); n != 1 {
		t.Errorf("%d wait", n)
	}
	if durable := e.records.Durable(); e.feeds[0].Floor(durable) != durable+1 {
		t.Error("the purge is held back")
	}
	close(hold)
	e.until("everything is sent", e.drained)
	at, _, _ := e.feeds[0].Status()
	if e.dead.Load() == 0 && at.Total != 30 {
		t.Errorf("the position is %+v", at)
	}
}
