package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/sync"
)

// fullHub is a hub on a small disk of its own, and who stores there.
type fullHub struct {
	*api
	nc    *nats.Conn
	batch *broker.AtomicBatch
	last  uint64 // stream sequence of the newest ledger entry
	next  int    // number of the batch that is pushed next
	posts []string
}

const ledger = sync.HubLedgerRecords + ".e.p"

// push pushes as an edge does: when it does not know what became of a batch it asks
// the ledger, and sends again what is not there.
func (h *fullHub) push() error {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
	defer cancel()
	newest, err := broker.LastMessage(ctx, h.nc, "", sync.HubRecordStream, ledger)
	if err != nil {
		return err
	}
	if h.last = 0; newest != nil {
		h.last = newest.Seq
		stored, err := strconv.Atoi(string(newest.Data))
		if err != nil {
			h.t.Fatal(err)
		}
		h.next = stored + 1
	}
	h.batch.Begin()
	for i := range 5 {
		h.batch.Add(sync.HubRecordSubject+".e.p.t.d", fmt.Appendf(nil, "%d.%d %s", h.next, i, strings.Repeat("x", 4<<10)))
	}
	_, err = h.batch.Commit(ctx, ledger, strconv.AppendInt(nil, int64(h.next), 10), h.last)
	return err
}

// post stores one record; the same until it is taken.
func (h *fullHub) post() (status int, answer, after string) {
	h.t.Helper()
	id := fmt.Sprintf("r%d", len(h.posts))
	status, answer, header := h.send("POST", sync.HTTPBatchPath, fmt.Appendf(nil,
		`{"records":[{"id":%q,"device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{}}]}`, id), sync.HeaderIdempotencyKey, id)
	if status == 200 {
		h.posts = append(h.posts, id)
	}
	return status, answer, header.Get("Retry-After")
}

func (h *fullHub) until(what string, cond func() (bool, string)) {
	h.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); ; <-tick.C {
		ok, is := cond()
		if ok {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("in vain waited until %s: %s", what, is)
		}
	}
}

// takes waits until everything is taken, and stores some.
func (h *fullHub) takes() {
	h.t.Helper()
	h.until("batches are taken", func() (bool, string) { err := h.push(); return err == nil, fmt.Sprint(err) })
	h.until("requests are taken", func() (bool, string) { status, answer, _ := h.post(); return status == 200, answer })
	for range 20 {
		if err := h.push(); err != nil {
			h.t.Fatal(err)
		}
		if status, answer, _ := h.post(); status != 200 {
			h.t.Fatal(answer)
		}
	}
}

// holds fails unless every batch is there whole and once, in order, and every
// request that was taken, once.
func (h *fullHub) holds() {
	h.t.Helper()
	js, err := jetstream.New(h.nc)
	if err != nil {
		h.t.Fatal(err)
	}
	stream, err := js.Stream(h.t.Context(), sync.HubRecordStream)
	if err != nil {
		h.t.Fatal(err)
	}
	batch, part, posted := 0, 0, map[string]int{}
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(h.t.Context(), seq)
		if err != nil {
			h.t.Fatal(err)
		}
		switch {
		case m.Subject == ledger:
			if part != 5 || string(m.Data) != strconv.Itoa(batch) {
				h.t.Fatalf("the ledger has %s after %d of batch %d", m.Data, part, batch)
			}
			batch, part = batch+1, 0
		case m.Subject == sync.HubRecordSubject+".e.p.t.d":
			if !strings.HasPrefix(string(m.Data), fmt.Sprintf("%d.%d ", batch, part)) {
				h.t.Fatalf("%.8s stands where %d.%d should", m.Data, batch, part)
			}
			part++
		case strings.HasPrefix(m.Subject, sync.HubRecordSubject):
			var r struct{ ID string }
			if err := json.Unmarshal(m.Data, &r); err != nil {
				h.t.Fatal(err)
			}
			posted[r.ID]++
		}
	}
	if part != 0 || batch != h.next+1 {
		h.t.Errorf("%d batches are there, and %d of one more; %d were taken", batch, part, h.next+1)
	}
	for _, id := range h.posts {
		if posted[id] != 1 {
			h.t.Errorf("request %s is there %d times", id, posted[id])
		}
	}
}

// TestTheDiskOfAHubIsFull lets others use up a small disk to its last byte while
// edges and clients store into the hub, twice. Both are refused with the reason
// until there is room; nothing is lost, half there, or there twice.
func TestTheDiskOfAHubIsFull(t *testing.T) {
	const noMounts = "EDGED_TEST_NO_FUSE" // as for the power cuts of cmd/edged
	if os.Getenv(noMounts) == "1" {
		fmt.Fprintf(os.Stderr, "%s is left out: %s=1\n", t.Name(), noMounts)
		t.SkipNow()
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatalf("mounting a tmpfs: %v: a full disk cannot be tested here; run as root with CAP_SYS_ADMIN, or leave it out with %s=1", err, noMounts)
	}
	t.Cleanup(func() {
		// A server that is started anew leaves the files of batches that were being
		// staged open.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h := &fullHub{api: startAPI(t, hub.Options{DataDir: dir})}
	connect := func() {
		var err error
		if h.nc, err = nats.Connect(h.hub.ClientURL()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.nc.Close)
		h.batch = broker.NewAtomicBatch(h.nc)
	}
	connect()
	h.takes()
	for range 2 {
		remove := fillUp(t, filepath.Join(dir, "someone-elses"))
		h.until("requests are refused", func() (bool, string) {
			status, answer, after := h.post()
			return status == 503 && after == "30" && strings.Contains(answer, "the hub takes nothing now: the disk is full"), answer
		})
		h.until("batches are refused", func() (bool, string) {
			err := h.push()
			var refused *jetstream.APIError
			return errors.As(err, &refused), fmt.Sprint(err)
		})
		js, err := jetstream.New(h.nc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{sync.HubRecordStream, sync.HubQueueStream} {
			h.until(name+" says why", func() (bool, string) {
				s, err := js.Stream(t.Context(), name)
				if err != nil {
					return false, err.Error()
				}
				why := s.CachedInfo().Config.Metadata[sync.RefusesKey]
				return strings.Contains(why, "the disk is full"), why
			})
		}
		remove()
		h.takes()
	}
	h.holds()
	h.stop()
	h.start()
	connect()
	h.takes()
	h.holds()
}

// fillUp writes a file until the disk takes no byte more.
func fillUp(t *testing.T, path string) (remove func()) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 64<<10); len(buf) > 0; {
		if _, err := f.Write(buf); err != nil {
			buf = buf[:len(buf)/2]
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
