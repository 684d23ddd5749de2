package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/keyed"
)

// keyedOnDisk is an edge with a keyed store on a small disk, and what a program
// beside it was told.
type keyedOnDisk struct {
	*powerCut
	api   string
	puts  int
	acked map[string]string   // the last value of each key that was acknowledged
	maybe map[string][]string // what was tried since, and refused
}

func newKeyedOnDisk(t *testing.T) *keyedOnDisk {
	t.Helper()
	p := newPowerCut(t, "fsync")
	api := freeAddresses(t, 1)[0]
	p.pipeline = fmt.Sprintf(`
edge {
  device_id = "edge 1"
  max_bytes = "%%dMiB"
  api {
    listen = %q
    token  = "secret"
  }
}
remote "nats" "hub" {
  urls = ["nats-leaf://%s"]
}
pipeline "settings" {
  store "keyed" {
    conflict = "latest_wins"
  }
  sync {
    to = remote.nats.hub
  }
}
`, api, p.hub.leaf)
	return &keyedOnDisk{powerCut: p, api: "http://" + api + "/keyed/settings/set/", acked: map[string]string{}, maybe: map[string][]string{}}
}

// ask makes a request about a key; status 0: nobody answered.
func (k *keyedOnDisk) ask(method, key, body string) (status int, answer string) {
	k.t.Helper()
	req, err := http.NewRequestWithContext(k.t.Context(), method, k.api+key, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 3 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}

// put sets the next key, and returns why that was refused.
func (k *keyedOnDisk) put() (refused string) {
	k.t.Helper()
	k.alive()
	k.puts++
	key, value := fmt.Sprint(k.puts%20), fmt.Sprintf(`{"n":%d,"pad":%q}`, k.puts, strings.Repeat("x", 2<<10))
	k.maybe[key] = append(k.maybe[key], value)
	switch status, answer := k.ask("PUT", key, value); status {
	case http.StatusOK, http.StatusCreated:
		k.acked[key] = value
		delete(k.maybe, key)
		return ""
	case http.StatusServiceUnavailable, 0: // 0: it starts, or its broker does not answer
		return answer
	default:
		k.t.Fatalf("put %d: %d %s", k.puts, status, answer)
		return ""
	}
}

// putAll puts until so many in a row were taken.
func (k *keyedOnDisk) putAll(n int) {
	k.t.Helper()
	row := 0
	eventually(k.t, fmt.Sprintf("%d values are taken", n), func() bool {
		for row < n && k.put() == "" {
			row++
		}
		return row == n
	})
}

// putNone puts until it is refused for want of room, and the status says so.
func (k *keyedOnDisk) putNone() {
	k.t.Helper()
	var said string
	eventually(k.t, "a value is refused because the disk is full", func() bool {
		said = k.put()
		return strings.Contains(said, "full")
	})
	eventually(k.t, "the status says that the disk is full", func() bool {
		s, ok := statusOf(k.dataDir())
		return ok && strings.Contains(s.Storage.Trouble, "the disk is full")
	})
}

// holds holds what readers get of each key against what was acknowledged.
func (k *keyedOnDisk) holds(where string, read func(key string) string) {
	k.t.Helper()
	for key, want := range k.acked {
		if got := read(key); got != want && !slices.Contains(k.maybe[key], got) {
			k.t.Errorf("%s: %s is %.40s, want %.40s", where, key, got, want)
		}
	}
}

// here reads a key at the edge.
func (k *keyedOnDisk) here(key string) string {
	k.t.Helper()
	status, body := k.ask("GET", key, "")
	if status != http.StatusOK {
		k.t.Errorf("GET %s: %d %s", key, status, body)
	}
	return body
}

// there returns what reads a key at the hub.
func (k *keyedOnDisk) there() func(key string) string {
	k.t.Helper()
	nc, err := nats.Connect("nats://" + k.hub.client)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		k.t.Fatal(err)
	}
	kv, err := js.KeyValue(k.t.Context(), keyed.HubBucket)
	if err != nil {
		k.t.Fatal(err)
	}
	return func(key string) string {
		entry, err := kv.Get(k.t.Context(), "settings.set."+key)
		if err != nil {
			return err.Error()
		}
		var v struct{ Body json.RawMessage }
		if err := json.Unmarshal(entry.Value(), &v); err != nil {
			return err.Error()
		}
		return string(v.Body)
	}
}

// synced waits until nothing is pending, and holds the hub against it.
func (k *keyedOnDisk) synced() {
	k.t.Helper()
	eventually(k.t, "nothing waits for the hub", func() bool {
		k.alive()
		s, ok := statusOf(k.dataDir())
		return ok && s.Pipelines[0].Keyed.CaughtUp != nil && *s.Pipelines[0].Keyed.CaughtUp && s.Pipelines[0].Keyed.Pending == 0
	})
	k.holds("the edge", k.here)
	k.holds("the hub", k.there())
}

// TestCase18DiskFull takes the room from under the keyed store of a working edge:
// puts are refused with the reason, what was acknowledged is read and synced all
// the same, and when there is room again the edge goes on by itself.
func TestCase18DiskFull(t *testing.T) {
	withFUSE(t)
	t.Run("by others", func(t *testing.T) {
		t.Parallel()
		k := newKeyedOnDisk(t)
		k.smallDisk(64 << 20)
		k.launch(0)
		k.putAll(100)
		remove := k.fillUp()
		k.putNone()
		k.holds("the edge, full", k.here)
		remove()
		k.putAll(100)
		k.synced()
		remove = k.fillUp()
		k.putNone()
		k.edge.kill()
		k.launch(0) // on a full disk
		k.putNone()
		k.holds("the edge, full from the start", k.here)
		remove()
		k.putAll(40)
		k.synced()
	})
	// Every file operation that makes files larger fails, without a file that takes
	// the room: nothing of it can be seen beforehand.
	t.Run("in the middle of a write", func(t *testing.T) {
		t.Parallel()
		k := newKeyedOnDisk(t)
		k.disk.arm(0)
		k.launch(0)
		k.putAll(100)
		k.disk.fail(fault{syscall.ENOSPC, growing})
		k.putNone()
		k.holds("the edge, full", k.here)
		k.disk.fail(fault{})
		k.putAll(100)
		k.synced()
	})
}
