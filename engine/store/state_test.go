package store_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/store"
)

func anew(name, data string) store.StateChange {
	return store.StateChange{Name: name, Whole: true, Data: []byte(data)}
}

func more(name, data string) store.StateChange {
	return store.StateChange{Name: name, Data: []byte(data)}
}

func (e *edge) wantState(l *store.Lane, name, want string) {
	e.t.Helper()
	chunks, err := l.State(name)
	if got := string(bytes.Join(chunks, []byte(" "))); got != want || err != nil {
		e.t.Errorf("state %s of %s is %q (%v), want %q", name, l.Name(), got, err, want)
	}
}

// TestStatesComeBack holds that what a lane keeps beside its entries is what the
// groups made of it, in their order, after every restart.
func TestStatesComeBack(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	a, b := e.lane("a"), e.lane("b")
	e.wantState(a, "x", "")
	e.put(a, 3, store.Group{State: []store.StateChange{more("x", "1")}})
	e.put(b, 2, store.Group{State: []store.StateChange{anew("x", "other")}})
	e.put(a, 1, store.Group{State: []store.StateChange{more("x", "2"), more("y", "7")}})
	e.put(a, 2, store.Group{})
	check := func() {
		t.Helper()
		e.wantState(a, "x", "1 2")
		e.wantState(a, "y", "7")
		e.wantState(b, "x", "other")
	}
	again := func() {
		t.Helper()
		e.stop()
		e = start(t, dir, store.Options{})
		a, b = e.lane("a"), e.lane("b")
	}
	check()
	again()
	check()
	// Without entries, and a whole one in the middle.
	e.put(a, 0, store.Group{State: []store.StateChange{more("x", "3"), anew("x", "6"), more("x", "4")}})
	e.wantState(a, "x", "6 4")
	again()
	e.wantState(a, "x", "6 4")
	e.wantState(a, "y", "7")
	e.stop()
}

// TestStatesOutliveAPurge holds that a purge carries states forward, as it does
// commit entries: those that would fall, and only those.
func TestStatesOutliveAPurge(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	a, idle := e.lane("a"), e.lane("idle")
	e.put(idle, 1, store.Group{State: []store.StateChange{anew("x", "still"), more("x", "here")}})
	e.put(a, 1, store.Group{State: []store.StateChange{anew("x", "0")}})
	for i := range 50 {
		e.put(a, 1, store.Group{State: []store.StateChange{more("x", strings.Repeat("i", i%3))}})
		if i%10 == 9 {
			before := e.log.Durable()
			if err := e.log.Purge(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			if written := e.log.Durable() - before; written > 2 {
				t.Errorf("a purge wrote %d messages", written)
			}
			if err := e.log.Purge(t.Context(), before); err != nil {
				t.Fatal(err)
			}
		}
	}
	chunks, err := a.State("x")
	if err != nil || len(chunks) != 51 {
		t.Fatalf("%d chunks, %v", len(chunks), err)
	}
	want := string(bytes.Join(chunks, []byte(" ")))
	if _, err := a.Discard(t.Context(), 1, a.Last(), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	e.stop()
	e = start(t, dir, store.Options{})
	defer func() { e.stop() }()
	e.wantState(e.lane("a"), "x", want)
	e.wantState(e.lane("idle"), "x", "still here")
}

// TestAStateThatIsGone holds that a state which cannot be read keeps neither the
// lane from opening nor a new one from being written.
func TestAStateThatIsGone(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	a := e.lane("a")
	e.put(a, 1, store.Group{State: []store.StateChange{anew("x", "0"), anew("y", "kept")}})
	gone := e.log.Durable()
	e.put(a, 1, store.Group{State: []store.StateChange{anew("y", "kept"), more("x", "1")}})
	js, err := jetstream.New(e.nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "EDGED_RECORDS")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	e.stop()
	e = start(t, dir, store.Options{})
	a = e.lane("a")
	if chunks, err := a.State("x"); err == nil || len(chunks) > 0 || !strings.Contains(err.Error(), "x of a") {
		t.Errorf("a state whose beginning is gone: %q, %v", chunks, err)
	}
	e.wantState(a, "y", "kept")
	if err := e.log.Purge(t.Context(), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	e.put(a, 1, store.Group{State: []store.StateChange{anew("x", "anew")}})
	e.wantState(a, "x", "anew")
	e.stop()
	e = start(t, dir, store.Options{})
	defer e.stop()
	e.wantState(e.lane("a"), "x", "anew")
	e.wantState(e.lane("a"), "y", "kept")
}
