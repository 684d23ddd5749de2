package keyed_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/edged/edged/engine/keyed"
)

// TestSum is many edges that each add one to a number, again and again, while one
// in five answers of the hub is lost: what is added twice or not at all shows. The
// shipped merge adds up as the resolver in Go does.
func TestSum(t *testing.T) {
	for _, c := range []struct {
		name     string
		start    func(t testing.TB) *testHub
		resolver func(t testing.TB) keyed.Resolver
		counter  string
		every    int // increments are pushed together
	}{
		{"one replica", func(t testing.TB) *testHub { return startHub(t, t.TempDir()) }, merging, `{"n":%d}`, 4},
		{"three replicas", startCluster, func(testing.TB) keyed.Resolver { return sums() }, "%d", 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.start(t)
			sum(t, h, edgeOptions{chain: []keyed.Resolver{c.resolver(t)}, counter: c.counter}, 8, 60, c.every, 0.2)
		})
	}
}

// merging is the shipped merge, which adds up a member.
func merging(t testing.TB) keyed.Resolver { return strategy(t, "merge", `{"fields":{"n":"sum"}}`) }

// sum has edges add one to one number, each so often, and wait for the hub every so
// often: else all of an edge's go in a few pushes, and few answers are lost.
func sum(t *testing.T, h *testHub, o edgeOptions, edges, times, every int, lost float64) {
	t.Helper()
	o.leaf = h.leaf
	o.wrap = func(hub keyed.Hub) keyed.Hub {
		return &lossy{Hub: hub, lose: func() bool { return rand.Float64() < lost }}
	}
	all := make([]*testEdge, edges)
	for i := range all {
		all[i] = startEdge(t, fmt.Sprintf("e%d", i), o).run()
	}
	// Without an ancestor merge adds nothing up: all begin with one.
	all[0].put("counter", fmt.Sprintf(o.counter, 0))
	quiesced(t, h, all...)
	var adding sync.WaitGroup
	for _, e := range all {
		adding.Go(func() {
			for i := range times {
				e.add("counter", 1)
				if i%every == 0 {
					e.drained()
				}
			}
		})
	}
	adding.Wait()
	quiesced(t, h, all...)
	equal(t, h, all, "counter")
	if got, want := all[0].get("counter"), fmt.Sprintf(o.counter, edges*times); got != want {
		t.Errorf("the sum is %s, want %s", got, want)
	}
	recovered := uint64(0)
	for _, e := range all {
		recovered += e.store.Status().Recovered
	}
	if recovered == 0 {
		t.Error("no answer was lost")
	}
}

// add changes a number as a careful client does: if it is still what was read.
func (e *testEdge) add(key string, n int) {
	e.t.Helper()
	for {
		at, err := e.store.Get(within(e.t), key)
		c := keyed.Condition{Match: at.ETag}
		if errors.Is(err, keyed.ErrNotFound) {
			c, at.Body = keyed.Condition{NoneMatch: "*"}, fmt.Appendf(nil, e.opts.counter, 0)
		} else if err != nil {
			e.t.Error(err)
			return
		}
		was := 0
		if _, err := fmt.Sscanf(string(at.Body), e.opts.counter, &was); err != nil {
			e.t.Errorf("%s: %v", at.Body, err)
			return
		}
		_, err = e.store.Put(within(e.t), key, fmt.Appendf(nil, e.opts.counter, was+n), c)
		if err == nil {
			return
		}
		if !errors.Is(err, keyed.ErrPrecondition) {
			e.t.Error(err)
			return
		}
	}
}
