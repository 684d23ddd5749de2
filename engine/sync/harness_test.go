package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// A nats-server that stops while a batch is being staged forgets that batch's
// store: its two loops go on waiting for something to flush, and the clock that
// all stores share goes on for it. What an edge's own server leaves behind is
// held by the tests of broker, store and queue, which ignore nothing.
func TestMain(m *testing.M) {
	const server = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(
		m,
		goleak.IgnoreAnyFunction(server+".(*msgBlock).flushLoop"),
		goleak.IgnoreAnyFunction(server+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server+"/ats.Register.func1"),
	)
}

// patience bounds every wait; a wait that works takes milliseconds.
const patience = 2 * time.Minute

// testHub is a real hub and an independent client of it.
type testHub struct {
	t  *testing.T
	h  *hub.Hub
	nc *nats.Conn
	js jetstream.JetStream
	// stop ends it before the test's end does.
	stop func()
}

func startHub(t *testing.T, opts hub.Options) *testHub {
	t.Helper()
	opts.LeafListen, opts.ClientListen = "127.0.0.1:0", "127.0.0.1:0"
	if opts.DataDir == "" {
		opts.DataDir = t.TempDir()
	}
	h, err := hub.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(h.ClientURL())
	if err != nil {
		t.Fatal(errors.Join(err, h.Close()))
	}
	stop := gosync.OnceFunc(func() {
		nc.Close()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &testHub{t: t, h: h, nc: nc, js: js, stop: stop}
}

// ledgerEntries follows the record ledger at the hub until the test ends.
func (h *testHub) ledgerEntries() jetstream.MessagesContext {
	h.t.Helper()
	ledger, err := h.js.OrderedConsumer(h.t.Context(), sync.HubRecordStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{sync.HubLedgerRecords + ".>"},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	entries, err := ledger.Messages()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(entries.Stop)
	return entries
}

// bound lets a stream of the hub hold so many messages, -1 any number.
func (h *testHub) bound(name string, messages int64) {
	h.t.Helper()
	stream, err := h.js.Stream(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = messages
	if _, err := h.js.UpdateStream(h.t.Context(), cfg); err != nil {
		h.t.Fatal(err)
	}
}

// leaf is the address of the hub's leaf node port.
func (h *testHub) leaf() string { return strings.TrimPrefix(h.h.LeafURL(), "nats-leaf://") }

// read returns everything that a hub's stream holds below a subject, in order.
func (h *testHub) read(stream, subject string) []jetstream.Msg {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	consumer, err := h.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		h.t.Fatal(err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	if info.NumPending == 0 {
		return nil
	}
	msgs, err := consumer.Messages()
	if err != nil {
		h.t.Fatal(err)
	}
	defer msgs.Stop()
	var out []jetstream.Msg
	for {
		msg, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			h.t.Fatal(err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			h.t.Fatal(err)
		}
		if out = append(out, msg); meta.NumPending == 0 {
			return out
		}
	}
}

// holds fails unless the hub has the numbers 1 to last of a lane, each once and
// in order, with the bytes that were put.
func (h *testHub) holds(edge, kind, lane string, last uint64) {
	h.t.Helper()
	stream, prefix := sync.HubRecordStream, sync.HubRecordSubject
	if kind == "queue" {
		stream, prefix = sync.HubQueueStream, sync.HubQueueSubject
	}
	want := uint64(1)
	for _, msg := range h.read(stream, prefix+"."+record.Token(edge)+"."+record.Token(lane)+".>") {
		if got := msg.Headers().Get(sync.HeaderNumber); got != strconv.FormatUint(want, 10) {
			h.t.Fatalf("%s of %s: number %s arrived, want %d", lane, edge, got, want)
		}
		if kind == "records" && string(msg.Data()) != string(body(lane, want)) {
			h.t.Fatalf("%s of %s: %d arrived as %s", lane, edge, want, msg.Data())
		}
		want++
	}
	if want != last+1 {
		h.t.Errorf("%s of %s: %d arrived, want %d", lane, edge, want-1, last)
	}
}

func body(lane string, n uint64) []byte { return fmt.Appendf(nil, `{"lane":%q,"n":%d}`, lane, n) }

// testEdge is broker, store and queue of an edge; its remotes are added.
type testEdge struct {
	t       *testing.T
	id      string
	broker  *broker.Broker
	nc      *nats.Conn
	records *store.Log
	queue   *queue.Queue
}

func startEdge(t *testing.T, id, dir string, links ...broker.Link) *testEdge {
	t.Helper()
	name := "edge-" + record.Token(id)
	b, err := broker.Start(t.Context(), broker.Options{
		Name: name, Domain: name, Dir: filepath.Join(dir, "jetstream"), Links: links, PingInterval: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &testEdge{t: t, id: id, broker: b}
	if e.nc, err = b.Connect("test"); err != nil {
		t.Fatal(err)
	}
	silent := slog.New(slog.DiscardHandler)
	if e.records, err = store.Open(t.Context(), e.nc, store.Options{
		Stream: "EDGED_RECORDS", Subject: "edged.records", MaxBytes: 1 << 28, Logger: silent,
	}); err != nil {
		t.Fatal(err)
	}
	if e.queue, err = queue.Open(t.Context(), e.nc, queue.Options{
		QueueBytes: 1 << 26, DeadLetterBytes: 1 << 26, Logger: silent,
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		for _, err := range []error{e.queue.Close(ctx), e.records.Close(ctx)} {
			if err != nil {
				t.Error(err)
			}
		}
		e.nc.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// link leads to a hub by way of a proxy.
func link(name string, p *proxy) broker.Link { return broker.Link{Name: name, URLs: []string{p.url()}} }

func (e *testEdge) lane(name string) *store.Lane {
	e.t.Helper()
	l, err := e.records.Lane(e.t.Context(), name)
	if err != nil {
		e.t.Fatal(err)
	}
	return l
}

// put stores n records of three devices and returns when they are durable.
func (e *testEdge) put(l *store.Lane, n int) {
	e.t.Helper()
	for n > 0 {
		count := min(n, 500)
		n -= count
		g := &store.Group{}
		first := l.Last() + 1
		for i := range uint64(count) {
			device := "d" + strconv.FormatUint((first+i)%3, 10)
			g.Entries = append(g.Entries, store.Entry{Subject: l.Subject("t", device), Data: body(l.Name(), first+i)})
		}
		e.append(l, g)
	}
}

// message stores n messages of a priority.
func (e *testEdge) message(p record.Priority, pipeline string, n int) {
	e.t.Helper()
	l, g := e.queue.Lane(p), &store.Group{}
	for i := range n {
		data, err := json.Marshal(record.Message{ID: fmt.Sprintf("%s-%s-%d", pipeline, p, i), Topic: "t", Priority: p, Pipeline: pipeline, Body: json.RawMessage(`{}`)})
		if err != nil {
			e.t.Fatal(err)
		}
		g.Entries = append(g.Entries, store.Entry{Subject: l.Subject("t"), Data: data})
	}
	e.append(l, g)
}

func (e *testEdge) append(l *store.Lane, g *store.Group) {
	e.t.Helper()
	stored := make(chan error, 1)
	g.Done = func(err error) { stored <- err }
	if err := l.Append(e.t.Context(), g); err != nil {
		e.t.Fatal(err)
	}
	if err := <-stored; err != nil {
		e.t.Fatal(err)
	}
}

// testRemote is a monitor and a sender at work, with an account of what they
// did.
type testRemote struct {
	t       *testing.T
	nats    *sync.NATS
	monitor *sync.Monitor
	sender  *sync.Sender
	feeds   map[string]*sync.FeedSender
	stop    func()

	changes chan sync.Change
	mu      gosync.Mutex
	pushes  []string // feeds, in the order of successful pushes, with their counts
	tried   int      // pushes
	lost    int      // answers: the push failed and the hub had it
}

// options of a remote in a test. Zero values are quick ones.
type remoteOptions struct {
	link    string
	policy  batch.Policy
	every   time.Duration
	lanes   []*store.Lane
	want    func(*store.Stored) bool // of messages
	backoff sync.Backoff
	rate    *sync.Rate
	timeout time.Duration               // of pushes
	known   map[string]*sync.FeedSender // by feed: what was known when the edge last ran
	redial  time.Duration               // after which the monitor redials; 0: a minute
	probing sync.Backoff                // of the monitor
}

// prepare makes a remote that has not begun to work.
func (e *testEdge) prepare(o remoteOptions) *testRemote {
	e.t.Helper()
	if o.link == "" {
		o.link = "hub"
	}
	if o.policy.MaxRecords == 0 {
		o.policy = batch.Policy{MaxRecords: 50, MaxBytes: 1 << 20, MaxWait: time.Millisecond}
	}
	if o.backoff.Base == 0 {
		o.backoff = sync.Backoff{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond}
	}
	if o.timeout == 0 {
		o.timeout = time.Minute // a busy machine may take long
	}
	if o.probing.Base == 0 {
		o.probing = sync.Backoff{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond}
	}
	n, err := sync.OpenNATS(sync.NATSOptions{Link: o.link, Edge: e.id, Domain: sync.DefaultDomain, Broker: e.broker, Rate: o.rate, PushTimeout: o.timeout})
	if err != nil {
		e.t.Fatal(err)
	}
	r := &testRemote{t: e.t, nats: n, feeds: map[string]*sync.FeedSender{}, changes: make(chan sync.Change, 1000)}
	watched := &watchedRemote{NATS: n, by: r}
	silent := slog.New(slog.DiscardHandler)
	r.monitor = sync.NewMonitor(sync.MonitorOptions{
		Remote: watched, Logger: silent, Poll: 5 * time.Millisecond, Every: 500 * time.Millisecond,
		Backoff: o.probing, RedialAfter: o.redial,
		OnChange: func(c sync.Change) { r.changes <- c },
	})
	r.sender = sync.NewSender(sync.SenderOptions{
		Remote: watched, Monitor: r.monitor, Logger: silent, Backoff: o.backoff, Rate: o.rate,
		Changed: []func() <-chan struct{}{e.records.Changed, e.queue.Log().Changed},
	})
	for _, p := range record.Priorities {
		f := &sync.Feed{Kind: sync.Messages, Lane: e.queue.Lane(p), Want: o.want}
		f.Known, f.Past = known(o.known[f.String()])
		r.feeds[f.String()] = r.sender.Add(f, batch.Policy{}, 0)
	}
	for _, l := range o.lanes {
		f := &sync.Feed{Kind: sync.Records, Lane: l}
		f.Known, f.Past = known(o.known[f.String()])
		r.feeds[f.String()] = r.sender.Add(f, o.policy, o.every)
	}
	return r
}

// known is what a feed remembers across a restart.
func known(f *sync.FeedSender) (sync.Position, sync.Past) {
	if f == nil {
		return sync.Position{}, sync.Past{}
	}
	at, _, _ := f.Status()
	return at, f.Past()
}

// run starts the remote's work; stop ends it, the test's end too.
func (r *testRemote) run() *testRemote {
	ctx, cancel := context.WithCancel(context.Background())
	var parts gosync.WaitGroup
	parts.Go(func() { r.monitor.Run(ctx) })
	parts.Go(func() { r.sender.Run(ctx) })
	var once gosync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			parts.Wait()
			r.nats.Close()
		})
	}
	r.t.Cleanup(r.stop)
	return r
}

// until waits until cond holds after some progress of the sender.
func (r *testRemote) until(what string, cond func() bool) {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		progress := r.sender.Progress()
		if cond() {
			return
		}
		select {
		case <-progress:
		case <-timeout:
			for name, f := range r.feeds {
				at, _, err := f.Status()
				r.t.Logf("%s: at %+v, waiting %d, error %v", name, at, f.Waiting(), err)
			}
			state, _, err := r.monitor.State()
			r.t.Fatalf("in vain waited until %s; %s: %v", what, state, err)
		}
	}
}

func (r *testRemote) drained() bool {
	for _, f := range r.feeds {
		if f.Waiting() > 0 {
			return false
		}
	}
	return true
}

// becomes waits for a change to that state and returns it.
func (r *testRemote) becomes(s sync.State) sync.Change {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case c := <-r.changes:
			if c.To == s {
				return c
			}
		case <-timeout:
			r.t.Fatalf("the remote never becomes %s", s)
		}
	}
}

func (r *testRemote) account() (pushes []string, tried, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.pushes...), r.tried, r.lost
}

// watchedRemote and watchedSession keep the account.
type watchedRemote struct {
	*sync.NATS
	by *testRemote
}

func (w *watchedRemote) Session(f *sync.Feed) sync.Session {
	return &watchedSession{Session: w.NATS.Session(f), by: w.by, name: f.String()}
}

type watchedSession struct {
	sync.Session
	by     *testRemote
	name   string
	failed uint64 // the last number of a push that failed
}

func (w *watchedSession) At() sync.Position { return w.Session.(sync.Ahead).At() }

func (w *watchedSession) Position(ctx context.Context) (sync.Position, error) {
	at, err := w.Session.Position(ctx)
	if err == nil && w.failed != 0 {
		if at.Last == w.failed {
			w.by.mu.Lock()
			w.by.lost++
			w.by.mu.Unlock()
		}
		w.failed = 0
	}
	return at, err
}

func (w *watchedSession) Push(ctx context.Context, b *sync.Batch) error {
	return w.PushAhead(ctx, b, nil)
}

func (w *watchedSession) PushAhead(ctx context.Context, b *sync.Batch, next func() *sync.Batch) error {
	err := w.Session.(sync.Ahead).PushAhead(ctx, b, next)
	w.by.mu.Lock()
	defer w.by.mu.Unlock()
	w.by.tried++
	if err != nil {
		w.failed = b.Last
	} else {
		w.by.pushes = append(w.by.pushes, fmt.Sprintf("%s %d", w.name, len(b.Entries)))
	}
	return err
}

func lanes(l ...*store.Lane) []*store.Lane { return l }

// within returns a context that ends when patience does.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
