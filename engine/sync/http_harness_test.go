package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// apiEdge is an edge's store with one HTTP remote and a clock that stands.
type apiEdge struct {
	t       *testing.T
	dir     string
	b       *broker.Broker
	nc      *nats.Conn
	log     *store.Log
	remote  *sync.HTTP
	session sync.Partial
	feed    *sync.Feed
	now     time.Time
	dead    []record.DeadLetter
	opts    sync.HTTPOptions
}

// startAPIEdge opens the edge; the lane is "p" of the records or, for
// messages, "high".
func startAPIEdge(t *testing.T, url string, kind sync.Kind, change func(*sync.HTTPOptions)) *apiEdge {
	t.Helper()
	e := &apiEdge{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)}
	e.opts = sync.HTTPOptions{
		Name: "cloud", Edge: "edge.1", URL: url, Token: "s3cret", MaxAttempts: 3, Timeout: 30 * time.Second,
		Backoff: sync.Backoff{Base: time.Second, Max: 5 * time.Minute, Float64: func() float64 { return 1 }},
		Now:     func() time.Time { return e.now },
		DeadLetter: func(_ context.Context, d record.DeadLetter) error {
			e.dead = append(e.dead, d)
			return nil
		},
	}
	if change != nil {
		change(&e.opts)
	}
	e.open(kind)
	t.Cleanup(e.close)
	return e
}

func (e *apiEdge) open(kind sync.Kind) {
	e.t.Helper()
	var err error
	if e.b, err = broker.Start(e.t.Context(), broker.Options{Name: "edge-api", Domain: "edge-api", Dir: filepath.Join(e.dir, "js")}); err != nil {
		e.t.Fatal(err)
	}
	if e.nc, err = e.b.Connect("test"); err != nil {
		e.t.Fatal(err)
	}
	stream, subject, lane := "EDGED_RECORDS", "edged.records", "p"
	if kind == sync.Messages {
		stream, subject, lane = "EDGED_QUEUE", "edged.queue", "high"
	}
	e.log, err = store.Open(e.t.Context(), e.nc, store.Options{
		Stream: stream, Subject: subject, MaxBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	l, err := e.log.Lane(e.t.Context(), lane)
	if err != nil {
		e.t.Fatal(err)
	}
	e.feed = &sync.Feed{Kind: kind, Lane: l}
	e.opts.Conn = e.nc
	if e.remote, err = sync.OpenHTTP(e.t.Context(), e.opts); err != nil {
		e.t.Fatal(err)
	}
	e.session = e.remote.Session(e.feed).(sync.Partial)
	if _, err := e.session.Position(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

func (e *apiEdge) close() {
	e.remote.Close()
	if err := e.log.Close(context.WithoutCancel(e.t.Context())); err != nil {
		e.t.Error(err)
	}
	e.nc.Close()
	if err := e.b.Close(); err != nil {
		e.t.Error(err)
	}
}

// restart is what a kill leaves: only what is durable.
func (e *apiEdge) restart() {
	e.t.Helper()
	e.close()
	e.open(e.feed.Kind)
}

// at is the position, but for the time that it has exactly while something is put
// aside.
func (e *apiEdge) at() sync.Position {
	e.t.Helper()
	at := e.session.At()
	if at.AsideSince.IsZero() != (at.Aside == 0) {
		e.t.Errorf("the position %+v has the wrong time", at)
	}
	at.AsideSince = time.Time{}
	return at
}

func (e *apiEdge) append(entries []store.Entry) {
	e.t.Helper()
	done := make(chan error, 1)
	if err := e.feed.Lane.Append(e.t.Context(), &store.Group{Entries: entries, Done: func(err error) { done <- err }}); err != nil {
		e.t.Fatal(err)
	}
	if err := <-done; err != nil {
		e.t.Fatal(err)
	}
}

// put stores n records with the ids r1, r2, ….
func (e *apiEdge) put(n int) {
	e.t.Helper()
	var entries []store.Entry
	for i := range n {
		r := record.Record{
			ID: fmt.Sprintf("r%d", e.feed.Lane.Last()+uint64(i)+1), DeviceID: "d", DataType: "t",
			Timestamp: e.now, Payload: []byte(`{"v":1}`),
		}
		entries = append(entries, store.Entry{Subject: e.feed.Lane.Subject("t", "d"), Data: r.AppendJSON(nil)})
	}
	e.append(entries)
}

// say stores messages with the ids m1, m2, … on these topics.
func (e *apiEdge) say(topics ...string) {
	e.t.Helper()
	var entries []store.Entry
	for i, topic := range topics {
		data, err := json.Marshal(record.Message{
			ID: fmt.Sprintf("m%d", e.feed.Lane.Last()+uint64(i)+1), Topic: topic, Priority: record.High,
			Pipeline: "p", Created: e.now, Body: []byte(`{"x":1}`),
		})
		if err != nil {
			e.t.Fatal(err)
		}
		entries = append(entries, store.Entry{Subject: e.feed.Lane.Subject(topic), Data: data})
	}
	e.append(entries)
}

// push sends everything after the position as the sender does, in one call.
func (e *apiEdge) push() error {
	e.t.Helper()
	reader := e.feed.Lane.NewReader(e.session.At().Last)
	defer reader.Close()
	var pending []store.Stored
	for {
		got, err := reader.Read(e.t.Context(), e.session.MaxEntries()-len(pending), 4<<20, pending)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(got) == len(pending) {
			break
		}
		pending = got
	}
	if len(pending) == 0 {
		return nil
	}
	return e.session.Push(e.t.Context(), &sync.Batch{Entries: pending, Last: reader.Number()})
}

// drive pushes and retries, moving the clock to whatever is due next, until
// nothing waits. It returns the errors met on the way.
func (e *apiEdge) drive() (met []error) {
	e.t.Helper()
	for range 1000 {
		err := e.push()
		if err != nil {
			met = append(met, err)
			var later *sync.Later
			if !errors.As(err, &later) {
				e.t.Fatalf("not put off: %v", err)
			}
			e.now = later.Until
		}
		if next := e.session.NextRetry(); err == nil && !next.IsZero() {
			if next.After(e.now) {
				e.now = next
			}
			if _, err := e.session.Retry(e.t.Context()); err != nil {
				met = append(met, err)
			}
		}
		if at := e.session.At(); at.Last == e.feed.Lane.Last() && at.Aside == 0 {
			return met
		}
	}
	e.t.Fatalf("never done; met %v", met)
	return nil
}

// cloud is an API that keeps its promises, except as told.
type cloud struct {
	*httptest.Server
	mu      gosync.Mutex
	script  []func(http.ResponseWriter, *http.Request, store1) // for the next requests, in turn
	judge   func(ids []string) (status int, body string)       // for the rest; nil: takes everything
	ids     []string                                           // as taken, in order
	answers map[string]string                                  // by key
	seen    []seen
}

// store1 takes the request as a good API does and returns its answer.
type store1 func() (status int, body string)

// seen is one request.
type seen struct {
	path, key, encoding, auth string
	ids                       []string
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{answers: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ids, err := idsOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	c.seen = append(c.seen, seen{r.URL.EscapedPath(), key, r.Header.Get("Content-Encoding"), r.Header.Get("Authorization"), ids})
	take := func() (int, string) { return c.take(key, ids) }
	if len(c.script) > 0 {
		next := c.script[0]
		c.script = c.script[1:]
		next(w, r, take)
		return
	}
	status, answer := take()
	w.WriteHeader(status)
	io.WriteString(w, answer) //nolint:errcheck // the client may have gone
}

func (c *cloud) take(key string, ids []string) (int, string) {
	if known, ok := c.answers[key]; ok {
		var status int
		answer, _ := strings.CutPrefix(known, known[:3])
		fmt.Sscan(known[:3], &status) //nolint:errcheck // written below
		return status, answer
	}
	status, answer := http.StatusOK, `{"failed_ids":[]}`
	if c.judge != nil {
		status, answer = c.judge(ids)
	}
	if status/100 == 2 {
		c.answers[key] = fmt.Sprintf("%d%s", status, answer)
		for _, id := range ids {
			if !strings.Contains(answer, `"`+id+`"`) {
				c.ids = append(c.ids, id)
			}
		}
	}
	return status, answer
}

// idsOf reads a request and returns the ids of its records or message.
func idsOf(r *http.Request) ([]string, error) {
	in := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		in = z
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	var sent struct {
		ID      string
		Records []struct{ ID string }
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return nil, err
	}
	if sent.ID != "" {
		return []string{sent.ID}, nil
	}
	var ids []string
	for _, rec := range sent.Records {
		ids = append(ids, rec.ID)
	}
	return ids, nil
}

func (c *cloud) wantIDs(t *testing.T, want ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if fmt.Sprint(c.ids) != fmt.Sprint(want) {
		t.Errorf("the API has %v, want %v", c.ids, want)
	}
}

// numbered returns prefix1 to prefixN without some.
func numbered(prefix string, n int, without ...int) (ids []string) {
	skip := map[int]bool{}
	for _, w := range without {
		skip[w] = true
	}
	for i := 1; i <= n; i++ {
		if !skip[i] {
			ids = append(ids, fmt.Sprintf("%s%d", prefix, i))
		}
	}
	return ids
}
