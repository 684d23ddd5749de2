package keyed_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/keyed"
)

// checks is how many random runs a property test has unless -rapid.checks says.
const checks = "20"

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait; a wait that works takes milliseconds.
const patience = 2 * time.Minute

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("in vain waited until %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// testHub is a real hub and an independent client of it.
type testHub struct {
	t    testing.TB
	h    *hub.Hub
	dir  string
	nc   *nats.Conn
	js   jetstream.JetStream
	leaf string
}

func startHub(t testing.TB, dir string) *testHub {
	t.Helper()
	h := &testHub{t: t, dir: dir, leaf: "nats-leaf://127.0.0.1:0"}
	h.start()
	t.Cleanup(h.close)
	return h
}

// start starts the hub on its directory, at the address it had before.
func (h *testHub) start() {
	h.t.Helper()
	var err error
	h.h, err = hub.Start(context.Background(), hub.Options{
		LeafListen: strings.TrimPrefix(h.leaf, "nats-leaf://"), ClientListen: "127.0.0.1:0", DataDir: h.dir,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.leaf = h.h.LeafURL()
	h.connect(h.h.ClientURL())
}

func (h *testHub) connect(url string) {
	h.t.Helper()
	var err error
	if h.nc, err = nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond)); err != nil {
		h.t.Fatal(err)
	}
	if h.js, err = jetstream.New(h.nc); err != nil {
		h.t.Fatal(err)
	}
}

func (h *testHub) close() {
	if h.nc != nil {
		h.nc.Close()
	}
	if h.h != nil {
		if err := h.h.Close(); err != nil {
			h.t.Error(err)
		}
	}
	h.nc, h.h = nil, nil
}

// bucket is what any NATS client sees.
func (h *testHub) bucket() jetstream.KeyValue {
	h.t.Helper()
	kv, err := h.js.KeyValue(within(h.t), keyed.HubBucket)
	if err != nil {
		h.t.Fatal(err)
	}
	return kv
}

// revisions is how many writes the hub has taken.
func (h *testHub) revisions() uint64 {
	h.t.Helper()
	s, err := h.js.Stream(within(h.t), "KV_"+keyed.HubBucket)
	if err != nil {
		h.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// value is what the hub has of a key; nil: nothing.
func (h *testHub) value(key string) *keyed.Value {
	h.t.Helper()
	r, err := keyed.NewNATSHub(h.nc, "", "s").Read(within(h.t), key)
	if err != nil {
		h.t.Fatal(err)
	}
	if r == nil {
		return nil
	}
	if r.Err != nil {
		h.t.Fatal(r.Err)
	}
	return r.Value
}

// testEdge is the keyed store of one edge on a broker of its own, with a leaf
// node to the hub.
type testEdge struct {
	t    testing.TB
	id   string
	dir  string
	opts edgeOptions

	broker *broker.Broker
	nc     *nats.Conn
	link   *nats.Conn
	stores *keyed.Stores
	store  *keyed.Store
	sync   *keyed.Sync
	stop   func()
	online switchboard

	watching sync.WaitGroup
}

type edgeOptions struct {
	leaf     string
	name     string // of the store; "s"
	chain    []keyed.Resolver
	onDelete keyed.OnDelete
	interest keyed.Interest
	schema   uint64
	now      func() time.Time
	skew     time.Duration
	maxBytes int64
	wrap     func(keyed.Hub) keyed.Hub
	sync     keyed.SyncOptions
	journal  int
	counter  string // how add writes a number; "%d"
}

func startEdge(t testing.TB, id string, o edgeOptions) *testEdge {
	t.Helper()
	o.name, o.counter = cmp.Or(o.name, "s"), cmp.Or(o.counter, "%d")
	e := &testEdge{t: t, id: id, dir: t.TempDir(), opts: o}
	e.online.set(true)
	e.open()
	t.Cleanup(e.close)
	return e
}

// open starts the broker and opens the store; the sync begins with run.
func (e *testEdge) open() {
	e.t.Helper()
	var err error
	if e.broker, err = broker.Start(context.Background(), broker.Options{
		Name: "edge-" + e.id, Domain: "edge-" + e.id, Dir: filepath.Join(e.dir, "jetstream"), PingInterval: time.Second,
		Links: []broker.Link{{Name: "hub", URLs: []string{e.opts.leaf}}},
	}); err != nil {
		e.t.Fatal(err)
	}
	if e.nc, err = e.broker.Connect("test"); err != nil {
		e.t.Fatal(err)
	}
	if e.link, err = e.broker.ConnectLink("hub"); err != nil {
		e.t.Fatal(err)
	}
	e.openStore()
}

func (e *testEdge) openStore() {
	e.t.Helper()
	if e.opts.maxBytes == 0 {
		e.opts.maxBytes = 256 << 20
	}
	var err error
	if e.stores, err = keyed.Open(context.Background(), e.nc, e.opts.maxBytes, nil, []keyed.Options{e.options()}); err != nil {
		e.t.Fatal(err)
	}
	e.store = e.stores.Store(e.opts.name)
}

// options are those of its store.
func (e *testEdge) options() keyed.Options {
	o := keyed.Options{
		Name: e.opts.name, Device: e.id, Schema: e.opts.schema, Interest: e.opts.interest, Now: e.opts.now, Skew: e.opts.skew,
		Chain: func(string) []keyed.Resolver { return e.opts.chain }, JournalEntries: e.opts.journal,
	}
	if e.opts.onDelete != "" {
		o.OnDelete = func(string) keyed.OnDelete { return e.opts.onDelete }
	}
	return o
}

// hub is the edge's way to the hub.
func (e *testEdge) hub() keyed.Hub {
	var h keyed.Hub = keyed.NewNATSHub(e.link, "hub", e.opts.name)
	if e.opts.wrap != nil {
		h = e.opts.wrap(h)
	}
	return h
}

// run starts to sync; offline and online cut and mend it.
func (e *testEdge) run() *testEdge {
	e.t.Helper()
	o := e.opts.sync
	o.Store, o.Hub, o.WaitUp = e.store, e.hub(), e.waitUp
	if o.Backoff == nil {
		o.Backoff = func(n int) time.Duration { return time.Duration(min(n+1, 10)) * time.Millisecond }
	}
	e.sync = keyed.NewSync(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.sync.Run(ctx)
	}()
	e.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		e.watching.Wait()
	})
	return e
}

func (e *testEdge) waitUp(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for ctx.Err() == nil { // until the connection stands, and is not cut meanwhile
		up, cancel, err := e.online.wait(ctx)
		if err != nil {
			return nil, nil, err
		}
		for up.Err() == nil {
			if ok, _ := e.broker.LinkState("hub"); ok {
				e.watching.Go(func() { e.watch(up, cancel) })
				return up, cancel, nil
			}
			select {
			case <-time.After(2 * time.Millisecond):
			case <-up.Done():
			}
		}
		cancel()
	}
	return nil, nil, ctx.Err()
}

// watch ends a session when the leaf connection is lost, as a monitor does.
func (e *testEdge) watch(up context.Context, cancel func()) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, _ := e.broker.LinkState("hub"); !ok {
			cancel()
			return
		}
		select {
		case <-tick.C:
		case <-up.Done():
			return
		}
	}
}

func (e *testEdge) cut()  { e.online.set(false) }
func (e *testEdge) mend() { e.online.set(true) }

func (e *testEdge) pause() {
	if e.stop != nil {
		e.stop()
		e.stop = nil
	}
}

func (e *testEdge) close() {
	e.pause()
	if e.broker == nil {
		return
	}
	if err := e.stores.Close(context.Background()); err != nil {
		e.t.Error(err)
	}
	e.nc.Close()
	e.link.Close()
	if err := e.broker.Close(); err != nil {
		e.t.Error(err)
	}
	e.broker = nil
}

// restart is a process that ends and begins anew on the same disk.
func (e *testEdge) restart() *testEdge {
	e.t.Helper()
	e.close()
	e.open()
	return e.run()
}

func (e *testEdge) put(key, body string) keyed.Entry {
	e.t.Helper()
	entry, err := e.store.Put(within(e.t), key, []byte(body), keyed.Condition{})
	if err != nil {
		e.t.Fatalf("%s: putting %s: %v", e.id, key, err)
	}
	return entry
}

func (e *testEdge) delete(key string) {
	e.t.Helper()
	if err := e.store.Delete(within(e.t), key, keyed.Condition{}); err != nil {
		e.t.Fatalf("%s: deleting %s: %v", e.id, key, err)
	}
}

// get is what readers get of a key; "": nothing.
func (e *testEdge) get(key string) string {
	e.t.Helper()
	entry, err := e.store.Get(within(e.t), key)
	if errors.Is(err, keyed.ErrNotFound) {
		return ""
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return string(entry.Body)
}

func (e *testEdge) journal() []keyed.JournalEntry {
	e.t.Helper()
	list, err := e.store.Journal(within(e.t), 0, 1<<20)
	if err != nil {
		e.t.Fatal(err)
	}
	return list
}

// drained waits until nothing is pending.
func (e *testEdge) drained() {
	e.t.Helper()
	eventually(e.t, e.id+" has nothing pending", func() bool {
		s := e.store.Status()
		return s.Pending == s.Conflicts
	})
}

// quiesced waits until nothing is pending anywhere and every edge has seen all.
func quiesced(t testing.TB, h *testHub, edges ...*testEdge) {
	t.Helper()
	quiet := func() bool {
		for _, e := range edges {
			if s := e.store.Status(); s.Pending > 0 {
				return false
			}
		}
		last := h.revisions()
		for _, e := range edges {
			if s := e.store.Status(); s.Pending > 0 || s.Position.Revision < last {
				return false
			}
		}
		return h.revisions() == last
	}
	for end := time.Now().Add(patience); !quiet(); {
		if time.Now().After(end) {
			for _, e := range edges {
				caughtUp, err := e.sync.State()
				list, _ := e.store.List(t.Context(), "", "", 5)
				t.Logf("%s: %+v, caught up %v, error %v, %+v", e.id, e.store.Status(), caughtUp, err, list)
			}
			t.Fatalf("in vain waited until everything is equal; the hub is at %d", h.revisions())
		}
		<-time.After(2 * time.Millisecond)
	}
}

// equal holds every edge against the hub.
func equal(t testing.TB, h *testHub, edges []*testEdge, keys ...string) {
	t.Helper()
	for _, key := range keys {
		want := ""
		if v := h.value(key); v != nil && !v.Deleted {
			want = string(v.Body)
		}
		for _, e := range edges {
			if got := e.get(key); got != want {
				t.Errorf("%s has %s = %s, the hub %s", e.id, key, got, want)
			}
		}
	}
}

// switchboard is a connection that can be cut.
type switchboard struct {
	mu      sync.Mutex
	up      context.Context
	down    context.CancelFunc
	changed chan struct{}
}

func (s *switchboard) set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
	switch {
	case on && (s.up == nil || s.up.Err() != nil):
		s.up, s.down = context.WithCancel(context.Background())
	case !on && s.up != nil:
		s.down()
	}
}

func (s *switchboard) wait(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for {
		s.mu.Lock()
		up, changed := s.up, s.changed
		s.mu.Unlock()
		if up.Err() == nil {
			ctx, cancel := context.WithCancel(ctx)
			stop := context.AfterFunc(up, cancel)
			return ctx, func() { stop(); cancel() }, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// goResolver is a resolver in Go, for tests that are not about modules.
type goResolver struct {
	id     keyed.ResolverID
	bodies bool
	decide func(keyed.Conflict) keyed.Verdict
	calls  atomic.Int64
}

func (r *goResolver) ID() keyed.ResolverID { return r.id }
func (r *goResolver) ReadsBodies() bool    { return r.bodies }

func (r *goResolver) Resolve(_ context.Context, in []keyed.Conflict) ([]keyed.Verdict, error) {
	var out []keyed.Verdict
	for _, c := range in {
		r.calls.Add(1)
		out = append(out, r.decide(c))
	}
	return out, nil
}

func named(name string, bodies bool, decide func(keyed.Conflict) keyed.Verdict) *goResolver {
	return &goResolver{id: keyed.ResolverID{Name: name, SHA256: name + "-sha"}, bodies: bodies, decide: decide}
}

func latestWins() *goResolver {
	return named("latest_wins", false, func(c keyed.Conflict) keyed.Verdict {
		l, r := c.Local, c.Remote
		order := l.HLC.Compare(r.HLC)
		if order == 0 {
			order = strings.Compare(l.Device, r.Device)
		}
		if order > 0 && l.Clock != keyed.Unknown && r.Clock != keyed.Unknown {
			return keyed.Verdict{Action: keyed.TakeLocal}
		}
		return keyed.Verdict{Action: keyed.TakeRemote}
	})
}

// sums adds up what both sides added to numbers.
func sums() *goResolver {
	return named("sums", true, func(c keyed.Conflict) keyed.Verdict {
		base := 0
		if c.Base != nil && !c.Base.Deleted {
			base = number(c.Base.Body)
		}
		return keyed.Verdict{Action: keyed.TakeMerged, Body: fmt.Append(nil, number(c.Remote.Body)+number(c.Local.Body)-base)}
	})
}

func number(body []byte) int {
	var n int
	if err := json.Unmarshal(body, &n); err != nil {
		return -1 << 40
	}
	return n
}

// lossy loses answers of a hub: what was asked was done, and nobody says so.
type lossy struct {
	keyed.Hub
	lose func() bool
}

var errLost = errors.New("the answer was lost")

func (l *lossy) Swap(ctx context.Context, key string, v *keyed.Value, expect uint64) (uint64, error) {
	revision, err := l.Hub.Swap(ctx, key, v, expect)
	if err == nil && l.lose() {
		return 0, errLost
	}
	return revision, err
}

// refusing is a hub that takes nothing, while it is told to.
type refusing struct {
	keyed.Hub
	refuse *bool
}

func (r *refusing) Swap(ctx context.Context, key string, v *keyed.Value, expect uint64) (uint64, error) {
	if *r.refuse {
		return 0, errLost
	}
	return r.Hub.Swap(ctx, key, v, expect)
}
