package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a record log and a queue as an edge has them.
type rig struct {
	t       *testing.T
	b       *broker.Broker
	nc      *nats.Conn
	records *store.Log
	lane    *store.Lane
	queue   *queue.Queue
}

func open(t *testing.T, dir string, queueBytes int64) *rig {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Name: "edge-test", Domain: "edge-test", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	silent := slog.New(slog.DiscardHandler)
	r := &rig{t: t, b: b, nc: nc}
	if r.records, err = store.Open(t.Context(), nc, store.Options{
		Stream: "EDGED_RECORDS", Subject: "edged.records", MaxBytes: 1 << 28, Logger: silent,
	}); err != nil {
		t.Fatal(err)
	}
	if r.lane, err = r.records.Lane(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if r.queue, err = queue.Open(t.Context(), nc, queue.Options{
		QueueBytes: queueBytes, DeadLetterBytes: 1 << 26, Logger: silent,
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) close() {
	r.t.Helper()
	ctx := context.WithoutCancel(r.t.Context())
	for _, err := range []error{r.queue.Close(ctx), r.records.Close(ctx)} {
		if err != nil {
			r.t.Error(err)
		}
	}
	r.nc.Close()
	if err := r.b.Close(); err != nil {
		r.t.Error(err)
	}
}

// put stores one group with this outbox and waits until it is durable.
func (r *rig) put(box store.Outbox) {
	r.t.Helper()
	stored := make(chan error, 1)
	g := &store.Group{
		Entries: []store.Entry{{Subject: r.lane.Subject("t", "d"), Data: []byte(`{}`)}},
		Outbox:  box, Done: func(err error) { stored <- err },
	}
	if err := r.lane.Append(r.t.Context(), g); err != nil {
		r.t.Fatal(err)
	}
	if err := <-stored; err != nil {
		r.t.Fatal(err)
	}
}

// move runs Move until stop is called, which waits for its end.
func (r *rig) move() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.queue.Move(ctx, r.records) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("moving ended with %v", err)
		}
	})
}

// until waits for a commit to queue or dead letters after which cond holds.
func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	timeout := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond) // Moved changes a moment after the commit
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout:
			r.t.Fatalf("in vain waited until %s", what)
		}
	}
}

func (r *rig) allMoved() bool { return r.queue.Moved() >= r.records.NewestOutbox() }

func message(p record.Priority, n int) record.Message {
	return record.Message{ID: strconv.Itoa(n), Topic: "a.b", Priority: p, Pipeline: "p", Body: json.RawMessage(`{"n":` + strconv.Itoa(n) + `}`)}
}

// ids reads a lane from its beginning.
func (r *rig) ids(l *store.Lane) (ids []string) {
	r.t.Helper()
	reader := l.NewReader(0)
	defer reader.Close()
	for reader.Number() < l.Last() {
		got, err := reader.Read(r.t.Context(), 1000, 1<<22, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, s := range got {
			var v struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(s.Data, &v); err != nil {
				r.t.Fatal(err)
			}
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// TestMovedExactlyOnce takes the mover and the whole edge away at every point
// and holds that each message arrives once, in the order of its priority.
func TestMovedExactlyOnce(t *testing.T) {
	dir := t.TempDir()
	want := map[record.Priority][]string{}
	n := 0
	fill := func(r *rig, boxes int) {
		for range boxes {
			var box store.Outbox
			for _, p := range record.Priorities {
				n++
				box.Messages = append(box.Messages, message(p, n))
				want[p] = append(want[p], strconv.Itoa(n))
			}
			box.DeadLetters = append(box.DeadLetters, record.DeadLetter{ID: fmt.Sprint("dead-", n), Pipeline: "p", Stage: "s", Raw: []byte("x")})
			r.put(box)
		}
	}
	for round := range 8 {
		r := open(t, dir, 1<<26)
		fill(r, 10)
		stop := r.move()
		switch round % 4 {
		case 0: // at once
		case 1: // when the first is there
			r.until("something is moved", func() bool { return r.queue.Lane(record.Low).Last() > 0 })
		case 2: // in the middle of more
			fill(r, 10)
		case 3: // when all is there; and again, which must change nothing
			r.until("all is moved", r.allMoved)
			before := r.queue.Log().Durable()
			stop()
			stop = r.move()
			r.until("all is known to be moved", r.allMoved)
			if after := r.queue.Log().Durable(); after != before {
				t.Errorf("moving again wrote %d messages", after-before)
			}
		}
		stop()
		r.close()
	}
	r := open(t, dir, 1<<26)
	defer r.close()
	if r.records.NewestOutbox() == 0 || r.queue.Moved() != 0 {
		t.Errorf("after a restart the newest outbox is %d and moved %d", r.records.NewestOutbox(), r.queue.Moved())
	}
	defer r.move()()
	r.until("all is moved", r.allMoved)
	for p, ids := range want {
		if diff := cmp.Diff(ids, r.ids(r.queue.Lane(p))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p, diff)
		}
	}
	dead, err := r.queue.DeadLetters().Lane(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(r.ids(dead)); got != len(want[record.Low]) {
		t.Errorf("%d dead letters, want %d", got, len(want[record.Low]))
	}
}

// TestDeadLettersKeepTheirBytes holds I6: what could not go on is kept byte for
// byte, with reason and stage.
func TestDeadLettersKeepTheirBytes(t *testing.T) {
	dir := t.TempDir()
	raw := []byte("\x00\xff{\"half\": \r\n\xc3")
	want := []record.DeadLetter{
		{ID: "1", Pipeline: "p", Stage: "collect.motes", Error: "no number", Time: time.Unix(1, 0).UTC(), Raw: raw, Detail: map[string]string{"line": "7"}},
		{ID: "2", Pipeline: "other.*", Stage: "transform.x", Error: "trap", Time: time.Unix(2, 0).UTC(), Raw: []byte("{}")},
		{ID: "3", Pipeline: "p", Stage: "store", Error: "lost", Time: time.Unix(3, 0).UTC(), Raw: []byte{}},
	}
	r := open(t, dir, 1<<26)
	stop := r.move()
	r.put(store.Outbox{DeadLetters: want[:2]})
	r.until("all is moved", r.allMoved)
	if err := r.queue.Bury(t.Context(), want[2]); err != nil {
		t.Fatal(err)
	}
	stop()
	r.close()
	r = open(t, dir, 1<<26)
	defer r.close()
	var got []record.DeadLetter
	for _, lane := range r.queue.DeadLetters().Lanes() {
		reader := lane.NewReader(0)
		defer reader.Close()
		stored, err := reader.Read(t.Context(), 10, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stored {
			var d record.DeadLetter
			if err := json.Unmarshal(s.Data, &d); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(s.Subject, queue.DeadLetterSubject+"."+record.Token(d.Pipeline)+".") {
				t.Errorf("dead letter %s of pipeline %q stands on %s", d.ID, d.Pipeline, s.Subject)
			}
			got = append(got, d)
		}
	}
	if diff := cmp.Diff([]record.DeadLetter{want[1], want[0], want[2]}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAFullQueueLetsMessagesWait fills the queue: records are stored all the
// same, their messages wait in the record log and arrive when there is room.
func TestAFullQueueLetsMessagesWait(t *testing.T) {
	dir := t.TempDir()
	const bound = 256 << 10
	r := open(t, dir, bound)
	stop := r.move()
	body, err := json.Marshal(strings.Repeat("x", 20<<10))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 30 {
		m := message(record.High, i)
		m.Body = body
		want = append(want, m.ID)
		r.put(store.Outbox{Messages: []record.Message{m}})
	}
	r.until("the queue is full", r.queue.Log().Full)
	if r.lane.Last() != 30 || r.allMoved() {
		t.Errorf("%d records are stored, moved %d of %d", r.lane.Last(), r.queue.Moved(), r.records.NewestOutbox())
	}
	// Room comes as it does when a remote has what is there.
	var got []string
	for !r.allMoved() {
		lane := r.queue.Lane(record.High)
		reader := lane.NewReader(uint64(len(got)))
		stored, err := reader.Read(t.Context(), 1000, 1<<22, nil)
		if err != nil {
			t.Fatal(err)
		}
		reader.Close()
		for _, s := range stored {
			var m record.Message
			if err := json.Unmarshal(s.Data, &m); err != nil {
				t.Fatal(err)
			}
			got = append(got, m.ID)
			if err := r.queue.Log().Purge(t.Context(), s.Next); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	lane := r.queue.Lane(record.High)
	reader := lane.NewReader(uint64(len(got)))
	defer reader.Close()
	stored, err := reader.Read(t.Context(), 1000, 1<<22, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stored {
		var m record.Message
		if err := json.Unmarshal(s.Data, &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	reader.Close()
	r.close()
}

// TestTheLeastQueueTakesTheLargestOutbox holds that no outbox waits for room for
// ever: an outbox is cut when it has more than 512 KiB, and may end with the
// largest message there can be. The queue has a tenth of max_bytes, which is 64 MiB
// at least.
func TestTheLeastQueueTakesTheLargestOutbox(t *testing.T) {
	r := open(t, t.TempDir(), 64<<20/10)
	defer r.close()
	defer r.move()()
	text := func(n int) json.RawMessage { return fmt.Appendf(nil, "%q", strings.Repeat("x", n-2)) }
	var box store.Outbox
	for i := range 250 { // 2 KiB each
		box.Messages = append(box.Messages, message(record.High, i))
		box.Messages[i].Body = text(2<<10 - 256)
	}
	largest := message(record.High, len(box.Messages))
	largest.Body = text(record.MaxPayloadBytes)
	box.Messages = append(box.Messages, largest)
	r.put(box)
	r.until("all is in the queue", r.allMoved)
	if r.queue.Log().Full() || r.queue.Lane(record.High).Last() != uint64(len(box.Messages)) {
		t.Errorf("%d of %d messages are in the queue, full %t", r.queue.Lane(record.High).Last(), len(box.Messages), r.queue.Log().Full())
	}
}

// TestStoppingWhileTheQueueIsFull holds that an edge whose queue has no room
// stops all the same, and goes on later.
func TestStoppingWhileTheQueueIsFull(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 64<<10)
	ctx, cancel := context.WithCancel(t.Context())
	moved := make(chan error, 1)
	go func() { moved <- r.queue.Move(ctx, r.records) }()
	body, err := json.Marshal(strings.Repeat("x", 30<<10))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		m := message(record.High, i)
		m.Body = body
		r.put(store.Outbox{Messages: []record.Message{m}})
	}
	r.until("the queue is full", r.queue.Log().Full)
	cancel()
	r.queue.StopWaiting()
	select {
	case err := <-moved:
		if err != nil {
			t.Errorf("moving ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("moving does not end while the queue is full")
	}
	before := r.queue.Lane(record.High).Last()
	r.close()
	r = open(t, dir, 1<<26)
	defer r.close()
	defer r.move()()
	r.until("all is moved", r.allMoved)
	if diff := cmp.Diff([]string{"0", "1", "2", "3", "4"}, r.ids(r.queue.Lane(record.High))); diff != "" || before >= 5 {
		t.Errorf("%d were moved before the stop; in the end (-want +got):\n%s", before, diff)
	}
}
