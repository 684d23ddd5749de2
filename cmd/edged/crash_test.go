package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
)

// Environment variables of the long form (make torture).
const (
	roundsVariable = "EDGED_TORTURE_ROUNDS" // kills of the edge
	seedVariable   = "EDGED_TORTURE_SEED"
	defaultRounds  = 20
)

// crash is one edge that is killed again and again until it is through, and
// then from the beginning, until it was killed often enough.
type crash struct {
	t       *testing.T
	rng     *rand.Rand
	rounds  int
	done    int            // kills so far
	hubDone int            // kills of the hub so far
	phases  map[string]int // where the kills hit
	hub     *hubProcess    // nil: the hub is in the edge's process
	dir     string         // of this cycle
}

// TestKill9 holds I2 where it is hardest: the process is killed at random
// moments of every phase, and in the end the hub has everything once.
func TestKill9(t *testing.T) {
	for name, separate := range map[string]bool{"embedded hub": false, "hub process": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &crash{t: t, rounds: defaultRounds, phases: map[string]int{}}
			if v := os.Getenv(roundsVariable); v != "" {
				var err error
				if c.rounds, err = strconv.Atoi(v); err != nil {
					t.Fatalf("%s: %v", roundsVariable, err)
				}
			}
			seed := uint64(time.Now().UnixNano())
			if v := os.Getenv(seedVariable); v != "" {
				var err error
				if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
					t.Fatalf("%s: %v", seedVariable, err)
				}
			}
			t.Logf("%s=%d", seedVariable, seed)
			c.rng = rand.New(rand.NewPCG(seed, 0))
			for cycle := 0; c.done < c.rounds; cycle++ {
				c.cycle(cycle, separate)
			}
			t.Logf("killed the edge %d times: %v; the hub %d times", c.done, c.phases, c.hubDone)
			if separate && c.hubDone == 0 {
				t.Error("the hub was never killed")
			}
		})
	}
}

// cycle takes the readings from nothing to the hub.
func (c *crash) cycle(n int, separate bool) {
	c.dir = filepath.Join(c.t.TempDir(), fmt.Sprintf("cycle%d", n))
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	remote := "embedded = true"
	var hubKiller chan struct{}
	if separate {
		hubDir := filepath.Join(c.dir, "hub")
		c.hub = launchHub(c.t, hubDirMade(c.t, hubDir))
		remote = fmt.Sprintf("urls = [%q]", "nats-leaf://"+c.hub.leaf)
		hubKiller = make(chan struct{})
	}
	pipeline := writeFile(c.t, filepath.Join(c.dir, "crash.hcl"), crashPipeline(c.t, remote))
	dataDir := filepath.Join(c.dir, "data")
	args := []string{"run", pipeline, "--until-drained", "--json", "--no-progress", "--data-dir", dataDir}

	killed := make(chan int, 1)
	if separate {
		rng := rand.New(rand.NewPCG(c.rng.Uint64(), 1))
		go func() { killed <- killHub(c.hub, rng, hubKiller) }()
	}
	var last *process
	for i := 0; ; i++ {
		last = launch(c.t, c.dir, args...)
		if c.done >= c.rounds || i >= len(moments) {
			break
		}
		phase := moments[i](c, last, dataDir)
		if !last.running() {
			break // it was through before its moment came
		}
		last.kill()
		c.done++
		c.phases[phase]++
	}
	if separate {
		close(hubKiller)
		c.hubDone += <-killed
	}
	last.wait(5 * time.Minute)
	c.checkEnd(last, dataDir)
	if separate {
		c.hub.stop(os.Interrupt)
	}
}

func hubDirMade(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkEnd holds the summary, and what an independent client finds.
func (c *crash) checkEnd(p *process, dataDir string) {
	c.t.Helper()
	got := summaryOf(c.t, p.stdout.String())
	got.ElapsedSeconds, got.ThisRun = 0, engine.Counts{}
	want := engine.Summary{
		Counts: engine.Counts{
			Collected: allRecords, Transformed: allRecords, Stored: allRecords, Messages: allMessages,
			SyncedRecords: allRecords, SyncedMessages: allMessages,
		},
		Audited: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("summary (-want +got):\n%s\nstderr: %s", diff, tailOf(p.stderr.String()))
	}
	hub := c.hub
	if hub == nil { // its data is below the edge's
		hub = launchHub(c.t, filepath.Join(dataDir, "hub-hub"))
		defer hub.stop(os.Interrupt)
	}
	checkArrived(c.t, "nats://"+hub.client)
}

// killHub kills the hub at random moments and starts it again until stop is
// closed; it returns how often.
func killHub(h *hubProcess, rng *rand.Rand, stop <-chan struct{}) int {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return n
		case <-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond):
		}
		h.kill()
		p, err := spawn(h.t, h.dir, h.args()...)
		if err != nil {
			h.t.Error(err)
			return n
		}
		h.process = p
		// However slow the machine is, the edge must have a chance between two kills.
		tick := time.NewTicker(5 * time.Millisecond)
		for p.running() && !strings.Contains(p.stdout.String(), h.client) {
			select {
			case <-tick.C:
			case <-p.ended:
			case <-stop:
				tick.Stop()
				return n + 1
			}
		}
		tick.Stop()
	}
}

// moments wait for a moment to kill the process and name its phase. They
// return early when it ends.
var moments = []func(c *crash, p *process, dataDir string) string{
	storing, starting, storing, anyTime, syncing, starting, syncing, stopping,
}

// starting: locking, recovering, loading plugins.
func starting(c *crash, p *process, _ string) string {
	c.pause(p, 250)
	return "starting"
}

func anyTime(c *crash, p *process, _ string) string {
	c.pause(p, 2000)
	return "any time"
}

// storing: while records are collected and messages move to the queue.
func storing(c *crash, p *process, dataDir string) string {
	var target uint64
	c.watch(p, dataDir, func(s engine.Status) bool {
		if target == 0 {
			target = s.Totals.Stored + 1 + c.rng.Uint64N(max(allRecords-s.Totals.Stored, 1))
		}
		return s.Totals.Stored >= min(target, allRecords)
	})
	return "storing"
}

func syncing(c *crash, p *process, dataDir string) string {
	var target uint64
	c.watch(p, dataDir, func(s engine.Status) bool {
		if target == 0 {
			target = s.Totals.SyncedRecords + 1 + c.rng.Uint64N(5000)
		}
		return s.Totals.SyncedRecords >= min(target, allRecords)
	})
	return "syncing"
}

// stopping: everything is synced; the summary is made and parts are closed.
func stopping(c *crash, p *process, dataDir string) string {
	c.watch(p, dataDir, func(s engine.Status) bool { return s.Waiting == 0 && s.Totals.Stored == allRecords })
	c.pause(p, 60)
	return "stopping"
}

// pause waits for up to so many milliseconds.
func (c *crash) pause(p *process, most int) {
	select {
	case <-time.After(time.Duration(c.rng.IntN(most*1000)) * time.Microsecond):
	case <-p.ended:
	}
}

// watch waits until the status is as wanted.
func (c *crash) watch(p *process, dataDir string, reached func(engine.Status) bool) {
	c.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Minute); p.running(); <-tick.C {
		if s, ok := statusOf(dataDir); ok && reached(s) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no progress\nstderr: %s", tailOf(p.stderr.String()))
		}
	}
}

// crashPipeline is the quickstart with small batches that go at once, so that
// there is something to kill in every phase.
func crashPipeline(t *testing.T, remote string) string {
	t.Helper()
	data, err := filepath.Abs(filepath.FromSlash(readingsFile))
	if err != nil {
		t.Fatal(err)
	}
	text := readFile(t, filepath.Join(repository, "pipelines", "quickstart.hcl"))
	for _, change := range [][2]string{
		{`env("EDGED_DEVICE_ID", hostname())`, `"edge.1"`},
		{`embedded = true`, remote},
		{`"data/sensors-multi-hop.csv"`, strconv.Quote(data)},
		{`max_records = 500`, `max_records = 60`},
	} {
		if !strings.Contains(text, change[0]) {
			t.Fatalf("the quickstart has no %s", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return text
}
