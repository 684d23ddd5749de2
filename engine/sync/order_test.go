package sync_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// TestPriorities holds I5: messages before records and the urgent before the
// rest; and each turn moves something of everything.
func TestPriorities(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a := e.lane("a")
	e.put(a, 150)
	for _, priority := range record.Priorities {
		e.message(priority, "a", 1000)
	}
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	r.until("everything is at the hub", r.drained)
	pushes, _, _ := r.account()
	var want []string
	left := map[string]int{"queue/critical": 10, "queue/high": 10, "queue/normal": 10, "queue/low": 10}
	shares := []struct {
		feed  string
		share int
	}{{"queue/critical", 8}, {"queue/high", 4}, {"queue/normal", 2}, {"queue/low", 1}}
	for left["queue/low"] > 0 {
		for _, s := range shares {
			for range min(s.share, left[s.feed]) {
				want = append(want, s.feed+" 100")
				left[s.feed]--
			}
		}
	}
	// Records go in a loop of their own: they neither wait nor let wait.
	pushes = slices.DeleteFunc(pushes, func(p string) bool { return p == "a 50" })
	if diff := cmp.Diff(want, pushes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, priority := range record.Priorities {
		h.holds("edge", "queue", priority.String(), 1000)
	}
	h.holds("edge", "records", "a", 150)
}

// TestAnAlarmPassesABacklog raises a message while records drain: it does not
// wait for them.
func TestAnAlarmPassesABacklog(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a := e.lane("a")
	e.put(a, 3_000)
	r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
	r.until("the backlog drains", func() bool { pushes, _, _ := r.account(); return len(pushes) > 5 })
	e.message(record.Critical, "a", 1)
	stored, _, _ := r.account()
	r.until("everything is at the hub", r.drained)
	pushes, _, _ := r.account()
	alarm := slices.Index(pushes, "queue/critical 1")
	// One push may have been under way, and one more have begun.
	if alarm < 0 || alarm > len(stored)+2 {
		t.Errorf("the alarm went as push %d of %d, after %d when it was durable", alarm, len(pushes), len(stored))
	}
	h.holds("edge", "records", "a", 3_000)
}

// TestBatchPolicy holds when a batch goes: full by count, full by bytes, old
// enough, flushed, or when its round begins.
func TestBatchPolicy(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	for name, c := range map[string]struct {
		policy  batch.Policy
		every   time.Duration
		puts    []int
		waiting uint64 // before Flush
		want    string // pushes, before and after Flush
	}{
		"by count": {
			policy: batch.Policy{MaxRecords: 10, MaxBytes: 1 << 20, MaxWait: time.Hour},
			puts:   []int{9, 1, 25, 4}, waiting: 9, want: "10 10 10 | 9",
		},
		"by bytes": {
			policy: batch.Policy{MaxRecords: 1000, MaxBytes: 3 * len(body("x", 1)), MaxWait: time.Hour},
			puts:   []int{2, 1, 5}, waiting: 2, want: "3 3 | 2",
		},
		"by age": {
			policy: batch.Policy{MaxRecords: 1000, MaxBytes: 1 << 20, MaxWait: time.Millisecond},
			puts:   []int{7}, waiting: 0, want: "7 |",
		},
		"in rounds": { // the first round begins at once
			policy: batch.Policy{MaxRecords: 4, MaxBytes: 1 << 20, MaxWait: time.Millisecond}, every: time.Hour,
			puts: []int{0, 9}, waiting: 9, want: "| 4 4 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, h.leaf())
			edge := strings.ReplaceAll(name, " ", "-")
			e := startEdge(t, edge, t.TempDir(), link("hub", p))
			x := e.lane("x")
			r := e.prepare(remoteOptions{lanes: lanes(x), policy: c.policy, every: c.every}).run()
			r.becomes(sync.Online)
			e.marker(r) // the first turn is over
			for _, n := range c.puts {
				e.put(x, n)
			}
			r.until("as much as may wait does", func() bool { return r.feeds["x"].Waiting() == c.waiting })
			e.marker(r)
			e.marker(r) // a whole turn saw that nothing more is due
			before := r.sizes("x")
			r.sender.Flush()
			r.until("everything is at the hub", r.drained)
			got := strings.TrimSpace(before + " | " + strings.TrimSpace(strings.TrimPrefix(r.sizes("x"), before)))
			if got != c.want {
				t.Errorf("pushes %q, want %q", got, c.want)
			}
			h.holds(edge, "records", "x", x.Last())
		})
	}
}

// marker sends a message and waits until it is at the hub: the turn that sent
// it has looked at every feed before, and looks at the records after.
func (e *testEdge) marker(r *testRemote) {
	e.t.Helper()
	e.message(record.Low, "marker", 1)
	f := r.feeds["queue/low"]
	r.until("the marker is at the hub", func() bool { return f.Waiting() == 0 })
}

// sizes lists the pushes of a feed.
func (r *testRemote) sizes(feed string) string {
	pushes, _, _ := r.account()
	var out []string
	for _, p := range pushes {
		if rest, ok := strings.CutPrefix(p, feed+" "); ok {
			out = append(out, rest)
		}
	}
	return strings.Join(out, " ")
}

// TestEdgesAndPipelinesShareAHub lets two edges with two pipelines each push to
// one hub: ids that look alike stay apart.
func TestEdgesAndPipelinesShareAHub(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	ids := []string{"edge.1", "edge_1"}
	var remotes []*testRemote
	for _, id := range ids {
		e := startEdge(t, id, t.TempDir(), link("hub", newProxy(t, h.leaf())))
		a, b := e.lane("a"), e.lane("a.b")
		r := e.prepare(remoteOptions{lanes: lanes(a, b)}).run()
		e.put(a, 1500)
		e.put(b, 700)
		e.message(record.High, "a", 50)
		remotes = append(remotes, r)
	}
	for i, r := range remotes {
		r.until("everything is at the hub", r.drained)
		h.holds(ids[i], "records", "a", 1500)
		h.holds(ids[i], "records", "a.b", 700)
		h.holds(ids[i], "queue", "high", 50)
	}
}

// TestTwoRemotes sends one pipeline to one hub and two to another: messages
// follow their pipeline, records too, and the counts of each hub are right.
func TestTwoRemotes(t *testing.T) {
	t.Parallel()
	h1, h2 := startHub(t, hub.Options{}), startHub(t, hub.Options{})
	e := startEdge(t, "edge", t.TempDir(), link("one", newProxy(t, h1.leaf())), link("two", newProxy(t, h2.leaf())))
	a, b := e.lane("a"), e.lane("b")
	one := e.prepare(remoteOptions{link: "one", lanes: lanes(a), want: wantPipeline("a")}).run()
	two := e.prepare(remoteOptions{link: "two", lanes: lanes(a, b)}).run()
	for range 3 {
		e.put(a, 100)
		e.put(b, 50)
		e.message(record.Normal, "a", 20)
		e.message(record.Normal, "b", 30)
	}
	one.until("everything is at hub one", one.drained)
	two.until("everything is at hub two", two.drained)
	h1.holds("edge", "records", "a", 300)
	h1.holds("edge", "records", "b", 0)
	h2.holds("edge", "records", "a", 300)
	h2.holds("edge", "records", "b", 150)
	h2.holds("edge", "queue", "normal", 150)
	got := h1.read(sync.HubQueueStream, sync.HubQueueSubject+".>")
	for _, msg := range got {
		if !strings.Contains(string(msg.Data()), `"pipeline":"a"`) {
			t.Errorf("hub one got %s", msg.Data())
		}
	}
	if at, _, _ := one.feeds["queue/normal"].Status(); len(got) != 60 || at.Total != 60 {
		t.Errorf("hub one got %d messages and counts %d, want 60", len(got), at.Total)
	}
	for _, r := range []*testRemote{one, two} {
		for name, f := range r.feeds {
			found, err := r.nats.Audit(t.Context(), f.Feed)
			if err != nil || len(found.Gaps)+len(found.Duplicates)+len(found.Damaged) != 0 {
				t.Errorf("audit of %s: %+v, %v", name, found, err)
			}
		}
	}
}

func wantPipeline(name string) func(*store.Stored) bool {
	return func(s *store.Stored) bool {
		return strings.Contains(string(s.Data), strconv.Quote("pipeline")+":"+strconv.Quote(name))
	}
}

// TestOthersMessagesAreNoGap lets messages for another remote pass, go from the
// edge's disk, and the edge restart, before one comes for this remote: its ledger
// explains their numbers all the same.
func TestOthersMessagesAreNoGap(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	dir := t.TempDir()
	var before map[string]*sync.FeedSender
	t.Run("before", func(t *testing.T) {
		e := startEdge(t, "edge", dir, link("hub", p))
		r := e.prepare(remoteOptions{want: wantPipeline("a")}).run()
		e.message(record.Normal, "a", 2)
		r.until("the first are at the hub", r.drained)
		e.message(record.Normal, "b", 20)
		e.waitUntil("the others are passed over", r.drained)
		r.stop()
		if err := e.queue.Log().Purge(t.Context(), e.queue.Log().Durable()+1); err != nil {
			t.Fatal(err)
		}
		before = r.feeds
	})
	e := startEdge(t, "edge", dir, link("hub", p))
	r := e.prepare(remoteOptions{want: wantPipeline("a"), known: before}).run()
	e.message(record.Normal, "a", 3)
	r.until("the last are at the hub", r.drained)
	if got := r.audit("queue/normal"); got.Last != 25 || got.AtHub != 5 || len(got.Gaps)+len(got.HubLost) != 0 {
		t.Errorf("the audit finds %+v", got)
	}
}
