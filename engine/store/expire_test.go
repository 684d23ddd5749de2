package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/store"
)

// TestExpire holds that only whole packs go, never the newest, that another lane
// keeps its own, and that what went is known for good (I7).
func TestExpire(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	a, b := e.lane("a"), e.lane("b")
	for range 4 {
		e.put(a, 10, store.Group{})
		e.put(b, 1, store.Group{})
	}
	expire := func(first, last, want uint64) {
		t.Helper()
		got, err := a.Expire(t.Context(), first, last)
		if err != nil || got != want {
			t.Fatalf("of %d to %d those up to %d went, want %d; %v", first, last, got, want, err)
		}
	}
	expire(1, 9, 0) // a part of a pack
	expire(1, 10, 10)
	expire(11, 25, 20)
	check := func(e *edge) {
		t.Helper()
		a, b := e.lane("a"), e.lane("b")
		if diff := cmp.Diff([][2]uint64{{5, 20}}, a.Expired(5, 40)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if first, err := a.First(t.Context()); err != nil || first != 21 || a.Last() != 40 || a.Counts().Expired != 20 || len(b.Expired(1, 40)) > 0 {
			t.Errorf("it holds %d to %d, %d expired, of the other %v; %v", first, a.Last(), a.Counts().Expired, b.Expired(1, 40), err)
		}
		e.readAll(a, 20, 7)
		e.readAll(b, 0, 7)
	}
	check(e)
	e.stop()
	e = start(t, dir, store.Options{})
	check(e)
	a = e.lane("a")
	expire(21, 40, 30)
	expire(31, 40, 0) // the newest stays
	e.readAll(a, 30, 7)
	e.stop()
}
