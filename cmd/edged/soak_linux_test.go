package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine"
)

const (
	soakVariable = "EDGED_SOAK_RECORDS"
	soakRecords  = 50_000 // waiting, unless EDGED_SOAK_RECORDS says otherwise
	soakDevices  = 7
	soakMemory   = 120 << 20 // the most the process may hold, with any backlog and draining it
)

// TestSoak lets a backlog gather while the hub is away, then drains it. The
// memory of the process stays within its bound the whole time, however large the
// backlog, everything arrives once, and each device's records in order (I4, I9).
func TestSoak(t *testing.T) {
	records := soakRecords
	if v := os.Getenv(soakVariable); v != "" {
		var err error
		if records, err = strconv.Atoi(v); err != nil {
			t.Fatalf("%s: %v", soakVariable, err)
		}
	}
	dir := t.TempDir()
	writeSoak(t, filepath.Join(dir, "in.ndjson"), records)
	hub := launchHub(t, hubDirMade(t, filepath.Join(dir, "hub")))
	hub.kill()
	pipeline := writeFile(t, filepath.Join(dir, "soak.hcl"), fmt.Sprintf(`
edge { device_id = "soak" }
remote "nats" "hub" { urls = ["nats-leaf://%s"] }
pipeline "p" {
  collect "file" "in" {
    path   = "in.ndjson"
    follow = true
  }
  batch { max_records = 999 }
  sync { to = remote.nats.hub }
}`, hub.leaf))
	dataDir := filepath.Join(dir, "data")
	p := launch(t, dir, "run", pipeline, "--json", "--no-progress", "--data-dir", dataDir)
	waits := func(what string, reached func(engine.Status) bool) (took time.Duration) {
		t.Helper()
		from := time.Now()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := from.Add(time.Minute + time.Duration(records)*time.Millisecond); ; <-tick.C {
			if s, ok := statusOf(dataDir); ok && reached(s) {
				return time.Since(from)
			}
			if !p.running() || time.Now().After(deadline) {
				t.Fatalf("it does not come to pass that %s: %v\n%s", what, p.err, tailOf(p.stderr.String()))
			}
		}
	}
	took := waits("all wait", func(s engine.Status) bool { return s.Waiting == uint64(records) })
	t.Logf("collected %d in %v: %.0f records/s", records, took, float64(records)/took.Seconds())
	p.holdsAtMost("collecting, with everything waiting", soakMemory)
	hub.start()
	took = waits("all is drained", func(s engine.Status) bool { return s.Waiting == 0 })
	t.Logf("drained %d in %v, the way back to the hub included: %.0f records/s", records, took, float64(records)/took.Seconds())
	p.holdsAtMost("draining", soakMemory)
	p.stop(os.Interrupt)
	// The audit of a long soak takes longer than a stop waits for it.
	if s := summaryOf(t, p.stdout.String()); !s.Audited && records <= soakRecords || s.Gaps+s.Duplicates > 0 {
		t.Errorf("summary %+v", s)
	}
	next := map[string]int{}
	got := 0
	for _, data := range readHub(t, "nats://"+hub.client, "EDGED_RECORDS", "edged.hub.records.>") {
		var r struct {
			DeviceID string `json:"device_id"`
			Payload  struct {
				N int `json:"n"`
			} `json:"payload"`
		}
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatal(err)
		}
		if want := next[r.DeviceID]; r.Payload.N != want {
			t.Fatalf("%s: record %d arrived where %d was next", r.DeviceID, r.Payload.N, want)
		}
		next[r.DeviceID]++
		got++
	}
	if got != records {
		t.Errorf("%d records arrived, want %d", got, records)
	}
}

// writeSoak writes records of some devices by turns, each numbered from 0.
func writeSoak(t *testing.T, path string, records int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := range records {
		fmt.Fprintf(w, `{"id":"r%d","device_id":"d%d","data_type":"reading","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d,"temperature":21.5,"humidity":48.25,"note":"a record as a sensor sends it"}}`+"\n",
			i, i%soakDevices, i/soakDevices)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// holdsAtMost reads how much memory the process has ever held, and holds now.
func (p *process) holdsAtMost(doing string, most int) {
	p.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	memory := map[string]int{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if kib, ok := strings.CutSuffix(strings.TrimSpace(value), " kB"); ok {
			if memory[name], err = strconv.Atoi(kib); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	p.t.Logf("%s: %d MiB resident, %d MiB at most so far", doing, memory["VmRSS"]>>10, memory["VmHWM"]>>10)
	if memory["VmRSS"] == 0 || memory["VmHWM"]<<10 > most {
		p.t.Errorf("%s: the process has held %d MiB, and may hold %d", doing, memory["VmHWM"]>>10, most>>20)
	}
}
