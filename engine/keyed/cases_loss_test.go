package keyed_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/keyed/table"
)

// These cases are about what is lost, restored, full, or broken.

// quick makes a sync look often whether the hub is still the same.
func quick() keyed.SyncOptions {
	return keyed.SyncOptions{Report: 20 * time.Millisecond, ParkFor: 20 * time.Millisecond}
}

func TestCase07TombstoneCollected(t *testing.T) {
	h := startHub(t, t.TempDir())
	for _, policy := range []keyed.OnDelete{keyed.UpdateWins, keyed.DeleteWins} {
		t.Run(string(policy), func(t *testing.T) {
			o := edgeOptions{leaf: h.leaf, name: string(policy), onDelete: policy, chain: []keyed.Resolver{latestWins()}, sync: quick()}
			a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
			for _, key := range []string{"changed", "clean", "kept"} {
				a.put(key, "1")
			}
			quiesced(t, h, a, b)
			b.cut() // for longer than the longest absence
			b.put("changed", "2")
			a.delete("changed")
			a.delete("clean")
			a.drained()

			// While b is registered and has not seen them, they stay.
			soon := time.Now().Add(time.Minute)
			if c := collect(t, h, 24*time.Hour, soon); c.Tombstones != 0 || c.Edges != 0 {
				t.Errorf("too early %+v", c)
			}
			b.pause()
			forget(t, h, string(policy), "b")
			eventually(t, "a is past them", func() bool {
				return collect(t, h, -time.Hour, time.Now()).Edges+1 > 0 && h.count(string(policy)) == 1
			})
			b.mend()
			b.run()
			quiesced(t, h, a, b)
			want := map[keyed.OnDelete]string{keyed.UpdateWins: "2", keyed.DeleteWins: ""}[policy]
			for _, e := range []*testEdge{a, b} {
				if e.get("changed") != want || e.get("clean") != "" || e.get("kept") != "1" {
					t.Errorf("%s has changed=%q clean=%q kept=%q", e.id, e.get("changed"), e.get("clean"), e.get("kept"))
				}
			}
			traces := 0
			for _, e := range b.journal() {
				if e.Key == "clean" || e.Key == "changed" {
					traces++
				}
			}
			if traces != 2 {
				t.Errorf("b's journal: %+v", b.journal())
			}
		})
	}
}

// collect collects as the hub does; everything is as old as absence says.
func collect(t *testing.T, h *testHub, absence time.Duration, now time.Time) keyed.Collected {
	t.Helper()
	c, err := keyed.Collect(within(t), h.nc, "", absence, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forget removes an edge's registration, as its expiry does.
func forget(t *testing.T, h *testHub, store, edge string) {
	t.Helper()
	s, err := h.js.Stream(within(t), "KV_"+keyed.EdgesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(within(t), jetstream.WithPurgeSubject("$KV."+keyed.EdgesBucket+".edge."+store+"."+edge)); err != nil {
		t.Fatal(err)
	}
}

// count is how many keys the hub keeps of a store, tombstones included.
func (h *testHub) count(store string) int {
	h.t.Helper()
	s, err := h.js.Stream(within(h.t), "KV_"+keyed.HubBucket)
	if err != nil {
		h.t.Fatal(err)
	}
	info, err := s.Info(within(h.t), jetstream.WithSubjectFilter("$KV."+keyed.HubBucket+"."+store+".>"))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(info.State.Subjects)
}

func TestCase14HubLost(t *testing.T) {
	o := edgeOptions{chain: []keyed.Resolver{appends()}, sync: quick()}
	// before leaves things at both sides, while runs between the loss and the return.
	for _, c := range []struct {
		name string
		lose func(t *testing.T, h *testHub, backup string)
	}{
		{"deleted and made anew", func(t *testing.T, h *testHub, _ string) {
			for _, stream := range []string{"KV_" + keyed.HubBucket, "KV_" + keyed.EdgesBucket} {
				if err := h.js.DeleteStream(within(t), stream); err != nil {
					t.Fatal(err)
				}
			}
			if err := keyed.Provision(within(t), h.js, 0, 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"restored from a backup", func(t *testing.T, h *testHub, backup string) {
			h.close()
			if err := os.RemoveAll(h.dir); err != nil {
				t.Fatal(err)
			}
			copyDir(t, backup, h.dir)
			h.start()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startHub(t, t.TempDir())
			o := o
			o.leaf = h.leaf
			a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
			a.put("old", `["a1"]`)
			b.put("changed", `["b1"]`)
			a.put("deleted", `["a2"]`)
			quiesced(t, h, a, b)
			backup := t.TempDir()
			h.close()
			copyDir(t, h.dir, backup)
			h.start()
			b.put("changed", `["b1","b2"]`)
			a.put("new", `["a3"]`)
			a.delete("deleted")
			quiesced(t, h, a, b)
			a.cut()
			b.cut()
			a.put("changed", `["b1","b2","a4"]`) // waits while the hub is lost
			c.lose(t, h, backup)
			// Another program gives the lost revisions away again.
			for i := range 5 {
				if _, err := h.bucket().Put(within(t), "s.other", fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
			}
			a.mend()
			b.mend()
			quiesced(t, h, a, b)
			for key, want := range map[string]string{
				"old": `["a1"]`, "changed": `["b1","b2","a4"]`, "new": `["a3"]`, "deleted": "", "other": "4",
			} {
				for _, e := range []*testEdge{a, b} {
					if got := e.get(key); got != want {
						t.Errorf("%s has %s = %s, want %s", e.id, key, got, want)
					}
				}
			}
			equal(t, h, []*testEdge{a, b}, "old", "changed", "new", "deleted", "other")
		})
	}
}

// TestHubMadeAnewUnderneath holds that a hub which is made anew while edges are
// connected is noticed, and nothing is taken for deleted.
func TestHubMadeAnewUnderneath(t *testing.T) {
	h := startHub(t, t.TempDir())
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{latestWins()}, onDelete: keyed.DeleteWins, sync: quick()}
	a := startEdge(t, "a", o).run()
	a.put("k", "1")
	quiesced(t, h, a)
	if err := h.js.DeleteStream(within(t), "KV_"+keyed.HubBucket); err != nil {
		t.Fatal(err)
	}
	if err := keyed.Provision(within(t), h.js, 0, 0); err != nil {
		t.Fatal(err)
	}
	a.put("k", "2")
	eventually(t, "the hub has it again", func() bool { v := h.value("k"); return v != nil && string(v.Body) == "2" })
	quiesced(t, h, a)
	if a.get("k") != "2" {
		t.Errorf("a has %q", a.get("k"))
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestCase15EdgeStoreLost(t *testing.T) {
	h := startHub(t, t.TempDir())
	t.Run("lost", func(t *testing.T) {
		o := edgeOptions{leaf: h.leaf, name: "lost", chain: []keyed.Resolver{appends()}}
		a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
		for i := range 5 {
			a.put("k", fmt.Sprintf(`["%d"]`, i))
		}
		quiesced(t, h, a, b)
		a.close()
		if err := os.RemoveAll(a.dir); err != nil {
			t.Fatal(err)
		}
		a.open()
		a.put("k", `["anew"]`) // its first operation again
		a.run()
		quiesced(t, h, a, b)
		if got := b.get("k"); got != `["4","anew"]` || a.get("k") != got {
			t.Errorf("b has %s, a %s", got, a.get("k"))
		}
	})
	t.Run("restored", func(t *testing.T) {
		o := edgeOptions{leaf: h.leaf, name: "restored", chain: []keyed.Resolver{appends()}}
		a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
		a.put("k", `["0"]`)
		quiesced(t, h, a, b)
		a.cut()
		a.put("k", `["0","pending"]`)
		a.close()
		image := t.TempDir()
		copyDir(t, a.dir, image)
		a.open()
		a.run()
		a.mend()
		quiesced(t, h, a, b)
		a.put("k", `["0","pending","later"]`)
		quiesced(t, h, a, b)
		a.close()
		if err := os.RemoveAll(a.dir); err != nil {
			t.Fatal(err)
		}
		copyDir(t, image, a.dir)
		a.open()
		if got := a.get("k"); got != `["0","pending"]` {
			t.Fatalf("the image has %s", got)
		}
		a.put("k", `["0","pending","anew"]`) // its number was given out before
		a.run()
		quiesced(t, h, a, b)
		equalNamed(t, h, "restored", []*testEdge{a, b}, "k", `["0","pending","later","anew"]`)
	})
}

// flapper is a network between an edge and its hub.
type flapper struct {
	listen net.Listener
	target string
	all    sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]bool
	stall  bool
	slow   time.Duration
	gone   bool
	closed bool
}

func newFlapper(t *testing.T, target string) *flapper {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flapper{listen: l, target: strings.TrimPrefix(target, "nats-leaf://"), conns: map[net.Conn]bool{}}
	f.all.Go(f.accept)
	t.Cleanup(func() {
		f.mu.Lock()
		f.closed = true
		f.mu.Unlock()
		_ = l.Close()
		f.cut()
		f.all.Wait()
	})
	return f
}

func (f *flapper) accept() {
	for {
		from, err := f.listen.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", f.target)
		f.mu.Lock()
		if err != nil || f.closed || f.gone {
			_ = from.Close()
			if err == nil {
				_ = to.Close()
			}
			f.mu.Unlock()
			continue
		}
		f.conns[from], f.conns[to] = true, true
		f.all.Go(func() { f.pump(to, from) })
		f.all.Go(func() { f.pump(from, to) })
		f.mu.Unlock()
	}
}

func (f *flapper) pump(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		f.mu.Lock()
		stall, slow := f.stall, f.slow
		f.mu.Unlock()
		if slow > 0 {
			<-time.After(slow)
		}
		if stall { // what is read now never arrives, and nobody is told
			continue
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return
			}
			return
		}
	}
}

func (f *flapper) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
	clear(f.conns)
}

// away cuts all and lets none in while gone.
func (f *flapper) away(gone bool) {
	f.mu.Lock()
	f.gone = gone
	f.mu.Unlock()
	f.cut()
}

func (f *flapper) set(stall bool, slow time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stall, f.slow = stall, slow
}

// maxSlow is the longest that what is read waits before it is handed on.
const maxSlow = 200 * time.Millisecond

// flaps reads how many more flaps are wanted, of up to ten seconds (make torture).
func flaps(t *testing.T) int {
	t.Helper()
	text := os.Getenv("EDGED_TORTURE_LINKS")
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("EDGED_TORTURE_LINKS: %v", err)
	}
	return n
}

func TestCase17Flapping(t *testing.T) {
	h := startHub(t, t.TempDir())
	network := newFlapper(t, h.leaf)
	o := edgeOptions{leaf: "nats-leaf://" + network.listen.Addr().String(), chain: []keyed.Resolver{appends()}}
	a := startEdge(t, "a", o).run()
	o.leaf = h.leaf
	b := startEdge(t, "b", o).run()
	var want []string
	add := func(e *testEdge, id string) {
		for {
			at, err := e.store.Get(within(t), "k")
			c := keyed.Condition{Match: at.ETag}
			if errors.Is(err, keyed.ErrNotFound) {
				c = keyed.Condition{NoneMatch: "*"}
			}
			list := append(words(at.Body), id)
			if _, err = e.store.Put(within(t), "k", []byte(`["`+strings.Join(list, `","`)+`"]`), c); err == nil {
				want = append(want, id)
				return
			}
		}
	}
	// lasts is as often from 1 ms to 10 ms as from 1 s to 10 s.
	lasts := func(most time.Duration) time.Duration {
		return time.Duration(float64(time.Millisecond) * math.Pow(float64(most/time.Millisecond), rand.Float64()))
	}
	long := flaps(t)
	for i := range 30 + long {
		add(a, fmt.Sprintf("a%d", i))
		add(b, fmt.Sprintf("b%d", i))
		d := lasts(60 * time.Millisecond)
		switch {
		case i >= 30:
			d = lasts(10 * time.Second)
		case i == 20: // away for longer than the first tries to connect again
			d = time.Second
		}
		switch i % 6 {
		case 0, 1: // it comes and goes
			<-time.After(d)
			network.cut()
		case 2: // it is away
			network.away(true)
			<-time.After(d)
			network.away(false)
		case 3: // half open: nothing moves, until the pings notice
			network.set(true, 0)
			<-time.After(d)
			network.set(false, 0)
			network.cut()
		case 4:
			network.set(false, min(d, maxSlow))
		case 5:
			network.set(false, 0)
		}
		if i >= 30 {
			t.Logf("flap %d: %v", i, d.Round(time.Millisecond))
		}
	}
	network.set(false, 0)
	quiesced(t, h, a, b)
	equal(t, h, []*testEdge{a, b}, "k")
	if got := words([]byte(a.get("k"))); len(got) != len(want) {
		t.Errorf("%d of %d operations are included", len(got), len(want))
	}
}

func TestCase18Full(t *testing.T) {
	h := startHub(t, t.TempDir())
	e := startEdge(t, "a", edgeOptions{leaf: h.leaf, maxBytes: 4 << 20, chain: []keyed.Resolver{latestWins()}}).run()
	body := []byte(`"` + strings.Repeat("x", 100<<10) + `"`)
	n := 0
	for ; ; n++ {
		_, err := e.store.Put(within(t), fmt.Sprint(n), body, keyed.Condition{})
		if errors.Is(err, table.ErrFull) {
			if !strings.Contains(err.Error(), "full") {
				t.Errorf("the reason is %v", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 5 {
		t.Errorf("only %d values fit", n)
	}
	quiesced(t, h, e) // what was taken is synced all the same
	for i := range n {
		e.delete(fmt.Sprint(i))
	}
	quiesced(t, h, e)
	for i := range 4 * n { // and again and again, in the room that is freed
		if _, err := e.store.Put(within(t), fmt.Sprint(i%(n/3)), fmt.Appendf(nil, `"%d%s"`, i, body[1:len(body)-1]), keyed.Condition{}); err != nil {
			t.Fatalf("put %d after room was made: %v", i, err)
		}
	}
	quiesced(t, h, e)
	if used, err := dirSize(filepath.Join(e.dir, "jetstream")); err != nil || used > 64<<20 {
		t.Errorf("%d bytes on the disk, %v", used, err)
	}
}

func dirSize(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // files come and go
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size, err
}
