package keyed_test

import (
	"testing"

	"github.com/edged/edged/engine/keyed"
)

// TestTwoEdges is the whole way: durable here, at the hub, at the other edge,
// and a conflict that both end alike.
func TestTwoEdges(t *testing.T) {
	h := startHub(t, t.TempDir())
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{latestWins()}}
	a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
	a.put("setpoint/1", `{"target": 21.50, "big": 12345678901234567890123}`)
	quiesced(t, h, a, b)
	if got := b.get("setpoint/1"); got != `{"target":21.50,"big":12345678901234567890123}` {
		t.Errorf("b has %s", got)
	}
	a.cut()
	b.cut()
	a.put("setpoint/1", `{"target":22}`)
	b.put("setpoint/1", `{"target":23}`)
	a.mend()
	a.drained()
	b.mend()
	quiesced(t, h, a, b)
	equal(t, h, []*testEdge{a, b}, "setpoint/1")
	if got := a.get("setpoint/1"); got != `{"target":23}` {
		t.Errorf("the later is %s", got)
	}
	if j := b.journal(); len(j) != 1 || j[0].Action != keyed.TakeLocal || j[0].Resolver.SHA256 == "" || j[0].Base == nil {
		t.Errorf("b's journal: %+v", j)
	}
	if n := h.revisions(); n != 3 {
		t.Errorf("%d revisions for three operations", n)
	}
}
