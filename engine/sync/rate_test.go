package sync_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// takes reports whether n bytes may go now.
func takes(t *testing.T, r *sync.Rate, kind sync.Kind, n int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := r.Take(ctx, kind, n)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

// TestRate goes through the bucket with a clock that stands.
func TestRate(t *testing.T) {
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	r := sync.NewRate(100<<10, func() time.Time { return now })
	const chunk = 50 << 10
	if r.Chunk() != chunk {
		t.Fatalf("the chunk is %d", r.Chunk())
	}
	step := func(what string, kind sync.Kind, n int, want bool) {
		t.Helper()
		if got := takes(t, r, kind, n); got != want {
			t.Errorf("%s: %t", what, got)
		}
	}
	step("a chunk of records goes at once", sync.Records, chunk, true)
	step("more does not", sync.Records, 1, false)
	step("a message still goes", sync.Messages, 10<<10, true)
	step("and a chunk of them in all", sync.Messages, 40<<10, true)
	step("but not more", sync.Messages, 1, false)
	now = now.Add(500 * time.Millisecond) // pays the debt
	step("records wait for what messages have borrowed", sync.Records, 10<<10, false)
	now = now.Add(100 * time.Millisecond)
	step("and go when it is paid", sync.Records, 10<<10, true)
	now = now.Add(time.Hour)
	step("the bucket holds one chunk: what is larger goes", sync.Records, 5*chunk, true)
	now = now.Add(2 * time.Second)
	step("leaves a debt", sync.Records, 1, false)
	now = now.Add(time.Millisecond)
	step("and no more", sync.Records, 1, true)
	if r := sync.NewRate(0, nil); r != nil || r.Chunk() != 0 || r.Take(t.Context(), sync.Records, 1<<40) != nil {
		t.Error("without a rate there is a bound")
	}
}

// TestRateGoesByTurns lets many small takers of records ask while a large one
// waits for a full bucket: they go behind it.
func TestRateGoesByTurns(t *testing.T) {
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	var looks atomic.Int64
	asked := make(chan struct{}, 1)
	r := sync.NewRate(100<<10, func() time.Time {
		select {
		case asked <- struct{}{}:
		default:
		}
		return now.Add(time.Duration(looks.Load()))
	})
	const chunk = 50 << 10
	if !takes(t, r, sync.Records, 1<<10) {
		t.Fatal("the bucket was not full")
	}
	<-asked
	large := make(chan error, 1)
	go func() { large <- r.Take(within(t), sync.Records, chunk) }()
	<-asked // it is in the line
	if takes(t, r, sync.Records, 1) {
		t.Error("a small one passes it")
	}
	if !takes(t, r, sync.Messages, 1) {
		t.Error("a message does not")
	}
	looks.Store(int64(time.Second))
	if takes(t, r, sync.Records, 1); <-large != nil { // it looks when another comes
		t.Error("it waits in vain")
	}
}

// TestRateStarvesNobody lets messages ask without end while records wait.
func TestRateStarvesNobody(t *testing.T) {
	r := sync.NewRate(8<<20, nil) // a chunk of 1 MiB
	ctx, cancel := context.WithCancel(t.Context())
	asking := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			if err := r.Take(ctx, sync.Messages, 64<<10); err != nil {
				done <- err
				return
			}
			if n == 50 {
				close(asking)
			}
		}
	}()
	<-asking
	for range 3 {
		if err := r.Take(within(t), sync.Records, 64<<10); err != nil {
			t.Errorf("records wait for ever: %v", err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAnAlarmPassesALimitedBacklog lets a backlog drain over a link that is
// limited to a small rate: what is sent keeps to it, and an alarm is at the hub
// within a chunk's time, not behind the backlog.
func TestAnAlarmPassesALimitedBacklog(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	p := newProxy(t, h.leaf())
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a := e.lane("a")
	e.put(a, 3000) // about 700 KiB on the wire
	const perSecond = 48 << 10
	rate := sync.NewRate(perSecond, nil)
	r := e.prepare(remoteOptions{lanes: lanes(a), rate: rate, policy: batch.Policy{MaxRecords: 500, MaxBytes: 1 << 20, MaxWait: time.Millisecond}})
	alarms, err := h.nc.SubscribeSync(sync.HubQueueSubject + ".edge.critical.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	r.run()
	r.until("the backlog drains", func() bool { pushes, _, _ := r.account(); return len(pushes) > 3 })
	for i := range 5 {
		before := len(strings.Fields(r.sizes("a")))
		e.message(record.Critical, "a", 1)
		if _, err := alarms.NextMsgWithContext(within(t)); err != nil {
			t.Fatal(err)
		}
		// One push may have been under way and one have taken its bytes; one more may
		// have gone before the test looks.
		if passed := len(strings.Fields(r.sizes("a"))) - before; passed > 3 {
			t.Errorf("alarm %d came behind %d pushes of records", i, passed)
		}
		if r.drained() {
			t.Fatal("there is no backlog any more")
		}
	}
	r.until("everything is at the hub", r.drained)
	took := time.Since(started)
	_, bytes := p.counts()
	most := int64(perSecond*took.Seconds()) + 2*int64(rate.Chunk())
	t.Logf("%d bytes in %v, of %d", bytes, took.Round(time.Millisecond), most)
	if bytes > most+most/10 {
		t.Errorf("%d bytes in %v, want %d at most", bytes, took, most)
	}
	h.holds("edge", "records", "a", 3000)
}
