package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/edged/edged/engine"
)

const (
	powerCuts       = 8 // of the edge, unless EDGED_TORTURE_ROUNDS says otherwise
	powerCutPosters = 4
)

// lossErrors are what the edge says when its store went back in time.
var lossErrors = []string{"the local store has lost acknowledged records", "the hub has records that this edge's store has lost"}

// powerCut is an edge whose data is on a disk that loses, at each cut, what was
// not flushed. Programs post records to it all the while, each record once.
type powerCut struct {
	t      *testing.T
	rng    *rand.Rand
	disk   *disk
	dir    string // where the disk is mounted
	server *fuse.Server
	hub    *hubProcess
	edge   *process
	url    string

	pipeline string // its text, but for max_bytes
	pad      string // makes every record larger
	reported int    // losses that the edge told of

	posters sync.WaitGroup
	posted  atomic.Int64 // ids are r-1 to r-posted
	mu      sync.Mutex
	acked   []string // ids of records that were answered with 200
}

// TestPowerCut holds I1 and I2 where only the disk can break them: what was
// acknowledged before a power cut is at the hub, once, at the end.
func TestPowerCut(t *testing.T) {
	withFUSE(t)
	t.Parallel()
	rounds := powerCuts
	if v := os.Getenv(roundsVariable); v != "" {
		var err error
		if rounds, err = strconv.Atoi(v); err != nil {
			t.Fatalf("%s: %v", roundsVariable, err)
		}
	}
	const perEdge = 40 // then a new one, or draining would take most of the time
	for done := 0; done < rounds; done += perEdge {
		t.Run(fmt.Sprintf("from %d", done), func(t *testing.T) { cutPower(t, min(perEdge, rounds-done)) })
	}
}

func cutPower(t *testing.T, rounds int) {
	p := newPowerCut(t, "fsync")
	for round := range rounds {
		p.round(round, true)
	}
	s := p.drain()
	got := p.arrived()
	t.Logf("fsync: %d power cuts, %d acknowledged: %+v", rounds, len(p.acked), got)
	if got != (wrong{}) {
		t.Errorf("of %d acknowledged records at the hub: %+v", len(p.acked), got)
	}
	if !s.Audited || s.Gaps != 0 || s.Duplicates != 0 || s.Waiting != 0 {
		t.Errorf("summary %+v", s)
	}
}

// TestPowerCutRelaxed is the control: without a flush before the answer the
// same cuts do lose records, so that finding none above means something. And
// where the edge can know of a loss it says so (I7).
func TestPowerCutRelaxed(t *testing.T) {
	withFUSE(t)
	t.Parallel()
	p := newPowerCut(t, "relaxed")
	// At once, so that the hub often has what the disk has not.
	p.pipeline = strings.Replace(p.pipeline, "    every = \"300ms\"\n", "", 1)
	p.pipeline = strings.Replace(p.pipeline, "  sync {", "  batch {\n    max_wait = \"5ms\"\n  }\n  sync {", 1)
	const least, most = 6, 30
	rounds := 0
	for rounds < least || p.reported == 0 && rounds < most {
		p.round(rounds, false)
		rounds++
	}
	s := p.drain()
	got := p.arrived()
	t.Logf("relaxed: %d power cuts, %d acknowledged: %+v; the edge reported %d losses, its audit %d gaps and %d duplicates",
		rounds, len(p.acked), got, p.reported, s.Gaps, s.Duplicates)
	if got.recordsMissing == 0 {
		t.Error("nothing was lost without flushes: this test would not see a loss")
	}
	if p.reported == 0 {
		t.Error("the edge told of no loss")
	}
	// What it promises all the same: nothing comes twice, and the ledger has no hole.
	if got.recordsTwice > 0 || !s.Audited || s.Gaps+s.Duplicates > 0 || s.Waiting != 0 {
		t.Errorf("of %d acknowledged records at the hub: %+v; summary %+v", len(p.acked), got, s)
	}
}

func newPowerCut(t *testing.T, durability string) *powerCut {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv(seedVariable); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	dir := t.TempDir()
	addr := freeAddresses(t, 1)[0]
	p := &powerCut{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), disk: newDisk(), dir: filepath.Join(dir, "disk"), url: "http://" + addr + "/records",
		hub: launchHub(t, hubDirMade(t, filepath.Join(dir, "hub"))),
	}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.pipeline = fmt.Sprintf(`
edge {
  device_id  = "edge 1"
  durability = %q
  max_bytes  = "%%dMiB"
}
remote "nats" "hub" {
  urls = ["nats-leaf://%s"]
}
pipeline "p" {
  collect "http" "gateway" {
    listen    = %q
    id        = "r-${input.n}"
    data_type = "reading"
    wait      = "500ms"
  }
  alert "hot" {
    when     = record.payload.n %%%% 10 == 0
    topic    = "alerts"
    message  = { n = record.payload.n }
  }
  sync {
    to    = remote.nats.hub
    every = "300ms"
  }
}
`, durability, p.hub.leaf, addr)
	t.Cleanup(func() { p.powerOff(nil) })
	p.server = p.disk.mustMount(t, p.dir)
	return p
}

// launch starts the edge with a configuration that changes its streams each
// time, so that cuts hit that too.
func (p *powerCut) launch(round int) {
	p.t.Helper()
	dir := filepath.Dir(p.dir)
	pipeline := writeFile(p.t, filepath.Join(dir, "powercut.hcl"), fmt.Sprintf(p.pipeline, 512+round))
	p.edge = launch(p.t, dir, "run", pipeline, "--json", "--no-progress", "--data-dir", p.dataDir())
}

func (p *powerCut) dataDir() string { return filepath.Join(p.dir, "data") }

// round runs the edge until the power is cut, in the middle of an operation on
// the disk, and brings the disk to what is left.
func (p *powerCut) round(n int, mayTear bool) {
	p.t.Helper()
	after := 1 + p.rng.IntN(2000)
	if n%4 == 3 {
		after = 1 + p.rng.IntN(100) // while it starts and recovers
	}
	p.disk.arm(after)
	p.startPosting(n)
	limit := time.After(2 * time.Minute)
	select {
	case <-p.disk.cut:
	case <-p.edge.ended:
		p.t.Errorf("round %d: the edge did not go on after a power cut: %v\n%s", n, p.edge.err, tailOf(p.edge.stderr.String()))
	case <-limit:
		p.t.Errorf("round %d: the edge wrote less than %d times in two minutes\n%s", n, after, tailOf(p.edge.stderr.String()))
	}
	var torn *rand.Rand
	if mayTear && p.rng.IntN(3) > 0 {
		torn = rand.New(rand.NewPCG(p.rng.Uint64(), 0))
	}
	p.powerOff(torn)
	p.posters.Wait()
	p.account()
	p.t.Logf("round %d: cut at operation %d, torn %t, %d acknowledged so far", n, after, torn != nil, len(p.acked))
	if p.t.Failed() {
		p.t.FailNow()
	}
	p.server = p.disk.mustMount(p.t, p.dir)
}

// startPosting launches the edge and posts to it while it runs.
func (p *powerCut) startPosting(round int) {
	p.t.Helper()
	p.launch(round)
	for range powerCutPosters {
		sizes := rand.New(rand.NewPCG(p.rng.Uint64(), 0))
		p.posters.Go(func() { p.post(sizes) })
	}
}

// stopPosting kills the edge.
func (p *powerCut) stopPosting() {
	p.t.Helper()
	p.edge.kill()
	p.posters.Wait()
	p.account()
}

// powerOff kills the edge and takes back what its disk had not made durable.
func (p *powerCut) powerOff(torn *rand.Rand) {
	p.t.Helper()
	if p.edge != nil {
		// The signal first: a frozen operation ends only when thaw answers it,
		// and by then the process must not be able to act on the answer.
		if p.edge.running() {
			if err := p.edge.cmd.Process.Kill(); err != nil {
				p.t.Error(err)
			}
		}
	}
	if p.server == nil {
		return
	}
	p.disk.thaw(torn)
	if p.edge != nil {
		<-p.edge.ended
	}
	if err := p.server.Unmount(); err != nil {
		p.t.Error(err)
	}
	p.server = nil
}

// account notes what the edge said of losses, and shows its troubles.
func (p *powerCut) account() {
	for line := range strings.Lines(p.edge.stderr.String()) {
		for _, said := range lossErrors {
			if strings.Contains(line, said) {
				p.reported++
			}
		}
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
			p.t.Logf("edge: %s", strings.TrimSpace(line))
		}
	}
}

// post sends requests until the edge is gone. A record is never sent twice, so
// that none may be at the hub twice.
func (p *powerCut) post(rng *rand.Rand) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for p.edge.running() {
		var ids []string
		var body strings.Builder
		for range 1 + rng.IntN(20) {
			n := p.posted.Add(1)
			ids = append(ids, fmt.Sprintf("r-%d", n))
			fmt.Fprintf(&body, "{\"n\":%d,\"pad\":%q}\n", n, p.pad)
		}
		if p.take(client, body.String()) {
			p.mu.Lock()
			p.acked = append(p.acked, ids...)
			p.mu.Unlock()
			continue
		}
		select {
		case <-pause.C: // it starts, or is no more
		case <-p.edge.ended:
		}
	}
}

// take reports whether the edge acknowledged a request.
func (p *powerCut) take(client *http.Client, body string) bool {
	resp, err := client.Post(p.url, "application/x-ndjson", strings.NewReader(body))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// drain runs the edge with the power on until everything is at the hub.
func (p *powerCut) drain() engine.Summary {
	p.t.Helper()
	p.disk.arm(0)
	p.launch(-1)
	eventually(p.t, "everything is at the hub", func() bool {
		if !p.edge.running() {
			p.t.Fatalf("the edge ended: %v\n%s", p.edge.err, tailOf(p.edge.stderr.String()))
		}
		s, ok := statusOf(p.dataDir())
		return ok && remoteIs("online")(s) && s.Waiting == 0
	})
	if err := p.edge.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.edge.ended: // with what the audit found as exit code
	case <-time.After(time.Minute):
		p.t.Fatalf("the edge does not stop\n%s", tailOf(p.edge.stderr.String()))
	}
	p.account()
	return summaryOf(p.t, p.edge.stdout.String())
}

// arrived counts, with an independent client, what is wrong at the hub: records
// that were acknowledged and are not there, and records and messages that are
// there twice. Every tenth record has a message, which belongs to its promise.
func (p *powerCut) arrived() (w wrong) {
	p.t.Helper()
	records, messages := map[string]int{}, map[string]int{}
	for _, data := range readHub(p.t, "nats://"+p.hub.client, "EDGED_RECORDS", "edged.hub.records.>") {
		var r struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(data, &r); err != nil {
			p.t.Fatal(err)
		}
		if records[r.ID]++; records[r.ID] == 2 {
			w.recordsTwice++
		}
	}
	for _, data := range readHub(p.t, "nats://"+p.hub.client, "EDGED_QUEUE", "edged.hub.queue.>") {
		var m struct {
			Body struct {
				N int `json:"n"`
			} `json:"body"`
		}
		if err := json.Unmarshal(data, &m); err != nil {
			p.t.Fatal(err)
		}
		id := fmt.Sprintf("r-%d", m.Body.N)
		if messages[id]++; messages[id] == 2 {
			w.messagesTwice++
		}
	}
	if len(p.acked) == 0 || len(messages) == 0 {
		p.t.Errorf("%d records were acknowledged, %d messages arrived", len(p.acked), len(messages))
	}
	for _, id := range p.acked {
		if records[id] == 0 {
			w.recordsMissing++
		}
		if strings.HasSuffix(id, "0") && messages[id] == 0 {
			w.messagesMissing++
		}
	}
	return w
}

// wrong counts what a hub does not have once.
type wrong struct{ recordsMissing, recordsTwice, messagesMissing, messagesTwice int }

// TestDisk holds the model itself, through the kernel: each case leaves
// something, and says what must be there after a cut.
func TestDisk(t *testing.T) {
	withFUSE(t)
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string)
		want []string
	}{
		"not flushed": {func(t *testing.T, dir string) { writeFile(t, dir+"/a", "new") }, nil},
		"flushed":     {func(t *testing.T, dir string) { flushed(t, dir+"/a", "new") }, []string{"a=new"}},
		"written after the flush": {func(t *testing.T, dir string) {
			flushed(t, dir+"/a", "old")
			writeFile(t, dir+"/a", "newer")
		}, []string{"a=old"}},
		"the directory alone": {func(t *testing.T, dir string) {
			writeFile(t, dir+"/a", "new")
			flushDir(t, dir)
		}, []string{"a="}},
		"in new directories": {func(t *testing.T, dir string) {
			if err := os.MkdirAll(dir+"/x/y", 0o755); err != nil {
				t.Fatal(err)
			}
			flushed(t, dir+"/x/y/a", "new")
		}, []string{"x/y/a=new"}},
		"renamed": {func(t *testing.T, dir string) {
			flushed(t, dir+"/a", "old")
			flushed(t, dir+"/tmp", "new")
			renamed(t, dir+"/tmp", dir+"/a")
		}, []string{"a=old", "tmp=new"}},
		"renamed, directory flushed": {func(t *testing.T, dir string) {
			flushed(t, dir+"/a", "old")
			flushed(t, dir+"/tmp", "new")
			renamed(t, dir+"/tmp", dir+"/a")
			flushDir(t, dir)
		}, []string{"a=new"}},
		"renamed, directory flushed, content not": {func(t *testing.T, dir string) {
			flushed(t, dir+"/a", "old")
			writeFile(t, dir+"/tmp", "new")
			renamed(t, dir+"/tmp", dir+"/a")
			flushDir(t, dir)
		}, []string{"a="}},
		"name used again": {func(t *testing.T, dir string) {
			flushed(t, dir+"/a", "first")
			renamed(t, dir+"/a", dir+"/b")
			flushed(t, dir+"/a", "second")
		}, []string{"a=second", "b=first"}},
		"removed": {func(t *testing.T, dir string) {
			flushed(t, dir+"/a", "old")
			if err := os.Remove(dir + "/a"); err != nil {
				t.Fatal(err)
			}
		}, []string{"a=old"}},
		"synchronous": {func(t *testing.T, dir string) {
			f, err := os.OpenFile(dir+"/a", os.O_CREATE|os.O_WRONLY|os.O_SYNC, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("new"); err != nil {
				t.Fatal(err)
			}
		}, []string{"a=new"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, d := t.TempDir(), newDisk()
			server := d.mustMount(t, dir)
			c.do(t, dir)
			if err := server.Unmount(); err != nil {
				t.Fatal(err)
			}
			d.thaw(nil)
			if got := d.root.list(""); !slices.Equal(got, c.want) {
				t.Errorf("a cut leaves %q, want %q", got, c.want)
			}
		})
	}
}

func (n *inode) list(prefix string) (all []string) {
	for name, child := range n.entries {
		if child.entries != nil {
			all = append(all, child.list(prefix+name+"/")...)
		} else {
			all = append(all, prefix+name+"="+string(child.data))
		}
	}
	slices.Sort(all)
	return all
}

func flushed(t *testing.T, name, content string) {
	t.Helper()
	writeFile(t, name, content)
	flushDir(t, name)
}

// flushDir is fsync, of a file as well.
func flushDir(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func renamed(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
