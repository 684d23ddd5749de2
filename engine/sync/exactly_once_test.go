package sync_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// TestLostAnswers holds I2 at its core: the hub has stored a batch and its
// answer never arrives. Ten times; nothing comes twice and nothing is missing.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	e := startEdge(t, "edge.1", t.TempDir(), link("hub", p))
	a := e.lane("a.b")
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	entries := h.ledgerEntries()
	e.put(a, 10)
	for lost := 0; lost < 10; _, _, lost = r.account() {
		r.until("the link is up and idle", r.drained)
		p.set(linkState{swallow: true})
		e.put(a, 130)
		// The hub has more than the edge knows of.
		for {
			msg, err := entries.Next(jetstream.NextContext(within(t)))
			if err != nil {
				t.Fatal(err)
			}
			var entry sync.LedgerEntry
			if err := json.Unmarshal(msg.Data(), &entry); err != nil {
				t.Fatal(err)
			}
			if at, _, _ := r.feeds["a.b"].Status(); entry.Last > at.Last {
				break
			}
		}
		p.cut(linkState{})
	}
	r.until("everything is at the hub", r.drained)
	h.holds("edge.1", "records", "a.b", a.Last())
	found, err := r.nats.Audit(t.Context(), r.feeds["a.b"].Feed)
	if err != nil || len(found.Gaps)+len(found.Duplicates)+len(found.Damaged) != 0 || found.Last != a.Last() {
		t.Errorf("audit %+v, %v", found, err)
	}
}

// TestLostAnswersAndHubRestarts loses what hub and edge say to each other while a
// backlog drains with two batches under way at a time, and restarts the hub in
// between, in any order: a batch whose commit is lost, one whose answer is lost,
// the one behind either, and a hub that forgets what was staged.
func TestLostAnswersAndHubRestarts(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := startMovedHub(t)
	e := startEdge(t, "edge", t.TempDir(), link("hub", h.proxy))
	a, b := e.lane("a"), e.lane("b")
	r := e.prepare(remoteOptions{
		lanes: lanes(a, b), policy: batch.Policy{MaxRecords: 20, MaxBytes: 1 << 20, MaxWait: time.Millisecond},
	}).run()
	lostAnswers := func() int { _, _, lost := r.account(); return lost }
	restarts := 0
	for round := 0; round < 12 || lostAnswers() < 3; round++ {
		if round == 200 {
			t.Fatalf("after %d rounds %d answers were lost", round, lostAnswers())
		}
		e.put(a, 300)
		e.put(b, 100)
		e.message(record.High, "a", 20)
		_, tried, _ := r.account()
		r.untilTried(tried + 1 + rng.IntN(5))
		switch rng.IntN(5) {
		case 0:
			h.proxy.set(linkState{deaf: true})
		case 1:
			h.stop()
			h.start()
			restarts++
			continue
		default:
			h.proxy.set(linkState{swallow: true})
		}
		<-time.After(time.Duration(rng.Int64N(int64(30 * time.Millisecond))))
		h.proxy.cut(linkState{})
	}
	r.until("everything is at the hub", r.drained)
	_, tried, lost := r.account()
	t.Logf("%d pushes, %d answers lost, %d restarts of the hub", tried, lost, restarts)
	h.holds("edge", "records", "a", a.Last())
	h.holds("edge", "records", "b", b.Last())
	h.holds("edge", "queue", "high", e.queue.Lane(record.High).Last())
	for _, name := range []string{"a", "b", "queue/high"} {
		if got := r.audit(name); len(got.Gaps)+len(got.Duplicates)+len(got.Damaged) != 0 {
			t.Errorf("the audit of %s finds %+v", name, got)
		}
	}
}

// TestBadNetwork lets records and messages of two pipelines through a network
// that is cut, stalls, delays and swallows at random moments.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a, b := e.lane("a"), e.lane("b")
	r := e.prepare(remoteOptions{lanes: lanes(a, b)}).run()
	pause := func(most time.Duration) { <-time.After(time.Duration(rng.Int64N(int64(most)))) }
	for range 8 {
		e.put(a, 400)
		e.put(b, 200)
		e.message(record.Normal, "a", 30)
		pause(100 * time.Millisecond)
		switch rng.IntN(4) {
		case 0:
			p.cut(linkState{})
		case 1:
			p.set(linkState{stall: true})
			pause(300 * time.Millisecond)
			p.set(linkState{})
		case 2:
			p.set(linkState{delay: 20 * time.Millisecond})
			pause(300 * time.Millisecond)
			p.cut(linkState{refuse: true})
			pause(300 * time.Millisecond)
			p.set(linkState{})
		default:
			p.set(linkState{swallow: true})
			pause(100 * time.Millisecond)
			p.cut(linkState{})
		}
	}
	r.until("everything is at the hub", r.drained)
	_, tried, lost := r.account()
	t.Logf("%d pushes, %d answers lost", tried, lost)
	h.holds("edge", "records", "a", 3200)
	h.holds("edge", "records", "b", 1600)
	h.holds("edge", "queue", "normal", 240)
}

// TestHalfOpenConnection lets a connection die without a word, as mobile
// networks do: the edge notices by itself and dials anew.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a := e.lane("a")
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	e.put(a, 100)
	r.until("the link works", r.drained)
	p.forget()
	e.put(a, 100)
	r.becomes(sync.Offline)
	r.until("everything is at the hub", r.drained)
	h.holds("edge", "records", "a", 200)
}

// TestRestartOfTheEdgeMidway takes the sender away between batches and starts
// another on the same store: it goes on where the hub says.
func TestRestartOfTheEdgeMidway(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	dir := t.TempDir()
	for i := range 3 {
		t.Run("", func(t *testing.T) {
			e := startEdge(t, "edge", dir, link("hub", p))
			a := e.lane("a")
			e.put(a, 1000)
			r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
			if i == 2 {
				r.until("everything is at the hub", r.drained)
				return
			}
			r.until("something is at the hub", func() bool { at, _, _ := r.feeds["a"].Status(); return at.Last > uint64(500*i) })
			r.stop()
		})
	}
	h.holds("edge", "records", "a", 3000)
}
