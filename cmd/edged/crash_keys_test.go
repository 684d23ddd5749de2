package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
)

// keysKills is how often TestKill9Keys kills the edge.
const keysKills = 8

// TestKill9Keys holds that a record and what it did to a plugin's keys are both
// there after a kill or both not: a plugin that sums up five records of a device
// at a time comes to the same sums, over the same records, whenever it was
// killed. One update lost or made twice would shift every window behind it.
func TestKill9Keys(t *testing.T) {
	t.Parallel()
	const records, devices = 200_000, 7
	dir := t.TempDir()
	var input strings.Builder
	var want []string
	type window struct{ n, sum int }
	windows := map[int]window{}
	for i := range records {
		fmt.Fprintf(&input, `{"id":"r%d","device_id":"d%d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d}}`+"\n", i, i%devices, i)
		w := windows[i%devices]
		w = window{w.n + 1, w.sum + i}
		if w.n == 5 {
			want = append(want, fmt.Sprintf("r%d d%d %d", i, i%devices, w.sum))
			w = window{}
		}
		windows[i%devices] = w
	}
	writeFile(t, filepath.Join(dir, "in.ndjson"), input.String())
	pipeline := writeFile(t, filepath.Join(dir, "p.hcl"), `
plugin "aggregate" {
  module = "builtin:aggregate"
  allow  = ["kv"]
  config = { fields = ["n"], records = 5, calculate = ["sum"], decimals = 0 }
}
pipeline "p" {
  collect "file" "f" { path = "in.ndjson" }
  transform "sum" { plugin = plugin.aggregate }
}`)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dataDir := filepath.Join(dir, "data")
	c := &crash{t: t, rng: rng}
	var collected uint64
	for i := range uint64(keysKills) {
		p := launch(t, dir, "run", pipeline, "--data-dir", dataDir, "--no-progress")
		// Somewhere in the next part of the input.
		target := collected + 1 + rng.Uint64N(records/keysKills)
		c.watch(p, dataDir, func(s engine.Status) bool {
			collected = s.Totals.Collected
			return collected >= min(target, records*(i+1)/(keysKills+1))
		})
		p.kill()
	}
	if collected >= records {
		t.Errorf("it was through before the last kill")
	}
	last := launch(t, dir, "run", pipeline, "--data-dir", dataDir, "--no-progress", "--until-drained", "--json")
	last.wait(5 * time.Minute)
	if s := summaryOf(t, last.stdout.String()); s.Collected != records || s.Stored != uint64(len(want)) {
		t.Errorf("summary %+v", s)
	}
	if diff := cmp.Diff(want, exportedSums(t, dir, dataDir)); diff != "" {
		t.Errorf("sums (-want +got):\n%.2000s", diff)
	}
}

func exportedSums(t *testing.T, dir, dataDir string) (sums []string) {
	t.Helper()
	out := filepath.Join(dir, "out.ndjson")
	launch(t, dir, "store", "export", "--data-dir", dataDir, "-o", out).wait(5 * time.Minute)
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var line struct {
			Record struct {
				ID       string
				DeviceID string `json:"device_id"`
				Payload  struct{ N struct{ Sum int } }
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		rec := &line.Record
		sums = append(sums, fmt.Sprintf("%s %s %d", rec.ID, rec.DeviceID, rec.Payload.N.Sum))
	}
	return sums
}
