package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
)

// trouble is what a link suffers for a while.
type trouble struct {
	name   string
	cut    bool     // the link is gone: connections end, new ones are refused
	toxics []string // else: what toxiproxy does to it, as its API has it
	up     []string // to what the edge sends; toxics are to what it receives
	lasts  time.Duration
}

// toxic writes a toxic for toxiproxy's API.
func toxic(kind, attributes string) string {
	return fmt.Sprintf(`{"type": %q, "attributes": {%s}, "stream": "%%s", "name": "%s_%%s"}`, kind, attributes, kind)
}

// troubles are those of the short form; each lasts long enough to be noticed.
func troubles() []trouble {
	latency := toxic("latency", `"latency": 250, "jitter": 200`)
	slow := toxic("bandwidth", `"rate": 24`) // KB/s
	silence := toxic("timeout", `"timeout": 0`)
	slices := toxic("slicer", `"average_size": 48, "size_variation": 32, "delay": 20`)
	reset := toxic("reset_peer", `"timeout": 20`)
	return []trouble{
		{name: "cut for 1 ms", cut: true, lasts: time.Millisecond},
		{name: "cut for 50 ms", cut: true, lasts: 50 * time.Millisecond},
		{name: "cut for 2 s", cut: true, lasts: 2 * time.Second},
		{name: "far", toxics: []string{latency}, up: []string{latency}, lasts: 2 * time.Second},
		{name: "narrow", toxics: []string{slow}, up: []string{slow}, lasts: 2 * time.Second},
		{name: "half open: the hub is not heard", toxics: []string{silence}, lasts: time.Second},
		{name: "half open: the edge is not heard", up: []string{silence}, lasts: time.Second},
		{name: "dead without a word", toxics: []string{silence}, up: []string{silence}, lasts: time.Second},
		{name: "reset", up: []string{reset}, lasts: time.Second},
		{name: "in slices", toxics: []string{slices}, up: []string{slices}, lasts: time.Second},
		{name: "far, narrow and in slices", toxics: []string{latency, slow}, up: []string{latency, slow, slices}, lasts: 2 * time.Second},
	}
}

// badLink is a toxiproxy in this process.
type badLink struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

func newBadLink(t *testing.T, name, upstream string) *badLink {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &badLink{t: t, proxy: toxiproxy.NewProxy(api, name, "127.0.0.1:0", upstream)}
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
	return l
}

// suffer puts the link into trouble and returns how to heal it.
func (l *badLink) suffer(tr trouble) (heal func()) {
	l.t.Helper()
	if tr.cut {
		l.proxy.Stop()
		return func() {
			if err := l.proxy.Start(); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	for stream, toxics := range map[string][]string{"downstream": tr.toxics, "upstream": tr.up} {
		for _, text := range toxics {
			if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(text, stream, stream))); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	return func() { l.proxy.Toxics.ResetToxics(context.WithoutCancel(l.t.Context())) }
}

// linkRig is an edge with two pipelines, one to a hub and one to an HTTP API,
// both behind bad links.
type linkRig struct {
	*rig
	run       *running
	hub, api  *hub.Hub
	links     []*badLink
	collected int // records of each pipeline
}

const linkPipelines = `
edge { device_id = "edge" }
remote "nats" "hub" {
  urls = ["nats-leaf://%[1]s"]
  %[3]s
}
remote "http" "cloud" {
  url = "http://%[2]s"
  %[3]s
}
pipeline "to_hub" {
  collect "file" "f" {
    path   = %[4]s
    follow = true
    poll   = "10ms"
  }
  alert "tenth" {
    when     = record.payload.n %% 10 == 0
    priority = "critical"
  }
  batch { max_wait = "50ms" }
  sync { to = remote.nats.hub }
}
pipeline "to_api" {
  collect "file" "f" {
    path   = %[5]s
    follow = true
    poll   = "10ms"
  }
  alert "tenth" {
    when     = record.payload.n %% 10 == 0
    priority = "critical"
  }
  batch { max_wait = "50ms" }
  sync { to = remote.http.cloud }
}`

// newLinkRig starts all of it; more is written into both remotes.
func newLinkRig(t *testing.T, more string) *linkRig {
	r := &linkRig{rig: newRig(t)}
	start := func() *hub.Hub {
		h, err := hub.Start(t.Context(), hub.Options{
			LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", HTTPListen: "127.0.0.1:0", DataDir: t.TempDir(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
		return h
	}
	r.hub, r.api = start(), start()
	leaf := newBadLink(t, "leaf", strings.TrimPrefix(r.hub.LeafURL(), "nats-leaf://"))
	http := newBadLink(t, "http", strings.TrimPrefix(r.api.HTTPURL(), "http://"))
	r.links = []*badLink{leaf, http}
	r.run = r.start(false, fmt.Sprintf(linkPipelines, leaf.proxy.Listen, http.proxy.Listen, more, r.file("hub.ndjson", ""), r.file("api.ndjson", "")), nil)
	return r
}

// TestMaxRate holds that both kinds of remote keep to their rate, and that it
// does not keep the alarms.
func TestMaxRate(t *testing.T) {
	t.Parallel()
	r := newLinkRig(t, `max_rate = "12KiB/s"`)
	begun := time.Now()
	r.collect(600)
	r.drains("at a small rate", 2*time.Minute)
	r.holds()
	// Bodies to the API are compressed; what goes to the hub is at least the records.
	least := time.Duration(len(linesFrom("r", 1, 600))) * time.Second / (12 << 10)
	if took := time.Since(begun); took < least-time.Second {
		t.Errorf("it took %v, want %v at least", took, least)
	}
	r.run.stop()
}

// TestMessagesForOthersAreNoGap raises alarms for one remote only, and asks the
// other's ledger about them.
func TestMessagesForOthersAreNoGap(t *testing.T) {
	t.Parallel()
	r := newLinkRig(t, "")
	r.append("api.ndjson", linesFrom("r", 1, 100))
	r.collected = 50 // of each, on average
	r.drains("with alarms for one", time.Minute)
	if s := r.run.stop(); !s.Audited || s.Gaps != 0 || s.SyncedMessages != 10 {
		t.Errorf("the summary says %+v", s)
	}
}

// collect adds n records to each pipeline.
func (r *linkRig) collect(n int) {
	r.t.Helper()
	text := linesFrom("r", r.collected+1, r.collected+n)
	r.collected += n
	r.append("hub.ndjson", text)
	r.append("api.ndjson", text)
}

// drains waits until everything is stored and nothing waits any more.
func (r *linkRig) drains(what string, bound time.Duration) time.Duration {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for ; ; <-tick.C {
		s := r.run.Status()
		if s.Totals.Stored == uint64(2*r.collected) && s.Waiting == 0 {
			return time.Since(begun)
		}
		if time.Since(begun) > bound {
			r.t.Fatalf("%s: %v after healing there waits %d of %d; %+v", what, bound, s.Waiting, s.Totals.Stored, s.Remotes)
		}
	}
}

// holds fails unless each side has every record and message once, in order.
func (r *linkRig) holds() {
	r.t.Helper()
	want := numbered("r", r.collected)
	for name, ids := range map[string][]string{"to_hub": arrivedIDs(r.t, r.hub, "to_hub"), "to_api": arrivedIDs(r.t, r.api, "to_api")} {
		if !slices.Equal(want, ids) {
			r.t.Errorf("%s: %d records arrived of %d, or in another order: %s", name, len(ids), len(want), cmp.Diff(want, ids)[:400])
		}
	}
	for name, h := range map[string]*hub.Hub{"hub": r.hub, "API": r.api} {
		if n := arrivedMessages(r.t, h); n != r.collected/10 {
			r.t.Errorf("%d alarms at the %s, want %d", n, name, r.collected/10)
		}
	}
}

// arrivedMessages counts the alarms that a hub has, and fails when one is there
// twice.
func arrivedMessages(t *testing.T, h *hub.Hub) int {
	t.Helper()
	nc, err := nats.Connect(h.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "EDGED_QUEUE")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(msg.Subject, "edged.hub.queue.") {
			continue
		}
		var m record.Message
		if err := json.Unmarshal(msg.Data, &m); err != nil {
			t.Fatal(err)
		}
		if ids[m.ID] {
			t.Errorf("the alarm %s is there twice", m.ID)
		}
		ids[m.ID] = true
	}
	return len(ids)
}

// memory watches the heap until stop, which returns the most that was in use.
func memory() (stop func() uint64) {
	done, ended := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var most uint64
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-tick.C:
			case <-done:
				ended <- most
				return
			}
		}
	}()
	return gosync.OnceValue(func() uint64 { close(done); return <-ended })
}

// mostMemory bounds the heap of this process: an edge, two hubs and the proxies.
const mostMemory = 400 << 20

// TestBadLinks puts the links of an edge into every kind of trouble while it
// collects, heals them, and holds that everything is at both hubs soon, once and
// in order. EDGED_TORTURE_LINKS=n goes on with n troubles at random, of up to two
// minutes each.
func TestBadLinks(t *testing.T) {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	// Not in parallel: the heap that is measured is that of the whole process.
	r := newLinkRig(t, "")
	used := memory()
	defer used()
	suffer := func(tr trouble, records int, bound time.Duration) {
		r.collect(records / 2)
		var heal []func()
		for _, l := range r.links {
			heal = append(heal, l.suffer(tr))
		}
		healed := time.After(tr.lasts)
		r.collect(records - records/2)
		<-healed
		for _, h := range heal {
			h()
		}
		took := r.drains(tr.name, bound)
		t.Logf("%s for %v: drained %v after it healed", tr.name, tr.lasts, took.Round(time.Millisecond))
	}
	for _, tr := range troubles() {
		suffer(tr, 400, 2*time.Minute)
	}
	for i := range tortureRounds(t, "EDGED_TORTURE_LINKS") {
		tr := troubles()[rand.IntN(len(troubles()))]
		tr.lasts = time.Duration(rand.ExpFloat64() * float64(10*time.Second))
		tr.lasts = min(tr.lasts, 2*time.Minute)
		tr.name = fmt.Sprintf("round %d: %s", i, tr.name)
		// Alarms go to an API one by one: some hundreds take a while.
		suffer(tr, rand.IntN(5_000)/10*10, 10*time.Minute)
	}
	r.holds()
	most := used()
	t.Logf("at most %d MiB of the heap were in use", most>>20)
	if most > mostMemory {
		t.Errorf("want %d MiB at most", mostMemory>>20)
	}
	s := r.run.stop()
	if s.Gaps+s.Duplicates != 0 {
		t.Errorf("the summary says %+v", s)
	}
}

// tortureRounds reads how many more rounds are wanted.
func tortureRounds(t *testing.T, name string) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
