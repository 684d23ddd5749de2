package sync_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// TestHubWithoutStreams starts an edge against a hub that nobody has prepared:
// the status says what to do, and once it is done everything arrives.
func TestHubWithoutStreams(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{"records": sync.HubRecordStream, "queue": sync.HubQueueStream} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, hub.Options{})
			if err := h.js.DeleteStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			e := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
			a := e.lane("a")
			e.put(a, 100)
			e.message(record.High, "a", 10)
			r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
			err := r.fails()
			if !strings.Contains(err.Error(), stream) || !strings.Contains(err.Error(), "edged hub") {
				t.Errorf("the status says %q, want the name of the stream and how to make it", err)
			}
			if err := hub.Provision(t.Context(), h.nc, "", 0); err != nil {
				t.Fatal(err)
			}
			r.until("everything is at the hub", r.drained)
			h.holds("edge", "records", "a", 100)
			h.holds("edge", "queue", "high", 10)
		})
	}
}

// fails waits until monitor or sender have an error and returns it.
func (r *testRemote) fails() error {
	r.t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		for _, f := range r.feeds {
			if _, _, err := f.Status(); err != nil {
				return err
			}
		}
		if _, _, err := r.monitor.State(); err != nil && !strings.Contains(err.Error(), "not connected") {
			return err
		}
		select {
		case <-tick.C:
		case <-timeout:
			r.t.Fatal("nothing fails")
		}
	}
}

// TestHubIsFull fills the hub's stream: the edge waits, backing off, and goes on
// when there is room.
func TestHubIsFull(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	h.bound(sync.HubRecordStream, 120)
	e := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
	a := e.lane("a")
	e.put(a, 300)
	r := e.prepare(remoteOptions{lanes: lanes(a), backoff: sync.Backoff{
		Base: 100 * time.Millisecond, Max: 100 * time.Millisecond, Float64: func() float64 { return 1 },
	}}).run()
	if err := r.fails(); !strings.Contains(err.Error(), "maximum messages") {
		t.Errorf("the status says %q", err)
	}
	// Two batches of 50 and their ledger entries fit; the third does not. Each
	// further try waits its 100 ms.
	start := time.Now()
	_, before, _ := r.account()
	r.untilTried(before + 5)
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("five tries took %v: the back-off of 100 ms does not hold", took)
	}
	h.bound(sync.HubRecordStream, 10_000)
	r.until("everything is at the hub", r.drained)
	h.holds("edge", "records", "a", 300)
}

// TestDeliveryTellsOfTheFeed fills the hub's queue and holds what is known of the
// messages that wait for it: those of the batch that is tried have its tries and
// its error, those behind it none, and all of it is over when they are taken.
func TestDeliveryTellsOfTheFeed(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	h.bound(sync.HubQueueStream, 50)
	e := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
	e.message(record.High, "a", 150)
	r := e.prepare(remoteOptions{backoff: sync.Backoff{
		Base: 50 * time.Millisecond, Max: 50 * time.Millisecond, Float64: func() float64 { return 1 },
	}})
	f := r.feeds["queue/high"]
	if d, ok := f.Delivery(1); !ok || d.Attempts != 0 || !d.NextTry.IsZero() || d.LastError != "" {
		t.Errorf("before the first try: %+v, %t", d, ok)
	}
	r.run()
	r.untilTried(3)
	for range 5 { // a new try asks for the position, and ends no trouble
		progress := r.sender.Progress()
		if _, _, err := f.Status(); err == nil {
			t.Error("the status knows of no error while the hub takes nothing")
		}
		<-progress
	}
	r.until("the first tells of its tries", func() bool {
		d, ok := f.Delivery(1)
		return ok && d.Attempts >= 2 && !d.NextTry.IsZero() && strings.Contains(d.LastError, "maximum messages")
	})
	if d, ok := f.Delivery(150); !ok || d.Attempts != 0 {
		t.Errorf("of the last, which was not tried: %+v, %t", d, ok)
	}
	h.bound(sync.HubQueueStream, 10_000)
	r.until("everything is at the hub", r.drained)
	if _, _, err := f.Status(); err != nil {
		t.Errorf("after everything was taken the status has %v", err)
	}
	if d, ok := f.Delivery(150); ok {
		t.Errorf("after it was taken: %+v", d)
	}
	e.message(record.High, "a", 1)
	if d, _ := f.Delivery(151); d.Attempts != 0 {
		t.Errorf("a new message has %+v", d)
	}
	r.until("everything is at the hub", r.drained)
}

// untilTried waits until so many pushes were tried.
func (r *testRemote) untilTried(n int) {
	r.t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, tried, _ := r.account(); tried >= n {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			r.t.Fatalf("%d pushes are never tried", n)
		}
	}
}

// TestALostStoreBeginsAnew gives a device a new store under its old name: its
// numbers begin again and are not taken for the old ones.
func TestALostStoreBeginsAnew(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	for range 2 {
		t.Run("", func(t *testing.T) {
			e := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
			a := e.lane("a")
			e.put(a, 100)
			r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
			r.until("everything is at the hub", r.drained)
			if at, _, _ := r.feeds["a"].Status(); at.Total != 100 {
				t.Errorf("the hub counts %d of this store, want 100", at.Total)
			}
			found, err := r.nats.Audit(t.Context(), r.feeds["a"].Feed)
			if err != nil || len(found.Gaps)+len(found.Duplicates)+len(found.Damaged) != 0 || found.Epoch != e.records.Epoch() {
				t.Errorf("audit %+v, %v", found, err)
			}
		})
	}
	if n := len(h.read(sync.HubRecordStream, sync.HubRecordSubject+".>")); n != 200 {
		t.Errorf("%d records arrived, want 200", n)
	}
}

// TestTwoEdgesOfOneName lets two devices with one device_id meet: the first
// finds its ledger taken, says so and sends nothing twice.
func TestTwoEdgesOfOneName(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	first := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
	a := first.lane("a")
	r1 := first.prepare(remoteOptions{lanes: lanes(a)}).run()
	first.put(a, 100)
	r1.until("everything of the first is at the hub", r1.drained)

	second := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
	b := second.lane("a")
	second.put(b, 70)
	r2 := second.prepare(remoteOptions{lanes: lanes(b)}).run()
	r2.until("everything of the second is at the hub", r2.drained)

	first.put(a, 30)
	if err := r1.foreign(); !strings.Contains(err.Error(), "device_id") {
		t.Errorf("the first says %q", err)
	}
	_, tried, _ := r1.account()
	second.put(b, 30)
	r2.until("everything of the second is at the hub", r2.drained)
	if _, again, _ := r1.account(); again != tried {
		t.Errorf("the first went on: %d pushes after %d", again, tried)
	}
	if n := len(h.read(sync.HubRecordStream, sync.HubRecordSubject+".>")); n != 200 {
		t.Errorf("%d records arrived, want 100 of each", n)
	}
}

func (r *testRemote) foreign() (err error) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !errors.Is(err, sync.ErrForeign); err = r.fails() {
		if time.Now().After(deadline) {
			r.t.Fatalf("it never notices; it says %v", err)
		}
	}
	return err
}

// TestAuditFindsWhatIsWrong damages the hub with a NATS client and holds that
// the audit tells exactly where.
func TestAuditFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	e := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
	a, other := e.lane("a"), e.lane("other")
	r := e.prepare(remoteOptions{lanes: lanes(a, other)}).run()
	e.put(a, 100) // batches of 50, each with a ledger entry
	e.put(other, 10)
	r.until("everything is at the hub", r.drained)
	stream, err := h.js.Stream(t.Context(), sync.HubRecordStream)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(subject, number string, data []byte) {
		msg := &nats.Msg{Subject: subject, Header: nats.Header{sync.HeaderNumber: {number}}, Data: data}
		if _, err := h.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	audit := func(lane string) sync.FeedAudit {
		found, err := r.nats.Audit(t.Context(), r.feeds[lane].Feed)
		if err != nil {
			t.Fatal(err)
		}
		found.Epoch = ""
		return found
	}
	if diff := cmp.Diff(sync.FeedAudit{Last: 100, AtHub: 100}, audit("a")); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	gone := map[string]bool{"7": true, "8": true, "80": true}
	for _, msg := range h.read(sync.HubRecordStream, sync.HubRecordSubject+".edge.a.>") {
		if gone[msg.Headers().Get(sync.HeaderNumber)] {
			meta, err := msg.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.DeleteMsg(t.Context(), meta.Sequence.Stream); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.stop() // what follows plays the edge's part
	const subject, ledger = sync.HubRecordSubject + ".edge.a.t.d0", sync.HubLedgerRecords + ".edge.a"
	publish(subject, "42", body("a", 42)) // again
	publish(subject, "101", []byte("not what was sent"))
	entry, err := json.Marshal(sync.LedgerEntry{Epoch: e.records.Epoch(), Since: 1, First: 101, Last: 101, Count: 1, Total: 101, Hash: "other"})
	if err != nil {
		t.Fatal(err)
	}
	publish(ledger, "101", entry)
	publish(subject, "102", []byte("not what was sent"))
	if entry, err = json.Marshal(sync.LedgerEntry{Epoch: e.records.Epoch(), Since: 1, First: 102, Last: 102, Count: 1, Total: 102, Hash: "other"}); err != nil {
		t.Fatal(err)
	}
	publish(ledger, "102", entry)
	reader := e.auditor()
	defer reader.Close()
	found, err := reader.Audit(t.Context(), r.feeds["a"].Feed)
	if err != nil {
		t.Fatal(err)
	}
	found.Epoch = ""
	want := sync.FeedAudit{
		Last: 102, AtHub: 100, Gaps: [][2]uint64{{7, 8}, {80, 80}}, Duplicates: [][2]uint64{{42, 42}}, Damaged: [][2]uint64{{102, 102}},
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found, err = reader.Audit(t.Context(), r.feeds["other"].Feed); err != nil {
		t.Fatal(err)
	}
	if found.Epoch = ""; !cmp.Equal(sync.FeedAudit{Last: 10, AtHub: 10}, found) {
		t.Errorf("the other pipeline: %+v", found)
	}
}

// auditor opens the link's account once more.
func (e *testEdge) auditor() *sync.NATS {
	e.t.Helper()
	n, err := sync.OpenNATS(sync.NATSOptions{Link: "hub", Edge: e.id, Domain: sync.DefaultDomain, Broker: e.broker})
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}
