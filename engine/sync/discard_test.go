package sync_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// TestWhatIsDroppedOnItsWay drops a backlog for want of room while a batch of it
// is at the hub and its answer lost. What has arrived is not counted as dropped,
// and nothing is counted twice.
func TestWhatIsDroppedOnItsWay(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a := e.lane("a")
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	entries := h.ledgerEntries()
	e.put(a, 10)
	r.until("the link is up and idle", r.drained)
	p.set(linkState{swallow: true})
	e.put(a, 130)
	for arrived := uint64(0); arrived <= 10; {
		msg, err := entries.Next(jetstream.NextContext(within(t)))
		if err != nil {
			t.Fatal(err)
		}
		var entry sync.LedgerEntry
		if err := json.Unmarshal(msg.Data(), &entry); err != nil {
			t.Fatal(err)
		}
		arrived = entry.Last
	}
	if last, err := a.Discard(t.Context(), 11, a.Last(), e.records.Durable()+1); err != nil || last != 140 {
		t.Fatalf("dropped up to %d, %v", last, err)
	}
	p.cut(linkState{})
	e.put(a, 10)
	r.until("everything is at the hub", r.drained)
	at, _, _ := r.feeds["a"].Status()
	found := r.audit("a")
	named := sync.CountRanges(found.Discarded)
	if at.Discarded != named || uint64(found.AtHub)+named != a.Last() || len(found.Gaps)+len(found.Duplicates) > 0 {
		t.Errorf("the position has %d dropped, the ledger %d; %d of %d are at the hub", at.Discarded, named, found.AtHub, a.Last())
	}
	if named == 0 || named >= 130 {
		t.Errorf("%d of 130 did not arrive: a batch of 50 was on its way", named)
	}
}

// TestWhatIsDroppedOverHTTP holds that the edge's own ledger counts likewise: what
// was dropped before it was sent, in front of a batch or with nothing behind it,
// and not what was on its way.
func TestWhatIsDroppedOverHTTP(t *testing.T) {
	t.Parallel()
	api := newCloud(t)
	e := startAPIEdge(t, api.URL, sync.Records, nil)
	drop := func(first, last uint64) {
		t.Helper()
		if got, err := e.feed.Lane.Discard(t.Context(), first, last, e.log.Durable()+1); err != nil || got != last {
			t.Fatalf("dropped up to %d, %v", got, err)
		}
	}
	check := func(what string, want sync.Position) {
		t.Helper()
		if at := e.at(); at != want {
			t.Errorf("%s: %+v, want %+v", what, at, want)
		}
	}
	push := func(b *sync.Batch) {
		t.Helper()
		if err := e.session.Push(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	e.put(5)
	reader := e.feed.Lane.NewReader(0)
	defer reader.Close()
	got, err := reader.Read(t.Context(), 5, 1<<20, []store.Stored(nil))
	if err != nil || len(got) != 5 {
		t.Fatalf("read %d, %v", len(got), err)
	}
	drop(1, 5)
	push(&sync.Batch{Entries: got, Last: 5})
	check("what was read goes all the same", sync.Position{Last: 5, Total: 5})
	e.put(5)
	drop(6, 10)
	e.put(5)
	if err := e.push(); err != nil {
		t.Fatal(err)
	}
	check("before a batch", sync.Position{Last: 15, Total: 10, Discarded: 5})
	e.put(5)
	drop(16, 20)
	push(&sync.Batch{Last: 20, Discarded: [][2]uint64{{16, 20}}})
	check("with nothing behind it", sync.Position{Last: 20, Total: 10, Discarded: 10})
	e.restart()
	check("after a restart", sync.Position{Last: 20, Total: 10, Discarded: 10})
}
