package engine_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/queue"
)

// sender gives one record to a source that can answer, and returns whether it was
// acknowledged; if not, it was told to come again.
type sender func(t *testing.T, id, record string) bool

// overHTTP posts to a collect "http" block at addr.
func overHTTP(addr string) sender {
	return func(t *testing.T, id, record string) bool {
		t.Helper()
		resp, err := http.Post("http://"+addr+"/records", "application/json", strings.NewReader(record))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK {
			return true
		}
		after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if resp.StatusCode != http.StatusServiceUnavailable || err != nil || after < 1 || !strings.Contains(string(body), "full or busy") {
			t.Fatalf("%s was answered %d, Retry-After %q: %s", id, resp.StatusCode, resp.Header.Get("Retry-After"), body)
		}
		return false
	}
}

// overNATS sends requests to a collect "nats" block.
func overNATS(nc *nats.Conn) sender {
	return func(t *testing.T, id, record string) bool {
		t.Helper()
		msg, err := nc.Request("plant.readings", []byte(record), time.Minute)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		var answer struct {
			OK    bool
			ID    string
			Error string
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			t.Fatal(err)
		}
		if answer.OK && answer.ID != id || !answer.OK && !strings.Contains(answer.Error, "full or busy") {
			t.Fatalf("%s was answered %s", id, msg.Data)
		}
		return answer.OK
	}
}

// TestWhatSourcesAreToldWhenTheStoreIsFull fills the store while the hub is away,
// through sources that answer each record. With wait and drop_oldest_synced a full
// store refuses, with a reason and when to come again, and takes what was refused
// once the hub is there; with drop_oldest it takes everything. What was acknowledged
// is at the hub, or named in its ledger as discarded (I1, I2, I7, I9).
func TestWhatSourcesAreToldWhenTheStoreIsFull(t *testing.T) {
	const records, size = 120, 40 << 10
	for _, kind := range []string{"http", "nats"} {
		for _, policy := range []string{"wait", "drop_oldest_synced", "drop_oldest"} {
			t.Run(kind+"/"+policy, func(t *testing.T) {
				t.Parallel()
				leaf, r := freePort(t), newRig(t)
				wait := "200ms"
				if policy == "drop_oldest" {
					wait = "1m" // it has no reason to refuse
				}
				var collect string
				var send sender
				if kind == "http" {
					addr := freePort(t)
					collect, send = fmt.Sprintf("listen = %q", addr), overHTTP(addr)
				} else {
					broker := startHub(t, "127.0.0.1:0", t.TempDir())
					nc, err := nats.Connect(broker.ClientURL())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(nc.Close)
					collect, send = fmt.Sprintf("subject = \"plant.readings\"\n    urls = [%q]", broker.ClientURL()), overNATS(nc)
				}
				run := r.start(false, fmt.Sprintf(`
edge { device_id = "full" }
remote "nats" "hub" { urls = ["nats-leaf://%s"] }
pipeline "p" {
  when_full = %q
  collect %q "in" {
    %s
    wait = %q
    id        = input.id
    data_type = "t"
    payload   = { fill = input.fill }
  }
  sync { to = remote.nats.hub }
}`, leaf, policy, kind, collect, wait), func(cfg *config.Config) {
					cfg.Edge.MaxBytes = 4 << 20
					if policy == "wait" { // which does not shorten keep
						cfg.Edge.Keep = 0
					}
				})
				until(t, "the source listens", func() bool { return listens(kind, collect) })
				record := func(id string) string { return fmt.Sprintf(`{"id":%q,"fill":%q}`, id, strings.Repeat("x", size)) }
				var refused []string
				acknowledged := 0
				for _, id := range numbered("r", records) {
					if send(t, id, record(id)) {
						acknowledged++
						continue
					}
					if refused = append(refused, id); len(refused) == 3 {
						break
					}
				}
				st := run.Status()
				switch {
				case policy == "drop_oldest" && (len(refused) > 0 || st.Totals.Discarded == 0):
					t.Errorf("it refused %v and discarded %d", refused, st.Totals.Discarded)
				case policy != "drop_oldest" && (len(refused) == 0 || !st.Storage.Full || st.Totals.Discarded != 0):
					t.Errorf("it refused %v, full %t, and discarded %d", refused, st.Storage.Full, st.Totals.Discarded)
				}
				h := startHub(t, leaf, t.TempDir())
				for _, id := range refused {
					until(t, id+" is taken", func() bool { return send(t, id, record(id)) })
					acknowledged++
				}
				until(t, "nothing waits", func() bool { return run.Status().Waiting == 0 })
				a, err := run.Audit(t.Context())
				if err != nil || a.Gaps+a.Duplicates+a.Damaged != 0 {
					t.Errorf("the audit says %+v, %v", a, err)
				}
				arrived := map[string]int{}
				for _, id := range arrivedIDs(t, h, "p") {
					arrived[id]++
				}
				sum := run.stop()
				// A refused request may have been stored all the same, and again when it
				// was repeated: it never was acknowledged.
				if n := uint64(len(arrived)) + sum.Discarded; n < uint64(acknowledged) {
					t.Errorf("acknowledged %d; at the hub %d, discarded %d", acknowledged, len(arrived), sum.Discarded)
				}
				if policy != "drop_oldest" && len(arrived) < acknowledged {
					t.Errorf("acknowledged %d, at the hub %v", acknowledged, arrived)
				}
			})
		}
	}
}

// listens reports whether the source takes what is sent.
func listens(kind, collect string) bool {
	if kind == "http" {
		resp, err := http.Get("http://" + strings.Trim(strings.TrimPrefix(collect, "listen = "), `"`) + "/")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	}
	nc, err := nats.Connect(strings.Trim(collect[strings.Index(collect, "[")+1:], `"]`))
	if err != nil {
		return false
	}
	defer nc.Close()
	_, err = nc.Request("plant.readings", []byte(`{}`), 5*time.Second) // a dead letter
	return err == nil
}

// TestWhatHappensWhenTheQueueIsFull raises more alerts than the queue has room for
// while the hub is away. With wait they stay in the record store and all arrive.
// With drop_lowest_priority the critical ones find room, and of the low ones the
// oldest go: the hub's ledger names each of them (I5, I7, I9).
func TestWhatHappensWhenTheQueueIsFull(t *testing.T) {
	const records, size = 60, 40 << 10
	var input strings.Builder
	for i := 1; i <= records; i++ {
		fmt.Fprintf(&input, `{"id":"r%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d,"fill":%q}}`+"\n",
			i, i, strings.Repeat("x", size))
	}
	for _, policy := range []string{"wait", "drop_lowest_priority"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			leaf, r := freePort(t), newRig(t)
			text := fmt.Sprintf(`
edge {
  device_id       = "full"
  queue_when_full = %q
}
remote "nats" "hub" { urls = ["nats-leaf://%s"] }
pipeline "p" {
  collect "file" "f" { path = %s }
  alert "each" {
    when     = true
    priority = "low"
    message  = record.payload
  }
  alert "tenth" {
    when     = record.payload.n %% 10 == 0
    priority = "critical"
    message  = record.payload
  }
  sync { to = remote.nats.hub }
}`, policy, leaf, r.file("in.ndjson", input.String()))
			small := func(cfg *config.Config) { cfg.Edge.MaxBytes = 16 << 20 }
			run := r.start(false, text, small)
			until(t, "all alerts are stored", func() bool { return run.Status().Totals.Messages == records+records/10 })
			waiting := func() map[string]uint64 {
				client, err := engine.Dial(r.data)
				if err != nil {
					t.Fatal(err)
				}
				stats, err := client.QueueStats(t.Context(), queue.MessageFilter{})
				if err != nil {
					t.Fatal(err)
				}
				if err := client.Close(); err != nil {
					t.Error(err)
				}
				by := map[string]uint64{}
				for _, s := range stats.Topics {
					by[s.Priority.String()] += s.Waiting
				}
				return by
			}
			if policy == "wait" {
				until(t, "the queue is full", func() bool { return run.Status().Storage.Full })
				if by := waiting(); by["low"]+by["critical"] >= records {
					t.Errorf("the queue holds %v", by)
				}
			} else {
				until(t, "every alert has found room, the low ones not all at once", func() bool {
					by := run.Status().Queue.ByPriority // what was ever put there, as nothing is synced
					return by["low"] == records && by["critical"] == records/10 && waiting()["low"] < records
				})
			}
			run.stop() // what was dropped may still be in memory, and would be sent
			startHub(t, leaf, t.TempDir())
			run = r.start(false, text, small)
			until(t, "nothing waits", func() bool { return run.Status().Waiting == 0 })
			a, err := run.Audit(t.Context())
			if err != nil || a.Gaps+a.Duplicates+a.Damaged != 0 {
				t.Errorf("the audit says %+v, %v", a, err)
			}
			for _, row := range a.Pipelines {
				want, dropped := map[string]uint64{"queue/low": records, "queue/critical": records / 10, "p": records}[row.Pipeline], uint64(0)
				for _, d := range row.Discarded {
					dropped += d[1] - d[0] + 1
				}
				if mayDrop := policy != "wait" && row.Pipeline == "queue/low"; row.AtHub+dropped != want || mayDrop != (dropped > 0) {
					t.Errorf("%s: at the hub %d, discarded %d, want %d in all", row.Pipeline, row.AtHub, dropped, want)
				}
			}
			run.stop()
		})
	}
}
