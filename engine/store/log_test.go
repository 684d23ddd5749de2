package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// edge is a broker with one log on it, as an edge has.
type edge struct {
	t   *testing.T
	b   *broker.Broker
	nc  *nats.Conn
	log *store.Log
}

func start(t *testing.T, dir string, opts store.Options) *edge {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Name: "edge-test", Domain: "edge-test", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	opts.Stream, opts.Subject, opts.Logger = "EDGED_RECORDS", "edged.records", slog.New(slog.DiscardHandler)
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 1 << 30
	}
	log, err := store.Open(t.Context(), nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	return &edge{t: t, b: b, nc: nc, log: log}
}

func (e *edge) stop() {
	e.t.Helper()
	if err := e.log.Close(context.WithoutCancel(e.t.Context())); err != nil {
		e.t.Error(err)
	}
	e.nc.Close()
	if err := e.b.Close(); err != nil {
		e.t.Error(err)
	}
}

func (e *edge) lane(name string) *store.Lane {
	e.t.Helper()
	l, err := e.log.Lane(e.t.Context(), name)
	if err != nil {
		e.t.Fatal(err)
	}
	return l
}

// put appends n entries and waits until they are durable.
func (e *edge) put(l *store.Lane, n int, g store.Group) {
	e.t.Helper()
	stored := make(chan error, 1)
	first := l.Last() + 1
	for i := range n {
		g.Entries = append(g.Entries, store.Entry{Subject: l.Subject("t", "d"), Data: body(first + uint64(i))})
	}
	g.Done = func(err error) { stored <- err }
	if err := l.Append(e.t.Context(), &g); err != nil {
		e.t.Fatal(err)
	}
	if err := <-stored; err != nil {
		e.t.Fatal(err)
	}
}

func body(n uint64) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) }

// readAll reads until it has the newest entry and checks numbers and bytes.
func (e *edge) readAll(l *store.Lane, after uint64, step int) {
	e.t.Helper()
	r := l.NewReader(after)
	defer r.Close()
	want := after + 1
	for want <= l.Last() {
		got, err := r.Read(e.t.Context(), step, 1<<20, nil)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(got) == 0 {
			e.t.Fatalf("nothing after %d of %d", want-1, l.Last())
		}
		for _, s := range got {
			if s.Number != want || string(s.Data) != string(body(want)) {
				e.t.Fatalf("got number %d with %s, want %d", s.Number, s.Data, want)
			}
			want++
		}
	}
}

func TestNumbersPositionsAndCountsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	a, b := e.lane("a.b"), e.lane("a_b")
	e.put(a, 700, store.Group{Source: "file", Position: json.RawMessage(`{"at":1}`), Counts: store.Counts{Collected: 701, DeadLetters: 1}})
	e.put(b, 3, store.Group{})
	e.put(a, 20, store.Group{Source: "file", Position: json.RawMessage(`{"at":2}`), Counts: store.Counts{Collected: 20}})
	epoch := e.log.Epoch()
	e.stop()

	e = start(t, dir, store.Options{})
	defer e.stop()
	if e.log.Epoch() != epoch {
		t.Errorf("the epoch changed from %s to %s", epoch, e.log.Epoch())
	}
	a, b = e.lane("a.b"), e.lane("a_b")
	if a.Last() != 720 || b.Last() != 3 {
		t.Errorf("last numbers are %d and %d, want 720 and 3", a.Last(), b.Last())
	}
	if got := string(a.Position("file")); got != `{"at":2}` {
		t.Errorf("position %s", got)
	}
	if diff := cmp.Diff(store.Counts{Collected: 721, DeadLetters: 1}, a.Counts()); diff != "" {
		t.Error(diff)
	}
	e.readAll(a, 0, 100) // from disk: memory is empty after a restart
	e.readAll(a, 333, 7)
	e.put(a, 10, store.Group{})
	e.readAll(a, 700, 1000) // from disk into memory
	e.readAll(a, 725, 2)    // from memory
}

func TestGroupsOfManyCallersShareACommit(t *testing.T) {
	e := start(t, t.TempDir(), store.Options{})
	defer e.stop()
	lanes := []*store.Lane{e.lane("p0"), e.lane("p1"), e.lane("p2")}
	const each = 200
	results := make(chan error, len(lanes)*each)
	for i := range each {
		for _, l := range lanes {
			n := uint64(i + 1)
			g := &store.Group{
				Entries: []store.Entry{{Subject: l.Subject("t", "d"), Data: body(n)}},
				Source:  "s", Position: strconv.AppendUint(nil, n, 10), Done: func(err error) { results <- err },
			}
			if err := l.Append(t.Context(), g); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range len(lanes) * each {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range lanes {
		if l.Last() != each || string(l.Position("s")) != strconv.Itoa(each) {
			t.Errorf("%s: last %d, position %s", l.Name(), l.Last(), l.Position("s"))
		}
		e.readAll(l, 0, 13)
	}
}

func TestOutboxIsReadInOrderAndAgainAfterARestart(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	l := e.lane("p")
	for i := range 3 {
		e.put(l, 5, store.Group{Outbox: store.Outbox{Messages: []record.Message{{ID: strconv.Itoa(i), Body: json.RawMessage(`1`)}}}})
		e.put(l, 5, store.Group{})
	}
	read := func(e *edge) (ids []string) {
		var at uint64
		for range 3 {
			box, seq, err := e.log.NextOutbox(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			ids, at = append(ids, box.Messages[0].ID), seq
		}
		return ids
	}
	want := []string{"0", "1", "2"}
	if diff := cmp.Diff(want, read(e)); diff != "" {
		t.Error(diff)
	}
	e.readAll(l, 0, 1000)
	e.stop()
	e = start(t, dir, store.Options{})
	defer e.stop()
	if diff := cmp.Diff(want, read(e)); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.log.NextOutbox(ctx, 1<<40); err == nil {
		t.Error("an outbox that is not there was read")
	}
}

func TestPurgeKeepsEveryLanesNumbers(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	a, idle := e.lane("a"), e.lane("idle")
	e.put(idle, 4, store.Group{Source: "s", Position: json.RawMessage(`4`)})
	e.put(a, 900, store.Group{})
	if err := e.log.Purge(t.Context(), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	e.put(a, 2, store.Group{})
	e.stop()
	e = start(t, dir, store.Options{})
	defer e.stop()
	a, idle = e.lane("a"), e.lane("idle")
	if a.Last() != 902 || idle.Last() != 4 || string(idle.Position("s")) != "4" {
		t.Errorf("after the purge: a %d, idle %d at %s", a.Last(), idle.Last(), idle.Position("s"))
	}
	r := a.NewReader(0)
	defer r.Close()
	got, err := r.Read(t.Context(), 10, 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Number != 901 {
		t.Errorf("read %d entries after the purge, want 901 and 902: %v", len(got), got)
	}
	gone := idle.NewReader(0)
	defer gone.Close()
	if got, err := gone.Read(t.Context(), 10, 1<<20, nil); err != nil || len(got) != 0 || gone.Number() != 4 {
		t.Errorf("a purged lane gave %v, %v and stands at %d", got, err, gone.Number())
	}
}

func TestAFullLogWaitsForRoomAndLosesNothing(t *testing.T) {
	e := start(t, t.TempDir(), store.Options{MaxBytes: 200 << 10})
	defer e.stop()
	l := e.lane("p")
	big := make([]byte, 40<<10)
	for i := range big {
		big[i] = ' '
	}
	results := make(chan error, 8)
	for range 8 {
		g := &store.Group{Entries: []store.Entry{{Subject: l.Subject("t", "d"), Data: big}}, Done: func(err error) { results <- err }}
		if err := l.Append(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
	wait:
		for {
			select {
			case err := <-results:
				if err != nil {
					t.Fatal(err)
				}
				break wait
			default:
				if e.log.Full() {
					if err := e.log.Purge(t.Context(), e.log.Durable()+1); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	if l.Last() != 8 {
		t.Errorf("last is %d, want 8", l.Last())
	}
}

// A batch that is filled step by step gets what is missing, from memory as from
// disk.
func TestReadFillsUpWhatTheCallerHas(t *testing.T) {
	dir := t.TempDir()
	for _, from := range []string{"memory", "disk"} {
		e := start(t, dir, store.Options{})
		l := e.lane("p")
		if from == "memory" {
			e.put(l, 30, store.Group{})
		}
		r := l.NewReader(0)
		var got []store.Stored
		for _, step := range []struct{ limit, want int }{{9, 9}, {1, 10}, {15, 25}, {100, 30}} {
			var err error
			if got, err = r.Read(t.Context(), step.limit, 1<<20, got); err != nil {
				t.Fatal(err)
			}
			if len(got) != step.want || r.Number() != uint64(step.want) {
				t.Errorf("from %s: %d entries after a read of at most %d, want %d", from, len(got), step.limit, step.want)
			}
		}
		// At least one, however large; then what fits.
		r.Seek(0)
		got, err := r.Read(t.Context(), 10, 1, got[:0])
		if err != nil || len(got) != 1 {
			t.Errorf("from %s: %d entries in one byte, %v", from, len(got), err)
		}
		if got, err = r.Read(t.Context(), 10, 1, got); err != nil || len(got) != 2 {
			t.Errorf("from %s: %d entries after another byte, %v", from, len(got), err)
		}
		r.Close()
		e.stop()
	}
}

// A log that drops its oldest entries keeps the numbers and positions of lanes
// that stand still, and goes on taking from them.
func TestDroppingTheOldestKeepsIdleLanes(t *testing.T) {
	dir := t.TempDir()
	opts := store.Options{MaxBytes: 1 << 20, DropOldest: true}
	e := start(t, dir, opts)
	idle, busy := e.lane("idle"), e.lane("busy")
	e.put(idle, 3, store.Group{Source: "s", Position: json.RawMessage(`3`)})
	big := make([]byte, 100<<10)
	stored := make(chan error, 1)
	for range 150 { // more than the bound and the reserve above it
		g := &store.Group{Entries: []store.Entry{{Subject: busy.Subject("t", "d"), Data: big}}, Done: func(err error) { stored <- err }}
		if err := busy.Append(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	if used, err := e.log.Usage(t.Context()); err != nil || used > 1<<20+64<<10 || used < 1<<18 {
		t.Errorf("the log holds %d bytes of 1 MiB, %v", used, err)
	}
	for range 2 {
		e.put(idle, 1, store.Group{})
		e.stop()
		e = start(t, dir, opts)
		idle, busy = e.lane("idle"), e.lane("busy")
	}
	defer e.stop()
	if idle.Last() != 5 || string(idle.Position("s")) != "3" || busy.Last() != 150 {
		t.Errorf("idle stands at %d and %s, busy at %d", idle.Last(), idle.Position("s"), busy.Last())
	}
}

func TestOneDirectoryServesOneProcess(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	defer e.stop()
	if _, err := broker.Start(t.Context(), broker.Options{Name: "x", Domain: "x", Dir: dir}); err == nil {
		t.Fatal("two brokers share a directory")
	}
}
