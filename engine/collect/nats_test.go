package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// embedded starts a NATS server inside the test.
func embedded(t *testing.T, opts server.Options) *server.Server {
	t.Helper()
	opts.NoSigs, opts.NoLog = true, true
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return srv
}

// natsBench holds a NATS source that runs against an embedded server.
type natsBench struct {
	*background
	client *nats.Conn
	source *nats.Conn // the source's own; nil when it makes it itself
}

func inProcess(srv *server.Server) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(srv))
}

// listen starts a source and returns when its subscription is in force.
func listen(t *testing.T, srv *server.Server, sink Sink, body string, change func(*Options)) *natsBench {
	t.Helper()
	opts := testOptions(newStepClock())
	connected := make(chan *nats.Conn, 1)
	opts.Connect = func() (*nats.Conn, error) {
		c, err := inProcess(srv)
		connected <- c
		return c, err
	}
	if change != nil {
		change(&opts)
	}
	s, err := openNATS(opts, parse(t, natsSpec(), "%s", body))
	if err != nil {
		t.Fatal(err)
	}
	client, err := inProcess(srv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	before := srv.NumSubscriptions()
	b := &natsBench{background: start(t, s, nil, sink), client: client}
	b.until(t, "subscribed", func() bool { return srv.NumSubscriptions() > before })
	if opts.Connect != nil {
		b.source = <-connected
	}
	return b
}

// until asks the server again, one round trip at a time, until it is so.
func (b *natsBench) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never %s", what)
		}
		if err := b.client.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// delivered returns when what the client has sent waits at the source.
func (b *natsBench) delivered(t *testing.T) {
	t.Helper()
	for _, c := range []*nats.Conn{b.client, b.source} {
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *natsBench) publish(t *testing.T, subject, data string) {
	t.Helper()
	if err := b.client.Publish(subject, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func (b *natsBench) requestLater(t *testing.T, subject, data string) chan string {
	t.Helper()
	c := make(chan string, 1)
	inbox := nats.NewInbox()
	sub, err := b.client.Subscribe(inbox, func(m *nats.Msg) { c <- string(m.Data) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := b.client.PublishRequest(subject, inbox, []byte(data)); err != nil {
		t.Fatal(err)
	}
	return c
}

func received(t *testing.T, c chan string) string {
	t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return ""
	}
}

// A request is answered after its record is durable and not before (I1).
func TestNATSRepliesAfterDone(t *testing.T) {
	srv := embedded(t, server.Options{DontListen: true})
	sink := &memorySink{held: true, taken: make(chan *Batch, 10)}
	b := listen(t, srv, sink, `subject = "in.*"`, nil)
	answered := b.requestLater(t, "in.a", `{"id":"r1","payload":{"n":1}}`)
	batch := <-sink.taken
	diff(t, "payloads", []string{`{"n":1}`}, sink.payloads())
	for range 50 { // time for a wrong answer to arrive
		if err := b.client.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case s := <-answered:
		t.Fatalf("answered before the batch was durable: %s", s)
	default:
	}
	batch.Done(nil)
	diff(t, "answer", `{"ok":true,"id":"r1"}`, received(t, answered))

	broken := errors.New("the disk is broken")
	answered = b.requestLater(t, "in.a", `{"n":2}`)
	(<-sink.taken).Done(broken)
	if s := received(t, answered); !strings.Contains(s, `{"error":"it could not be stored; send it again later: the disk is broken`) {
		t.Errorf("answer %s", s)
	}
	if err := b.wait(t); !errors.Is(err, broken) {
		t.Errorf("the run ended with %v", err)
	}
}

func TestNATSRefusedBatchEndsTheRun(t *testing.T) {
	broken := errors.New("the disk is broken")
	b := listen(t, embedded(t, server.Options{DontListen: true}), &memorySink{refuse: func(int) error { return broken }}, `subject = "in"`, nil)
	if s := received(t, b.requestLater(t, "in", `{"n":2}`)); !strings.Contains(s, "the disk is broken") {
		t.Errorf("answer %s", s)
	}
	if err := b.wait(t); !errors.Is(err, broken) {
		t.Errorf("the run ended with %v", err)
	}
}

func TestNATSMessages(t *testing.T) {
	srv := embedded(t, server.Options{DontListen: true})
	sink := &memorySink{taken: make(chan *Batch, 100)}
	b := listen(t, srv, sink, "subject = \"in.>\"\ndevice_id = input.mote\npayload = { n = input.n }", nil)
	b.publish(t, "other", `{"n":0,"mote":"m"}`)
	b.publish(t, "in.a.b", `{"n":1,"mote":"m"}`)
	headers := nats.Header{"Trace": {"a", "b\xff"}, "Zone": {strings.Repeat("z", maxHeaderBytes)}} // the last is too long
	if err := b.client.PublishMsg(&nats.Msg{Subject: "in.a", Data: []byte(`{"n":2}`), Header: headers}); err != nil {
		t.Fatal(err)
	}
	b.publish(t, "in.a", ``)
	bad := received(t, b.requestLater(t, "in.a", `{"n":`))
	good := received(t, b.requestLater(t, "in.a", `{"n":3,"mote":"m"}`))
	diff(t, "payloads", []string{`{"n":1}`, `{"n":3}`}, sink.payloads())
	d := sink.rejected()
	if len(d) != 3 || !strings.Contains(d[0].Error, "device_id") || !strings.Contains(d[1].Error, "empty") || !strings.Contains(d[2].Error, "not valid JSON") ||
		string(d[2].Raw) != `{"n":` || d[2].Detail["subject"] != "in.a" {
		t.Fatalf("rejected %v", d)
	}
	diff(t, "headers", map[string][]string{"Trace": {"a", "b\uFFFD"}}, d[0].Headers)
	if d[1].Headers != nil {
		t.Errorf("headers of a message without any: %v", d[1].Headers)
	}
	want, err := json.Marshal(map[string]string{"error": d[2].Error, "dead_letter": d[2].ID})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "answer to the bad one", sortedText(t, string(want)), sortedText(t, bad))
	diff(t, "answer to the good one", fmt.Sprintf(`{"ok":true,"id":%q}`, sink.records()[1].ID), good)
}

func sortedText(t *testing.T, object string) string { return sorted(t, []byte(object)) }

// gate is a sink whose Put waits for the test.
type gate struct {
	memorySink
	entered chan struct{}
	open    chan error
}

func newGate() *gate { return &gate{entered: make(chan struct{}), open: make(chan error)} }

func (g *gate) Put(_ context.Context, b *Batch) error {
	g.entered <- struct{}{}
	if err := <-g.open; err != nil {
		return err
	}
	return g.memorySink.Put(context.Background(), b)
}

// Messages that have arrived while a batch was handed on go together in the
// next one; what arrived before the stop is stored.
func TestNATSBatchesAndStops(t *testing.T) {
	srv := embedded(t, server.Options{DontListen: true})
	g := newGate()
	b := listen(t, srv, g, "subject = \"in\"\nwait = \"5m\"", nil)
	b.publish(t, "in", `{"n":0}`)
	<-g.entered
	for i := 1; i <= batchRecords+100; i++ {
		b.publish(t, "in", fmt.Sprintf(`{"n":%d}`, i))
	}
	answered := b.requestLater(t, "in", `{"id":"last","payload":{}}`)
	b.delivered(t)
	b.cancel()
	g.open <- nil
	for range 2 {
		<-g.entered
		g.open <- nil
	}
	if err := b.wait(t); err != nil {
		t.Fatal(err)
	}
	diff(t, "answer", `{"ok":true,"id":"last"}`, received(t, answered))
	var sizes []int
	for _, batch := range g.all() {
		sizes = append(sizes, len(batch.Records))
	}
	diff(t, "batches", []int{1, batchRecords, 101}, sizes)
	for i, p := range g.payloads()[:batchRecords+101] {
		if p != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("record %d is %s", i, p)
		}
	}
}

// With no room in the store, requests are told so, and the others wait on.
func TestNATSWhenFull(t *testing.T) {
	srv := embedded(t, server.Options{DontListen: true})
	g := newGate()
	b := listen(t, srv, g, `subject = "in"`, nil)
	b.publish(t, "in", `{"n":0}`)
	<-g.entered
	b.publish(t, "in", `{"n":1}`)
	answered := b.requestLater(t, "in", `{"n":2}`)
	b.publish(t, "in", `{"n":3}`)
	b.delivered(t)
	g.open <- nil
	<-g.entered
	g.open <- fmt.Errorf("storing: %w", ErrFull)
	diff(t, "answer", `{"error":"the local store is full or busy; send it again later"}`, received(t, answered))
	answered = b.requestLater(t, "in", `{"n":4}`)
	b.delivered(t)
	<-g.entered
	g.open <- nil // the third one
	<-g.entered
	g.open <- &Unstorable{errors.New("the disk is full")}
	diff(t, "answer", `{"error":"the local store takes nothing now: the disk is full; send it again later"}`, received(t, answered))
	b.cancel()
	if err := b.wait(t); err != nil {
		t.Fatal(err)
	}
	diff(t, "payloads", []string{`{"n":0}`, `{"n":1}`, `{"n":3}`}, g.payloads())
}

// Messages that do not fit are counted in a dead letter (I7, I9).
func TestNATSDropsWithATrace(t *testing.T) {
	srv := embedded(t, server.Options{DontListen: true})
	g := newGate()
	b := listen(t, srv, g, "subject = \"in\"\nmax_pending = 10\nwait = \"5m\"", nil)
	b.publish(t, "in", `{"n":0}`)
	<-g.entered
	for i := 1; i <= 25; i++ {
		b.publish(t, "in", fmt.Sprintf(`{"n":%d}`, i))
	}
	b.delivered(t)
	b.cancel()
	g.open <- nil
	for ended := false; !ended; {
		select {
		case <-g.entered:
			g.open <- nil
		case err := <-b.ended:
			b.ended <- err
			ended = true
		}
	}
	dropped := 0
	for _, d := range g.rejected() {
		var n int
		if _, err := fmt.Sscan(d.Detail["dropped"], &n); err != nil || !strings.Contains(d.Error, "max_pending") {
			t.Fatalf("dead letter %v: %v", d, err)
		}
		dropped += n
	}
	diff(t, "stored and dropped", []int{11, 15}, []int{len(g.payloads()), dropped})
}

// Two sources of one queue group share the messages; the server is one that
// the pipeline file names.
func TestNATSQueueGroupAtAServer(t *testing.T) {
	srv := embedded(t, server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT})
	body := fmt.Sprintf("subject = \"in\"\nqueue_group = \"edges\"\nurls = [%q]", srv.ClientURL())
	noBroker := func(o *Options) { o.Connect = nil }
	var one, two memorySink
	a := listen(t, srv, &one, body, noBroker)
	listen(t, srv, &two, body, noBroker)
	var answers sync.WaitGroup
	for i := range 200 {
		c := a.requestLater(t, "in", fmt.Sprintf(`{"n":%d}`, i))
		answers.Go(func() {
			if s := received(t, c); !strings.HasPrefix(s, `{"ok":true`) {
				t.Error(s)
			}
		})
	}
	answers.Wait()
	if n := len(one.records()) + len(two.records()); n != 200 || len(one.records()) == 0 || len(two.records()) == 0 {
		t.Errorf("%d and %d records", len(one.records()), len(two.records()))
	}
}

// A source whose server goes away for good says so instead of waiting.
func TestNATSConnectionLost(t *testing.T) {
	srv := embedded(t, server.Options{DontListen: true})
	b := listen(t, srv, &memorySink{}, `subject = "in"`, nil)
	b.source.Close()
	if err := b.wait(t); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("error %v", err)
	}
}

// A server that cannot be reached keeps a source waiting, not from stopping.
func TestNATSUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "nats://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	subscribed := make(chan string, 10)
	opts := testOptions(newStepClock())
	opts.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) { subscribed <- string(p) }), nil))
	s, err := openNATS(opts, parse(t, natsSpec(), "subject = \"in\"\nurls = [%q]", url))
	if err != nil {
		t.Fatal(err)
	}
	run := start(t, s, nil, &memorySink{})
	if line := <-subscribed; !strings.Contains(line, "subscribed") {
		t.Errorf("log %q", line)
	}
	run.cancel()
	if err := run.wait(t); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func TestNATSCannotOpen(t *testing.T) {
	opts := testOptions(newStepClock())
	if _, err := openNATS(opts, parse(t, natsSpec(), `subject = "in"`)); err == nil || !strings.Contains(err.Error(), "set urls at test.hcl") {
		t.Errorf("without a server: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "edge.creds")
	if _, err := openNATS(opts, parse(t, natsSpec(), "subject = \"in\"\nurls = [\"nats://x\"]\ncredentials = %q", missing)); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("without credentials: %v", err)
	}
	opts.Connect = func() (*nats.Conn, error) { return nil, errors.New("the broker is not there") }
	s, err := openNATS(opts, parse(t, natsSpec(), `subject = "in"`))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), nil, &memorySink{}); err == nil || !strings.Contains(err.Error(), "the broker is not there") {
		t.Errorf("without a connection: %v", err)
	}
}

func TestSubjects(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "a.b": true, "*": true, ">": true, "a.*.b.>": true,
		"": false, ".": false, "a.": false, "a b": false, "a.>.b": false, "a*": false, "a.b>": false, "a\n": false,
	} {
		if got := validSubject(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
