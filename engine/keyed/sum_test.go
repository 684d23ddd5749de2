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
// in five answers of the hub is lost: what is added twice or not at all shows.
func TestSum(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(t testing.TB) *testHub
	}{
		{"one replica", func(t testing.TB) *testHub { return startHub(t, t.TempDir()) }},
		{"three replicas", startCluster},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.start(t)
			sum(t, h, 8, 60, 0.2)
		})
	}
}

// sum has edges add one to one number, each so often, and returns them.
func sum(t *testing.T, h *testHub, edges, times int, lost float64) []*testEdge {
	t.Helper()
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{sums()}, wrap: func(hub keyed.Hub) keyed.Hub {
		return &lossy{Hub: hub, lose: func() bool { return rand.Float64() < lost }}
	}}
	all := make([]*testEdge, edges)
	for i := range all {
		all[i] = startEdge(t, fmt.Sprintf("e%d", i), o).run()
	}
	var adding sync.WaitGroup
	for _, e := range all {
		adding.Go(func() {
			for range times {
				e.add("counter", 1)
			}
		})
	}
	adding.Wait()
	quiesced(t, h, all...)
	equal(t, h, all, "counter")
	if got, want := all[0].get("counter"), fmt.Sprint(edges*times); got != want {
		t.Errorf("the sum is %s, want %s", got, want)
	}
	return all
}

// add changes a number as a careful client does: if it is still what was read.
func (e *testEdge) add(key string, n int) {
	e.t.Helper()
	for {
		at, err := e.store.Get(within(e.t), key)
		c := keyed.Condition{Match: at.ETag}
		if errors.Is(err, keyed.ErrNotFound) {
			c, at.Body = keyed.Condition{NoneMatch: "*"}, []byte("0")
		} else if err != nil {
			e.t.Error(err)
			return
		}
		_, err = e.store.Put(within(e.t), key, fmt.Append(nil, number(at.Body)+n), c)
		if err == nil {
			return
		}
		if !errors.Is(err, keyed.ErrPrecondition) {
			e.t.Error(err)
			return
		}
	}
}
