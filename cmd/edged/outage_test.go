package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edged/edged/engine"
)

// device posts records to an edge and keeps account of what was acknowledged.
type device struct {
	t    *testing.T
	url  string
	sent int
}

// post sends n records; every one is acknowledged when it returns.
func (d *device) post(n int) {
	d.t.Helper()
	const perRequest = 50
	for n > 0 {
		var body strings.Builder
		count := min(n, perRequest)
		for range count {
			d.sent++
			fmt.Fprintf(&body, "{\"n\":%d,\"hot\":%t}\n", d.sent, d.sent%10 == 0)
		}
		n -= count
		resp, err := http.Post(d.url, "application/x-ndjson", strings.NewReader(body.String()))
		if err != nil {
			d.t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			d.t.Error(err)
		}
		if resp.StatusCode != http.StatusOK {
			d.t.Fatalf("the edge answered %s", resp.Status)
		}
	}
}

// outage is an edge that takes records by HTTP, and a hub that comes and goes.
type outage struct {
	t       *testing.T
	hub     *hubProcess
	edge    *process
	device  *device
	dataDir string
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	dir := t.TempDir()
	addrs := freeAddresses(t, 3)
	o := &outage{t: t, dataDir: filepath.Join(dir, "data")}
	o.hub = &hubProcess{t: t, dir: hubDirMade(t, filepath.Join(dir, "hub")), leaf: addrs[0], client: addrs[1]}
	o.device = &device{t: t, url: "http://" + addrs[2] + "/records"}
	pipeline := writeFile(t, filepath.Join(dir, "outage.hcl"), fmt.Sprintf(`
edge {
  device_id = "edge 1"
}
remote "nats" "hub" {
  urls = ["nats-leaf://%s"]
}
pipeline "p" {
  collect "http" "gateway" {
    listen    = %q
    id        = "r-${input.n}"
    device_id = "device-${input.n %% 3}"
    data_type = "reading"
  }
  alert "hot" {
    when     = record.payload.hot
    topic    = "alerts"
    priority = "critical"
    message  = { n = record.payload.n }
  }
  batch {
    max_records = 40
    max_wait    = "20ms"
  }
  sync {
    to    = remote.nats.hub
    every = "100ms"
  }
}
`, o.hub.leaf, addrs[2]))
	o.edge = launch(t, dir, "run", pipeline, "--json", "--no-progress", "--data-dir", o.dataDir)
	eventually(t, "the edge takes records", func() bool {
		resp, err := http.Get(o.device.url)
		return err == nil && resp.Body.Close() == nil
	})
	return o
}

// until waits for a status of the same edge process.
func (o *outage) until(what string, cond func(engine.Status) bool) {
	o.t.Helper()
	eventually(o.t, what, func() bool {
		if !o.edge.running() {
			o.t.Fatalf("the edge ended: %v\n%s", o.edge.err, tailOf(o.edge.stderr.String()))
		}
		s, ok := statusOf(o.dataDir)
		return ok && cond(s)
	})
}

func remoteIs(state string) func(engine.Status) bool {
	return func(s engine.Status) bool { return s.Remotes[0].State == state }
}

func (o *outage) synced(s engine.Status) bool {
	return s.Waiting == 0 && s.Totals.SyncedRecords == uint64(o.device.sent)
}

// finish stops the edge and holds that the hub has what was acknowledged: once,
// each device's records in order (I2, I4).
func (o *outage) finish() {
	o.t.Helper()
	o.edge.stop(os.Interrupt)
	n := uint64(o.device.sent)
	got := summaryOf(o.t, o.edge.stdout.String())
	if got.Stored != n || got.SyncedRecords != n || got.SyncedMessages != n/10 || !got.Audited || got.Gaps+got.Duplicates+got.Waiting != 0 {
		o.t.Errorf("summary %+v, want %d records", got, n)
	}
	arrived := map[string][]string{}
	for _, data := range readHub(o.t, "nats://"+o.hub.client, "EDGED_RECORDS", "edged.hub.records.>") {
		var r struct {
			ID       string `json:"id"`
			DeviceID string `json:"device_id"`
		}
		if err := json.Unmarshal(data, &r); err != nil {
			o.t.Fatal(err)
		}
		arrived[r.DeviceID] = append(arrived[r.DeviceID], r.ID)
	}
	want := map[string][]string{}
	for i := 1; i <= o.device.sent; i++ {
		device := fmt.Sprintf("device-%d", i%3)
		want[device] = append(want[device], fmt.Sprintf("r-%d", i))
	}
	for device, ids := range want {
		checkOrder(o.t, device, ids, arrived[device])
	}
	if messages := len(readHub(o.t, "nats://"+o.hub.client, "EDGED_QUEUE", "edged.hub.queue.>")); uint64(messages) != n/10 {
		o.t.Errorf("%d messages arrived, want %d", messages, n/10)
	}
}

// TestHubOutage holds that a device notices nothing of a hub that goes away,
// and that everything arrives when it is back, without a restart of the edge.
func TestHubOutage(t *testing.T) {
	for name, down := range map[string]func(h *hubProcess){
		"stopped": func(h *hubProcess) { h.stop(syscall.SIGTERM) },
		"killed":  func(h *hubProcess) { h.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t)
			o.hub.start()
			for range 2 {
				o.device.post(300)
				o.until("everything is at the hub", o.synced)
				o.device.post(100) // some of it is on its way now
				down(o.hub)
				o.until("the edge knows that the hub is away", remoteIs("offline"))
				o.device.post(500)
				o.until("the edge has stored everything and waits", func(s engine.Status) bool {
					return s.Totals.Stored == uint64(o.device.sent) && s.Waiting >= 500 && remoteIs("offline")(s)
				})
				o.hub.start()
				o.until("the hub is back", remoteIs("online"))
				o.until("everything is at the hub", o.synced)
			}
			o.finish()
		})
	}
}

// TestHubComesLate starts an edge that has never seen its hub.
func TestHubComesLate(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.device.post(700)
	o.until("the edge has stored everything", func(s engine.Status) bool {
		return s.Totals.Stored == 700 && s.Waiting == 700+70 && remoteIs("offline")(s)
	})
	start := time.Now()
	o.hub.start()
	o.until("everything is at the hub", o.synced)
	t.Logf("drained %v after the hub's start", time.Since(start).Round(time.Millisecond))
	o.finish()
}
