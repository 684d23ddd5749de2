package sync_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// movedHub is a hub whose data directory is put aside and brought back.
type movedHub struct {
	*testHub
	t     *testing.T
	dir   string
	proxy *proxy
}

func startMovedHub(t *testing.T) *movedHub {
	m := &movedHub{t: t, dir: t.TempDir()}
	m.start()
	m.proxy = newProxy(t, m.leaf())
	return m
}

func (m *movedHub) start() {
	m.t.Helper()
	m.testHub = startHub(m.t, hub.Options{DataDir: m.dir})
	if m.proxy != nil {
		m.proxy.lead(m.leaf())
	}
}

// backup stops the hub, copies its data and starts it again.
func (m *movedHub) backup() string {
	m.t.Helper()
	m.stop()
	image := filepath.Join(m.t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(m.dir)); err != nil {
		m.t.Fatal(err)
	}
	m.start()
	return image
}

// restore stops the hub and starts it on an older copy of its data.
func (m *movedHub) restore(image string) {
	m.t.Helper()
	m.stop()
	m.dir = image
	m.start()
}

// numbers lists the numbers of a lane that the hub holds, as ranges, in the order
// of the stream; each must be there once.
func (h *testHub) numbers(edge, lane string) (ranges [][2]uint64) {
	h.t.Helper()
	seen := map[string]bool{}
	for _, msg := range h.read(sync.HubRecordStream, sync.HubRecordSubject+"."+record.Token(edge)+"."+record.Token(lane)+".>") {
		number := msg.Headers().Get(sync.HeaderNumber)
		if seen[number] {
			h.t.Errorf("%s of %s is there twice", number, lane)
		}
		seen[number] = true
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			h.t.Fatal(err)
		}
		if k := len(ranges) - 1; k >= 0 && ranges[k][1]+1 == n {
			ranges[k][1] = n
		} else {
			ranges = append(ranges, [2]uint64{n, n})
		}
	}
	return ranges
}

// purge drops everything before a number, as the edge does with what is synced.
func (e *testEdge) purge(l *store.Lane, before uint64) {
	e.t.Helper()
	seq, err := l.Find(e.t.Context(), before)
	if err != nil || seq == 0 {
		e.t.Fatalf("finding %d: %d, %v", before, seq, err)
	}
	if err := e.records.Purge(e.t.Context(), seq); err != nil {
		e.t.Fatal(err)
	}
}

func (r *testRemote) audit(lane string) sync.FeedAudit {
	r.t.Helper()
	found, err := r.nats.Audit(r.t.Context(), r.feeds[lane].Feed)
	if err != nil {
		r.t.Fatal(err)
	}
	found.Epoch = ""
	return found
}

// TestAHubStreamMadeAnew deletes the hub's streams under an edge that has
// everything there, has nothing new to send and stays connected. It notices by
// itself and sends everything again.
func TestAHubStreamMadeAnew(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	e := startEdge(t, "edge", t.TempDir(), link("hub", newProxy(t, h.leaf())))
	a := e.lane("a")
	e.put(a, 300)
	e.message(record.High, "a", 20)
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	r.until("everything is at the hub", r.drained)
	for _, stream := range []string{sync.HubQueueStream, sync.HubRecordStream} {
		if err := h.js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	if err := hub.Provision(t.Context(), h.nc, "", 0); err != nil {
		t.Fatal(err)
	}
	r.until("the edge has noticed and sent everything again", func() bool {
		return r.feeds["a"].Sent() == 600 && r.feeds["queue/high"].Sent() == 40 && r.drained()
	})
	h.holds("edge", "records", "a", 300)
	h.holds("edge", "queue", "high", 20)
	if diff := cmp.Diff(sync.FeedAudit{Last: 300, AtHub: 300}, r.audit("a")); diff != "" {
		t.Errorf("the audit (-want +got):\n%s", diff)
	}
	e.put(a, 50)
	r.until("what is new follows", r.drained)
	h.holds("edge", "records", "a", 350)
}

// TestARestoredHub brings back an older copy of the hub's data: what came after
// it is sent again, once, and nothing that the copy holds.
func TestARestoredHub(t *testing.T) {
	t.Parallel()
	h := startMovedHub(t)
	e := startEdge(t, "edge", t.TempDir(), link("hub", h.proxy))
	a := e.lane("a")
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	e.put(a, 130)
	r.until("everything is at the hub", r.drained)
	image := h.backup()
	e.put(a, 170)
	r.until("everything is at the hub", r.drained)
	sent := r.feeds["a"].Sent()
	h.restore(image)
	r.until("the edge asks anew", func() bool { return r.feeds["a"].Sent() > sent && r.drained() })
	if got := r.feeds["a"].Sent() - sent; got != 170 {
		t.Errorf("%d were sent again, want 170", got)
	}
	h.holds("edge", "records", "a", 300)
	if diff := cmp.Diff(sync.FeedAudit{Last: 300, AtHub: 300}, r.audit("a")); diff != "" {
		t.Errorf("the audit (-want +got):\n%s", diff)
	}
}

// TestWhatAHubLostIsNamed restores a hub to a time of which the edge, which was
// restarted since, does not keep everything any more: status, ledger and audit
// name exactly that.
func TestWhatAHubLostIsNamed(t *testing.T) {
	t.Parallel()
	h := startMovedHub(t)
	dir, image := t.TempDir(), ""
	var before map[string]*sync.FeedSender
	t.Run("before", func(t *testing.T) {
		e := startEdge(t, "edge", dir, link("hub", h.proxy))
		a := e.lane("a")
		r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
		for i := range 3 {
			e.put(a, 100)
			r.until("everything is at the hub", r.drained)
			if i == 0 {
				image = h.backup()
			}
		}
		r.stop()
		e.purge(a, 201)
		before = r.feeds
	})
	h.restore(image)
	e := startEdge(t, "edge", dir, link("hub", h.proxy))
	a := e.lane("a")
	r := e.prepare(remoteOptions{lanes: lanes(a), known: before}).run()
	r.until("the rest is sent again", r.drainedAfter(100))
	if diff := cmp.Diff([][2]uint64{{1, 100}, {201, 300}}, h.numbers("edge", "a")); diff != "" {
		t.Errorf("the hub holds (-want +got):\n%s", diff)
	}
	lost := [][2]uint64{{101, 200}}
	if diff := cmp.Diff(sync.Past{Acked: 300, Had: 300, Lost: lost}, r.feeds["a"].Past()); diff != "" {
		t.Errorf("the edge remembers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sync.FeedAudit{Last: 300, AtHub: 200, Gaps: lost, HubLost: lost}, r.audit("a")); diff != "" {
		t.Errorf("the audit (-want +got):\n%s", diff)
	}
	e.put(a, 10)
	r.until("what is new follows", r.drained)
	if got := r.audit("a"); got.Last != 310 || len(got.Gaps) != 1 {
		t.Errorf("later the audit finds %+v", got)
	}
}

// drainedAfter tells whether so many records of lane a were sent, and all is at
// the hub.
func (r *testRemote) drainedAfter(sent uint64) func() bool {
	return func() bool { return r.feeds["a"].Sent() >= sent && r.drained() }
}

// TestAHubRestoredToAnEarlierEpoch gives a device a new store, and then the hub a
// copy of its data from before that: its ledger ends with an epoch that the edge
// does not know, and is not taken for that of another edge.
func TestAHubRestoredToAnEarlierEpoch(t *testing.T) {
	t.Parallel()
	h := startMovedHub(t)
	t.Run("the first store", func(t *testing.T) {
		e := startEdge(t, "edge", t.TempDir(), link("hub", h.proxy))
		a := e.lane("a")
		e.put(a, 100)
		r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
		r.until("everything is at the hub", r.drained)
	})
	image := h.backup()
	e := startEdge(t, "edge", t.TempDir(), link("hub", h.proxy))
	a := e.lane("a")
	e.put(a, 150)
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	r.until("everything is at the hub", r.drained)
	sent := r.feeds["a"].Sent()
	h.restore(image)
	r.until("the edge asks anew", func() bool { return r.feeds["a"].Sent() >= sent+150 && r.drained() })
	if n := len(h.read(sync.HubRecordStream, sync.HubRecordSubject+".>")); n != 250 {
		t.Errorf("the hub holds %d records, want 100 of the first store and 150", n)
	}
	if got := r.audit("a"); len(got.Gaps)+len(got.Duplicates)+len(got.Damaged) != 0 {
		t.Errorf("the audit finds %+v", got)
	}
}
