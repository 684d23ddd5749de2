package keyed_test

import (
	"context"
	"testing"

	"github.com/edged/edged/engine/keyed"
)

// heldResolver decides once it is let go.
type heldResolver struct {
	keyed.Resolver
	asked, letGo chan struct{}
}

func (r *heldResolver) Resolve(ctx context.Context, c []keyed.Conflict) ([]keyed.Verdict, error) {
	r.asked <- struct{}{}
	<-r.letGo
	return r.Resolver.Resolve(ctx, c)
}

// TestFinishThenConfigure holds that a sync which is to end is done with the conflict it
// is deciding, takes no other key, and that the store then goes on with other options.
func TestFinishThenConfigure(t *testing.T) {
	h := startHub(t, t.TempDir())
	held := &heldResolver{latestWins(), make(chan struct{}, 1), make(chan struct{})}
	a := startEdge(t, "a", edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{latestWins()}}).run()
	b := startEdge(t, "b", edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{held}}).run()
	both(t, h, a, b, "k", "1", "2", "3")
	<-held.asked

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	b.sync.Finish(ended)
	b.put("later", "4")
	if n := len(b.journal()); n > 0 {
		t.Fatalf("%d decisions are journaled while the resolver decides", n)
	}
	close(held.letGo)
	b.sync.Finish(t.Context())
	if n, s := len(b.journal()), b.store.Status(); n != 1 || s.Resolved != 1 || s.Pending != 1 {
		t.Errorf("%d decisions are journaled when it is done: %+v", n, s)
	}
	b.pause()

	b.opts.chain, b.opts.schema = []keyed.Resolver{latestWins()}, 7
	s, err := b.stores.Configure(t.Context(), b.options())
	if err != nil || s != b.store {
		t.Fatalf("another store: %v", err)
	}
	b.run()
	quiesced(t, h, a, b)
	if e := b.put("new", "5"); e.Schema != 7 {
		t.Errorf("what is put now has the schema %d", e.Schema)
	}
	if a.get("later") != "4" || a.get("k") != "3" {
		t.Errorf("a has %s and %s", a.get("later"), a.get("k"))
	}
}
