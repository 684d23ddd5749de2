package sync_test

import (
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// TestAPeerThatNeverSpeaks lets the edge dial something that accepts connections
// and says nothing: it is redialed, calmly, and used once it is the hub.
func TestAPeerThatNeverSpeaks(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	p.set(linkState{mute: true})
	started := time.Now()
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a := e.lane("a")
	e.put(a, 100)
	r := e.prepare(remoteOptions{lanes: lanes(a), redial: 100 * time.Millisecond}).run()
	e.waitUntil("the edge has redialed", func() bool { return r.monitor.Stats().Redials >= 4 })
	dials, _ := p.counts()
	stats := r.monitor.Stats()
	// The server dials anew about once a second, and at each redial.
	if most := 3 + int(stats.Redials) + int(time.Since(started)/time.Second); dials > most {
		t.Errorf("%d connections in %v with %d redials, want %d at most", dials, time.Since(started), stats.Redials, most)
	}
	if stats.Probes != 0 {
		t.Errorf("%d probes without a connection", stats.Probes)
	}
	p.cut(linkState{})
	r.until("everything is at the hub", r.drained)
	h.holds("edge", "records", "a", 100)
}

// waitUntil waits until cond holds.
func (e *testEdge) waitUntil(what string, cond func() bool) {
	e.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			e.t.Fatalf("in vain waited until %s", what)
		}
	}
}

// TestRefusalsAreNoOutage fills the hub under many pipelines: the remote is
// degraded, says why, and each pipeline keeps its back-off; messages go on.
func TestRefusalsAreNoOutage(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	h.bound(sync.HubRecordStream, 1)
	e := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
	var all []*store.Lane
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		l := e.lane(name)
		e.put(l, 100)
		all = append(all, l)
	}
	const pause = 200 * time.Millisecond
	r := e.prepare(remoteOptions{
		lanes: all, backoff: sync.Backoff{Base: pause, Max: pause, Float64: func() float64 { return 1 }},
		probing: sync.Backoff{Base: pause, Max: pause}, // all fail between two probes
	}).run()
	why := r.becomes(sync.Degraded)
	if !strings.Contains(why.Error, "maximum messages") {
		t.Errorf("it is degraded: %s", why.Error)
	}
	started := time.Now()
	_, before, _ := r.account()
	r.untilTried(before + 5*len(all))
	took := time.Since(started)
	if least := 4 * pause; took < least {
		t.Errorf("%d pushes in %v, want %v at least", 5*len(all), took, least)
	}
	e.message(record.Normal, "a", 10)
	normal := r.feeds["queue/normal"]
	r.until("the message is at the hub", func() bool { return normal.Waiting() == 0 })
	for len(r.changes) > 0 {
		if c := <-r.changes; c.To == sync.Offline {
			t.Errorf("it went offline: %s", c.Error)
		}
	}
	h.bound(sync.HubRecordStream, -1)
	r.until("everything is at the hub", r.drained)
	r.becomes(sync.Online)
	for _, l := range all {
		h.holds("edge", "records", l.Name(), 100)
	}
}
