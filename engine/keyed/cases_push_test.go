package keyed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edged/edged/engine/keyed"
)

// The cases of engine/DESIGN.md, by their numbers. These are about how a change
// gets to the hub.

// onHubs runs a case on a hub of one server, and on one of three.
func onHubs(t *testing.T, run func(t *testing.T, h *testHub)) {
	t.Run("one replica", func(t *testing.T) { run(t, startHub(t, t.TempDir())) })
	t.Run("three replicas", func(t *testing.T) { run(t, startCluster(t)) })
}

// losing loses the answers to the next n swaps, and calls then after each.
func losing(n int64, then func()) func(keyed.Hub) keyed.Hub {
	var left atomic.Int64
	left.Store(n)
	return func(h keyed.Hub) keyed.Hub {
		return &lossy{Hub: h, lose: func() bool {
			if left.Add(-1) < 0 {
				return false
			}
			if then != nil {
				then()
			}
			return true
		}}
	}
}

func TestCase01LostAnswer(t *testing.T) {
	onHubs(t, func(t *testing.T, h *testHub) {
		e := startEdge(t, "a", edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{sums()}, wrap: losing(1, nil)}).run()
		e.put("n", "1")
		quiesced(t, h, e)
		if s := e.store.Status(); s.Recovered != 1 || s.Resolved != 0 || len(e.journal()) != 0 {
			t.Errorf("status %+v, journal %v", s, e.journal())
		}
		if n := h.revisions(); n != 1 {
			t.Errorf("%d revisions", n)
		}
	})
}

func TestCase02LostAnswerThenOverwritten(t *testing.T) {
	onHubs(t, func(t *testing.T, h *testHub) {
		var a *testEdge
		a = startEdge(t, "a", edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{sums()}, wrap: losing(1, func() { a.cut() })})
		a.run()
		b := startEdge(t, "b", edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{sums()}}).run()
		a.put("n", "1")
		eventually(t, "b sees it", func() bool { return b.get("n") == "1" })
		b.put("n", "5")
		b.drained()
		a.mend()
		quiesced(t, h, a, b)
		equal(t, h, []*testEdge{a, b}, "n")
		if got := a.get("n"); got != "5" || a.store.Status().Recovered != 1 || len(a.journal()) != 0 {
			t.Errorf("n is %s, %+v, journal %v", got, a.store.Status(), a.journal())
		}
		if n := h.revisions(); n != 2 {
			t.Errorf("%d revisions", n)
		}
	})
}

// recorder remembers what was sent.
type recorder struct {
	keyed.Hub
	mu   sync.Mutex
	sent []swap
}

type swap struct {
	key    string
	value  *keyed.Value
	expect uint64
}

func (r *recorder) Swap(ctx context.Context, key string, v *keyed.Value, expect uint64) (uint64, error) {
	r.mu.Lock()
	r.sent = append(r.sent, swap{key, v, expect})
	r.mu.Unlock()
	return r.Hub.Swap(ctx, key, v, expect)
}

func TestCase03LateDuplicates(t *testing.T) {
	h := startHub(t, t.TempDir())
	var rec *recorder
	a := startEdge(t, "a", edgeOptions{leaf: h.leaf, wrap: func(hub keyed.Hub) keyed.Hub { rec = &recorder{Hub: hub}; return rec }}).run()
	for i := range 5 {
		a.put("k", fmt.Sprint(i))
		a.put("gone", fmt.Sprint(i))
		a.drained()
	}
	a.delete("gone")
	quiesced(t, h, a)
	last := h.revisions()
	again := func() {
		late := keyed.NewNATSHub(h.nc, "", "s")
		rand.Shuffle(len(rec.sent), func(i, j int) { rec.sent[i], rec.sent[j] = rec.sent[j], rec.sent[i] })
		for _, s := range rec.sent {
			if _, err := late.Swap(within(t), s.key, s.value, s.expect); !errors.Is(err, keyed.ErrMoved) {
				t.Errorf("%s at %d: %v", s.value.Body, s.expect, err)
			}
		}
	}
	again()
	h.close()
	h.start()
	again()
	if v := h.value("k"); string(v.Body) != "4" || h.revisions() != last {
		t.Errorf("the hub has %s, revision %d, want 4, %d", v.Body, h.revisions(), last)
	}
	if v := h.value("gone"); !v.Deleted {
		t.Errorf("it has risen: %s", v.Body)
	}
}

// crashing ends the process, as far as the store is concerned, at the nth point
// at which it deals with the hub.
type crashing struct {
	keyed.Hub
	at    *atomic.Int64
	crash func()
}

func (c *crashing) point(ctx context.Context) error {
	if c.at.Add(-1) != 0 {
		return nil
	}
	c.crash()
	<-ctx.Done()
	return ctx.Err()
}

func (c *crashing) Swap(ctx context.Context, key string, v *keyed.Value, expect uint64) (uint64, error) {
	if err := c.point(ctx); err != nil {
		return 0, err
	}
	revision, err := c.Hub.Swap(ctx, key, v, expect)
	return revision, errors.Join(err, c.point(ctx))
}

func (c *crashing) Read(ctx context.Context, key string) (*keyed.Remote, error) {
	if err := c.point(ctx); err != nil {
		return nil, err
	}
	r, err := c.Hub.Read(ctx, key)
	return r, errors.Join(err, c.point(ctx))
}

func TestCase04CrashAtEveryStep(t *testing.T) {
	h := startHub(t, t.TempDir())
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{appends()}}
	b := startEdge(t, "b", o).run()
	var at atomic.Int64
	crashed := make(chan struct{}, 1)
	var a *testEdge
	o.wrap = func(hub keyed.Hub) keyed.Hub {
		return &crashing{Hub: hub, at: &at, crash: func() {
			a.nc.Close() // nothing is stored any more
			crashed <- struct{}{}
		}}
	}
	a = startEdge(t, "a", o).run()
	steps := 0
	for n := int64(1); ; n++ {
		key := fmt.Sprintf("k%d", n)
		a.put(key, `["base"]`)
		quiesced(t, h, a, b)
		a.cut()
		a.put(key, `["base","a"]`)
		b.put(key, `["base","b"]`)
		b.drained()
		at.Store(n)
		a.mend()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for at.Load() > 0 && a.store.Status().Pending > 0 {
				a.store.Status()
			}
		}()
		<-done
		if at.Load() > 0 { // fewer points than that
			break
		}
		<-crashed
		steps++
		a.reopen()
		a.put(key+"-after", "1") // it goes on as if nothing had been
		a.run()
		quiesced(t, h, a, b)
		equal(t, h, []*testEdge{a, b}, key, key+"-after")
		got := words([]byte(a.get(key)))
		slices.Sort(got)
		if !slices.Equal(got, []string{"a", "b", "base"}) {
			t.Errorf("after a crash at point %d: %v", n, got)
		}
	}
	if steps < 4 {
		t.Errorf("only %d points to crash at", steps)
	}
}

func TestCase11HotKey(t *testing.T) {
	h := startHub(t, t.TempDir())
	for edges, times := range map[int]int{2: 10, 16: 3, 64: 1} {
		t.Run(fmt.Sprint(edges), func(t *testing.T) {
			hot(t, h, edges, times)
		})
	}
}

// hot has many devices, which share one broker, add to one key.
func hot(t *testing.T, h *testHub, devices, times int) {
	e := startEdge(t, fmt.Sprintf("hot%d", devices), edgeOptions{leaf: h.leaf})
	var stores []keyed.Options
	for i := range devices {
		stores = append(stores, keyed.Options{
			Name: fmt.Sprint(i), Device: fmt.Sprintf("d%d", i), Chain: func(string) []keyed.Resolver { return []keyed.Resolver{sums()} },
		})
	}
	if err := e.stores.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.stores, err = keyed.Open(within(t), e.nc, 256<<20, nil, stores); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the link stands", func() bool { up, _ := e.broker.LinkState("hub"); return up })
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer func() { cancel(); all.Wait() }()
	key := fmt.Sprintf("hot%d", devices)
	for _, o := range stores {
		y := keyed.NewSync(keyed.SyncOptions{Store: e.stores.Store(o.Name), Hub: keyed.NewNATSHub(e.link, "hub", "shared")})
		all.Go(func() { y.Run(ctx) })
	}
	for range times {
		for _, o := range stores {
			one := &testEdge{t: t, id: o.Device, store: e.stores.Store(o.Name), opts: e.opts}
			one.add(key, 1)
		}
	}
	want := fmt.Sprint(devices * times)
	eventually(t, "every edge has the sum "+want, func() bool {
		for _, o := range stores {
			one := &testEdge{t: t, id: o.Device, store: e.stores.Store(o.Name), opts: e.opts}
			if s := one.store.Status(); s.Pending > 0 || one.get(key) != want {
				return false
			}
		}
		return true
	})
	for _, o := range stores {
		if s := e.stores.Store(o.Name).Status(); s.Retries > uint64(40*times) {
			t.Errorf("device %s tried %d times", o.Device, s.Retries)
		}
	}
}

func TestCase16PoisonFirst(t *testing.T) {
	h := startHub(t, t.TempDir())
	e := startEdge(t, "a", edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{latestWins()}})
	if _, err := h.bucket().Put(within(t), "s.poison", []byte(`{"not": JSON`)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.bucket().Put(within(t), "s.clean-poison", []byte(`NaN`)); err != nil {
		t.Fatal(err)
	}
	e.put("poison", "1")
	for i := range 50 {
		e.put(fmt.Sprintf("z%d", i), "1")
	}
	e.run()
	eventually(t, "the others are through", func() bool { return e.store.Status().Pending == 1 })
	eventually(t, "both are parked", func() bool { return e.store.Status().Parked == 2 })
	if _, err := h.bucket().Put(within(t), "s.poison", []byte(`2`)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.bucket().Put(within(t), "s.clean-poison", []byte(`3`)); err != nil {
		t.Fatal(err)
	}
	quiesced(t, h, e)
	equal(t, h, []*testEdge{e}, "poison", "clean-poison", "z49")
	if s := e.store.Status(); s.Parked != 0 {
		t.Errorf("%+v", s)
	}
}
