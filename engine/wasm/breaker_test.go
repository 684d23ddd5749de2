package wasm

import (
	"context"
	"strings"
	"testing"
	"time"
)

// clock is a time that only moves when it is told to.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func clockedHost(t *testing.T, opts Options) (*Host, *clock) {
	t.Helper()
	c := &clock{testTime}
	opts.Now = c.now
	h, err := NewHost(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Errorf("closing the host: %v", err)
		}
	})
	return h, c
}

func TestBreaker(t *testing.T) {
	at := testTime
	var b breaker
	steps := func(pattern string) {
		for _, c := range pattern {
			b.note(map[rune]int{'.': 1}[c], c == 'x', at)
		}
	}
	state := func(want BreakerState, rest time.Duration) {
		t.Helper()
		got, until, _ := b.state(at)
		if got != want || want == BreakerOpen && until.Sub(at) != rest {
			t.Fatalf("got %s for %s, want %s for %s", got, until.Sub(at), want, rest)
		}
	}
	steps(strings.Repeat("x", breakInRow-1) + ".")
	steps(strings.Repeat("x", breakInRow-1))
	state(BreakerClosed, 0)
	steps("x")
	state(BreakerOpen, time.Second)
	if n := b.allow(64, at); n != 0 {
		t.Errorf("%d items were allowed in a rest", n)
	}
	for _, rest := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		at = at.Add(time.Minute)
		state(BreakerTrial, 0)
		if n := b.allow(64, at); n != 1 || b.allow(64, at) != 0 {
			t.Fatalf("%d items were allowed on trial, and then more", n)
		}
		steps("x")
		state(BreakerOpen, rest*time.Second)
	}
	at = at.Add(time.Minute)
	if b.allow(64, at) != 1 {
		t.Fatal("no trial")
	}
	b.cancel() // for instance the edge stopped meanwhile
	if b.allow(64, at) != 1 {
		t.Fatal("no trial after one that was canceled")
	}
	steps(".")
	state(BreakerClosed, 0)
	// What it was like before it rested does not count, how long it rested does.
	steps(strings.Repeat("x", breakInRow-1) + "." + strings.Repeat("x", breakInRow))
	state(BreakerOpen, time.Minute)
	at = at.Add(time.Minute)
	b.allow(64, at)
	b.note(breakWindow, false, at)
	steps(strings.Repeat("x", breakInRow))
	state(BreakerOpen, time.Second)
	// More than half of the last hundred, never ten in a row.
	b = breaker{}
	steps(strings.Repeat("xx.", 33))
	state(BreakerClosed, 0)
	steps("x")
	state(BreakerOpen, time.Second)
	b = breaker{}
	steps(strings.Repeat("x.", 500))
	state(BreakerClosed, 0)
}

func TestPluginRestsAfterManyFaults(t *testing.T) {
	h, c := clockedHost(t, Options{Workers: 2})
	p := load(t, h, Module{Code: evilGuest(unreachable).build()})
	healthy := load(t, h, Module{Name: "healthy", Code: evilGuest(unreachable).build()})
	evil := make([]string, 30)
	for i := range evil {
		evil[i] = "X"
	}
	var out Output
	run := func(ids ...string) (faulted, skipped, passed int) {
		t.Helper()
		if err := p.Transform(t.Context(), testRecords(ids...), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if len(out.Results) != len(ids) {
			t.Fatalf("%d results for %d records", len(out.Results), len(ids))
		}
		for _, r := range out.Results {
			switch r.Action {
			case Faulted:
				faulted++
			case Skipped:
				skipped++
				if !strings.Contains(r.Reason, p.SHA256()) || !strings.Contains(r.Reason, "rests after too many faults") {
					t.Errorf("reason %q", r.Reason)
				}
			case Pass:
				passed++
			}
		}
		return faulted, skipped, passed
	}
	if f, s, _ := run(evil...); f != breakInRow || s != 20 {
		t.Errorf("%d faulted, %d were skipped; want 10 and 20", f, s)
	}
	if st := p.Stats(); st.Breaker != BreakerOpen || !st.RestsUntil.Equal(testTime.Add(time.Second)) || st.Skipped != 20 || st.Records != 10 || st.Rests != 1 {
		t.Errorf("stats %+v", st)
	}
	if p.Rests() != time.Second {
		t.Errorf("it rests for %s", p.Rests())
	}
	before := p.Stats().Calls
	if f, s, _ := run("a", "X"); f != 0 || s != 2 || p.Stats().Calls != before {
		t.Errorf("a plugin at rest was called")
	}
	// Another does not notice.
	var other Output
	if err := healthy.Transform(t.Context(), testRecords("a"), testTime, &other); err != nil || other.Results[0].Action != Pass {
		t.Errorf("the other plugin: %v %+v", err, other.Results)
	}
	c.at = c.at.Add(time.Second)
	if f, s, _ := run("X", "a", "b"); f != 1 || s != 2 {
		t.Errorf("a trial: %d faulted, %d were skipped, want 1 and 2", f, s)
	}
	c.at = c.at.Add(2 * time.Second)
	if f, s, ok := run("a", "X", "b", "c"); f != 1 || s != 0 || ok != 3 {
		t.Errorf("after the trial: %d faulted, %d were skipped, %d passed", f, s, ok)
	}
	if st := p.Stats(); st.Breaker != BreakerClosed || st.Rests != 2 {
		t.Errorf("stats %+v", st)
	}
}
