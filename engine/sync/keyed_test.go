package sync_test

import (
	"context"
	"encoding/json"
	"fmt"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// keep opens keyed stores of the edge and syncs them over its link until the test
// ends, or stop is called.
func (e *testEdge) keep(rate *sync.Rate, monitor *sync.Monitor, stores ...keyed.Options) (all *keyed.Stores, stop func()) {
	e.t.Helper()
	link, err := e.broker.ConnectLink("hub")
	if err != nil {
		e.t.Fatal(err)
	}
	for i := range stores {
		stores[i].Device, stores[i].Chain = e.id, func(string) []keyed.Resolver { return nil }
	}
	all, err = keyed.Open(e.t.Context(), e.nc, 1<<26, nil, stores)
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running gosync.WaitGroup
	for i := range stores {
		y := keyed.NewSync(keyed.SyncOptions{
			Store: all.Store(stores[i].Name), Hub: rate.Keyed(keyed.NewNATSHub(link, "hub", stores[i].Name)), WaitUp: monitor.WaitUp,
		})
		running.Go(func() { y.Run(ctx) })
	}
	stop = gosync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := all.Close(context.Background()); err != nil {
			e.t.Error(err)
		}
		link.Close()
	})
	e.t.Cleanup(stop)
	return all, stop
}

// eventually waits for what no sender makes.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("in vain waited until %s", what)
		}
	}
}

// TestKeyedCredentials syncs keyed records with a user who may do the least that
// is needed for these stores, and holds that it may write no other.
func TestKeyedCredentials(t *testing.T) {
	t.Parallel()
	o := startOperator(t, "")
	h := natsHub(t, o.server, nats.UserCredentials(o.credentials(nil)))
	p := sync.EdgePermissions("edge 1", "hub", false, "set tings", "orders")
	creds := o.credentials(&p)
	e := startEdge(t, "edge 1", t.TempDir(), broker.Link{Name: "hub", URLs: []string{"nats-leaf://" + leafAddr(t, o.server)}, Credentials: creds})
	r := e.prepare(remoteOptions{}).run()
	stores, _ := e.keep(nil, r.monitor, keyed.Options{Name: "set tings"}, keyed.Options{Name: "orders", Interest: keyed.Interest{"a/*", "b/>"}})
	kv, err := h.js.KeyValue(within(t), keyed.HubBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"set tings", "orders"} {
		store := stores.Store(name)
		if _, err := store.Put(within(t), "a/x", []byte(`{"n":1}`), keyed.Condition{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the value of "+name+" is at the hub", func() bool { return store.Status().Pushed == 1 && store.Status().Pending == 0 })
		if _, err := kv.Put(within(t), record.Token(name)+".a.x", []byte(`{"n":2}`)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the edge has what the hub changed of "+name, func() bool {
			got, err := store.Get(within(t), "a/x")
			return err == nil && string(got.Body) == `{"n":2}`
		})
		// A conflict asks for the newest value, and one without an envelope for those before.
		if _, err := store.Put(within(t), "a/x", []byte(`{"n":3}`), keyed.Condition{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the newer value of "+name+" is at the hub", func() bool { return store.Status().Pushed == 2 && store.Status().Pending == 0 })
	}
	edges, err := h.js.KeyValue(within(t), keyed.EdgesBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"set tings", "orders"} {
		eventually(t, name+" is registered", func() bool {
			_, err := edges.Get(within(t), "edge."+record.Token(name)+"."+record.Token("edge 1"))
			return err == nil
		})
	}
	o.keepsOut(creds,
		"$JS.hub.API.$KV."+keyed.HubBucket+".other.a", "$JS.hub.API.$KV."+keyed.EdgesBucket+".edge.orders.edge-2",
		"$JS.hub.API.$KV."+keyed.EdgesBucket+".collected.orders", "$JS.hub.API.STREAM.PURGE.KV_"+keyed.HubBucket)
}

// TestKeyedRecordsKeepToTheRate pushes values by a clock that the test moves: it
// has to move for as long as their bytes take, and alarms go all the while.
func TestKeyedRecordsKeepToTheRate(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	e := startEdge(t, "edge", t.TempDir(), broker.Link{Name: "hub", URLs: []string{h.h.LeafURL()}})
	const perSecond, keys, size = 16 << 10, 100, 1 << 10
	begun := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	var moved atomic.Int64
	rate := sync.NewRate(perSecond, func() time.Time { return begun.Add(time.Duration(moved.Load())) })
	r := e.prepare(remoteOptions{rate: rate}).run()
	stores, _ := e.keep(rate, r.monitor, keyed.Options{Name: "s"})
	store := stores.Store("s")
	value, err := json.Marshal(fmt.Sprintf("%0*d", size, 0))
	if err != nil {
		t.Fatal(err)
	}
	items := make([]keyed.Item, keys)
	for i := range items {
		items[i] = keyed.Item{Key: fmt.Sprintf("k%d", i), Body: value}
	}
	if _, err := store.PutAll(within(t), items, keyed.Source{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bucket is empty", func() bool { return store.Status().Pushed > 0 })
	e.message(record.Critical, "p", 1)
	r.until("an alarm goes before the values that wait", r.drained)
	if n := store.Status().Pushed; n > uint64(rate.Chunk()/size) {
		t.Errorf("%d values of %d bytes went with a bucket of %d", n, size, rate.Chunk())
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); store.Status().Pushed < keys; <-tick.C {
		moved.Add(int64(10 * time.Millisecond))
		if time.Now().After(end) {
			t.Fatalf("only %d are at the hub", store.Status().Pushed)
		}
	}
	least := time.Duration(keys*size-rate.Chunk()) * time.Second / perSecond
	if took := time.Duration(moved.Load()); took < least {
		t.Errorf("it took %v, want %v at least", took, least)
	}
}
