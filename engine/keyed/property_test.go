package keyed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/edged/edged/engine/keyed"
)

// appends brings what was appended to an array on either side together, and
// repeats what is included twice: nothing is hidden.
func appends() *goResolver {
	return named("appends", true, func(c keyed.Conflict) keyed.Verdict {
		var base []string
		if c.Base != nil && !c.Base.Deleted {
			base = words(c.Base.Body)
		}
		merged := words(c.Remote.Body)
		for _, w := range words(c.Local.Body) {
			if i := slices.Index(base, w); i >= 0 {
				base = slices.Delete(slices.Clone(base), i, i+1)
				continue
			}
			merged = append(merged, w)
		}
		body, err := json.Marshal(merged)
		if err != nil {
			return keyed.Verdict{Action: keyed.Faulted, Reason: err.Error()}
		}
		return keyed.Verdict{Action: keyed.TakeMerged, Body: body}
	})
}

func words(body []byte) []string {
	var list []string
	if json.Unmarshal(body, &list) != nil {
		return nil
	}
	return list
}

// fleet is the edges of a property test: their brokers stay, each run has a
// store of its own.
type fleet struct {
	t     *testing.T
	hub   *testHub
	edges []*testEdge
	runs  int
}

func startFleet(t *testing.T, h *testHub, n int) *fleet {
	f := &fleet{t: t, hub: h}
	for i := range n {
		e := startEdge(t, fmt.Sprintf("e%d", i), edgeOptions{leaf: h.leaf, maxBytes: 64 << 20})
		f.edges = append(f.edges, e)
	}
	return f
}

// chaos is what happens to a run of a fleet.
type chaos struct {
	*fleet
	r     *rapid.T
	name  string
	edges []*testEdge
	calm  atomic.Bool   // no answer is lost any more
	swaps atomic.Uint64 // that the hub took
	ops   uint64        // that were acknowledged
	puts  int           // named by it
	taken []string      // ids that were acknowledged
}

// swapping counts what the hub takes, and loses answers.
type swapping struct {
	keyed.Hub
	c *chaos
}

func (s *swapping) Swap(ctx context.Context, key string, v *keyed.Value, expect uint64) (uint64, error) {
	if !s.c.calm.Load() && rand.IntN(10) == 0 {
		return 0, errLost // the question was
	}
	revision, err := s.Hub.Swap(context.WithoutCancel(ctx), key, v, expect)
	if err == nil {
		s.c.swaps.Add(1)
		if !s.c.calm.Load() && rand.IntN(5) == 0 {
			return 0, errLost
		}
	}
	return revision, err
}

func (f *fleet) run(r *rapid.T, n int, chain []keyed.Resolver, policy keyed.OnDelete) *chaos {
	f.t.Helper()
	f.runs++
	c := &chaos{fleet: f, r: r, name: fmt.Sprintf("run%d", f.runs), edges: f.edges[:n]}
	for _, e := range c.edges {
		e.opts.name, e.opts.chain, e.opts.onDelete = c.name, chain, policy
		e.opts.wrap = func(h keyed.Hub) keyed.Hub { return &swapping{h, c} }
		e.reopen()
		e.mend()
		e.run()
	}
	return c
}

// reopen opens the edge's store anew, as after a crash of its process: what was
// under way ends anywhere.
func (e *testEdge) reopen() {
	e.t.Helper()
	e.nc.Close()
	e.pause()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.stores.Close(ctx); err != nil {
		e.t.Fatal(err)
	}
	var err error
	if e.nc, err = e.broker.Connect("test"); err != nil {
		e.t.Fatal(err)
	}
	e.openStore()
}

// append adds a name to the array of a key, here.
func (c *chaos) append(e *testEdge, key string) {
	id := fmt.Sprintf("%s-%d", e.id, c.puts)
	c.puts++
	var list []string
	at, err := e.store.Get(within(c.t), key)
	cond := keyed.Condition{Match: at.ETag}
	switch {
	case errors.Is(err, keyed.ErrNotFound):
		cond = keyed.Condition{NoneMatch: "*"}
	case err != nil:
		c.t.Fatal(err)
	default:
		list = words(at.Body)
	}
	body, err := json.Marshal(append(list, id))
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = e.store.Put(within(c.t), key, body, cond)
	switch {
	case err == nil:
		c.ops++
		c.taken = append(c.taken, key+" "+id)
	case !errors.Is(err, keyed.ErrPrecondition): // pulled meanwhile
		c.t.Fatal(err)
	}
}

// appendAtHub is a program at the hub that knows nothing of envelopes but that
// the value is in one.
func (c *chaos) appendAtHub(key string) {
	kv := c.hub.bucket()
	id := fmt.Sprintf("hub-%d", c.puts)
	c.puts++
	var list []string
	revision := uint64(0)
	at, err := kv.Get(within(c.t), c.name+"."+key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		c.t.Fatal(err)
	default:
		v, err := keyed.Decode(at.Value(), at.Created())
		if err != nil {
			c.t.Fatal(err)
		}
		list, revision = words(v.Body), at.Revision()
	}
	body, err := json.Marshal(append(list, id))
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := kv.Update(within(c.t), c.name+"."+key, body, revision); err == nil {
		c.ops++
		c.swaps.Add(1)
		c.taken = append(c.taken, key+" "+id)
	}
}

// quiesce mends everything, waits until nothing is under way, and holds what must
// hold then.
func (c *chaos) quiesce(keys []string) {
	c.t.Helper()
	c.calm.Store(true)
	for _, e := range c.edges {
		e.mend()
	}
	defer func() {
		for _, e := range c.edges {
			e.pause()
		}
	}()
	quiesced(c.t, c.hub, c.edges...)
	reader := keyed.NewNATSHub(c.hub.nc, "", c.name)
	conflicts := uint64(0)
	for _, e := range c.edges {
		conflicts += uint64(len(e.journal()))
	}
	if swaps := c.swaps.Load(); swaps > c.ops+conflicts {
		c.r.Errorf("%d revisions at the hub for %d operations and %d conflicts", swaps, c.ops, conflicts)
	}
	for _, key := range keys {
		want := ""
		r, err := reader.Read(within(c.t), key)
		if err != nil {
			c.t.Fatal(err)
		}
		if r != nil && !r.Value.Deleted {
			want = string(r.Value.Body)
		}
		for _, e := range c.edges {
			if got := e.get(key); got != want {
				c.r.Errorf("%s has %s = %s, the hub %s", e.id, key, got, want)
			}
		}
	}
}

// included holds that every acknowledged name is there once, and nothing else.
func (c *chaos) included(keys []string) {
	c.t.Helper()
	var have []string
	for _, key := range keys {
		for _, w := range words([]byte(c.edges[0].get(key))) {
			have = append(have, key+" "+w)
		}
	}
	slices.Sort(have)
	slices.Sort(c.taken)
	if !slices.Equal(have, c.taken) {
		c.r.Errorf("acknowledged %v\nincluded     %v", c.taken, have)
	}
}

// TestEveryOperationOnce lets anything happen between edges that append names to
// arrays, and holds at the end that each acknowledged one is there exactly once.
func TestEveryOperationOnce(t *testing.T) {
	f := startFleet(t, startHub(t, t.TempDir()), 5)
	keys := []string{"a", "b"}
	rapid.Check(t, func(r *rapid.T) {
		c := f.run(r, rapid.IntRange(2, 5).Draw(r, "edges"), []keyed.Resolver{appends()}, keyed.UpdateWins)
		for range rapid.IntRange(5, 30).Draw(r, "steps") {
			e := c.edges[rapid.IntRange(0, len(c.edges)-1).Draw(r, "edge")]
			key := rapid.SampledFrom(keys).Draw(r, "key")
			switch rapid.SampledFrom([]string{"append", "append", "append", "append", "cut", "mend", "crash", "drain", "hub"}).Draw(r, "step") {
			case "append":
				c.append(e, key)
			case "cut":
				e.cut()
			case "mend":
				e.mend()
			case "crash":
				e.reopen()
				e.run()
			case "drain":
				e.mend()
				e.drained()
			case "hub":
				c.appendAtHub(key)
			}
		}
		c.quiesce(keys)
		c.included(keys)
	})
}

// TestAnyEditsConverge adds deletes, equal values, and resolvers that disagree:
// whatever they decide, all end alike.
func TestAnyEditsConverge(t *testing.T) {
	f := startFleet(t, startHub(t, t.TempDir()), 5)
	keys := []string{"a", "b", "c"}
	coin := named("coin", true, func(c keyed.Conflict) keyed.Verdict { // not a function of the conflict
		switch rand.IntN(4) {
		case 0:
			return keyed.Verdict{Action: keyed.TakeLocal}
		case 1:
			return keyed.Verdict{Action: keyed.TakeMerged, Body: fmt.Append(nil, rand.IntN(3))}
		case 2:
			return keyed.Verdict{Action: keyed.TakeDelete}
		}
		return keyed.Verdict{Action: keyed.TakeRemote}
	})
	rapid.Check(t, func(r *rapid.T) {
		chain := []keyed.Resolver{rapid.SampledFrom([]keyed.Resolver{coin, latestWins(), appends()}).Draw(r, "resolver")}
		policy := rapid.SampledFrom([]keyed.OnDelete{keyed.UpdateWins, keyed.DeleteWins}).Draw(r, "policy")
		c := f.run(r, rapid.IntRange(2, 5).Draw(r, "edges"), chain, policy)
		for range rapid.IntRange(5, 30).Draw(r, "steps") {
			e := c.edges[rapid.IntRange(0, len(c.edges)-1).Draw(r, "edge")]
			key := rapid.SampledFrom(keys).Draw(r, "key")
			switch rapid.SampledFrom([]string{"put", "put", "put", "delete", "cut", "mend", "crash"}).Draw(r, "step") {
			case "put":
				e.put(key, rapid.SampledFrom([]string{`1`, `2`, `"x"`, `{"a":[1.0]}`}).Draw(r, "value"))
				c.ops++
			case "delete":
				if err := e.store.Delete(within(t), key, keyed.Condition{}); err == nil {
					c.ops++
				} else if !errors.Is(err, keyed.ErrNotFound) {
					t.Fatal(err)
				}
			case "cut":
				e.cut()
			case "mend":
				e.mend()
			case "crash":
				e.reopen()
				e.run()
			}
		}
		c.quiesce(keys)
	})
}
