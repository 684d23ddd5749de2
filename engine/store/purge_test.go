package store_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/store"
)

// fill appends entries of about size bytes, one a commit.
func (e *edge) fill(l *store.Lane, n, size int) {
	e.t.Helper()
	stored := make(chan error, 1)
	for range n {
		g := &store.Group{
			Entries: []store.Entry{{Subject: l.Subject("t", "d"), Data: bytes.Repeat([]byte{'x'}, size)}},
			Done:    func(err error) { stored <- err },
		}
		if err := l.Append(e.t.Context(), g); err != nil {
			e.t.Fatal(err)
		}
		if err := <-stored; err != nil {
			e.t.Fatal(err)
		}
	}
}

func (e *edge) subjects() map[string]uint64 {
	e.t.Helper()
	js, err := jetstream.New(e.nc)
	if err != nil {
		e.t.Fatal(err)
	}
	s, err := js.Stream(e.t.Context(), "EDGED_RECORDS")
	if err != nil {
		e.t.Fatal(err)
	}
	info, err := s.Info(e.t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		e.t.Fatal(err)
	}
	return info.State.Subjects
}

// TestOneLaneIsPurgedAlone holds I3 where lanes stand between each other: what
// goes is the lane's own, up to the place that was said, in every segment; the
// numbers, positions and counts of all stay, and nothing of it looks like damage.
func TestOneLaneIsPurgedAlone(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{MaxBytes: 4 << 20})
	kept, goes := e.lane("kept"), e.lane("goes.away") // a name of two tokens, escaped
	for range 100 {
		e.put(kept, 2, store.Group{})
		e.fill(goes, 1, 4<<10) // 6 segments of 64 KiB
	}
	e.put(goes, 1, store.Group{Source: "s", Position: json.RawMessage(`7`), Counts: store.Counts{Collected: 101}})
	if n := len(e.subjects()); n < 7 {
		t.Fatalf("%d subjects: the lane does not use segments", n)
	}
	before, err := e.log.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seq, err := goes.Find(t.Context(), 91)
	if err != nil {
		t.Fatal(err)
	}
	if err := goes.Purge(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	check := func(first uint64) {
		t.Helper()
		want := []store.LaneReport{whole("goes.away", first, 101, e.log.Epoch()), whole("kept", 1, 200, e.log.Epoch())}
		if first == 0 {
			want[0].Count = 0
		}
		got := e.verify(store.Options{})
		for i := range got.Lanes {
			got.Lanes[i].Damaged = [][2]uint64{} // fill's entries are not put's
		}
		if diff := cmp.Diff(want, got.Lanes); diff != "" || len(got.Unreadable) > 0 {
			t.Errorf("verify (-want +got):\n%s\nunreadable %v", diff, got.Unreadable)
		}
		e.readAll(kept, 0, 100)
	}
	check(91)
	if after := e.log.Used(); before-after < 80*(4<<10) {
		t.Errorf("the purge freed %d of %d bytes", before-after, before)
	}
	// Everything: the commit entry is carried forward.
	if err := goes.Purge(t.Context(), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	check(0)
	e.stop()

	e = start(t, dir, store.Options{MaxBytes: 4 << 20})
	defer e.stop()
	kept, goes = e.lane("kept"), e.lane("goes.away")
	check(0)
	if goes.Last() != 101 || string(goes.Position("s")) != "7" || goes.Counts().Collected != 101 {
		t.Errorf("after a restart: last %d, position %s, %+v", goes.Last(), goes.Position("s"), goes.Counts())
	}
	e.fill(goes, 1, 10)
	if first, err := goes.First(t.Context()); first != 102 || err != nil {
		t.Errorf("the lane begins at %d, %v; want 102", first, err)
	}
	// What is common to both goes at once.
	if err := e.log.Purge(t.Context(), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	if n := len(e.subjects()); n != 2 {
		t.Errorf("%d messages are left of two idle lanes: %v", n, e.subjects())
	}
}

// TestOneLaneMakesRoomWhenTheLogIsFull holds that a purge needs no room, and that
// what waits for room gets it though another lane keeps everything.
func TestOneLaneMakesRoomWhenTheLogIsFull(t *testing.T) {
	e := start(t, t.TempDir(), store.Options{MaxBytes: 1 << 20})
	defer e.stop()
	kept, goes := e.lane("kept"), e.lane("goes")
	e.fill(kept, 1, 100)
	e.fill(goes, 15, 60<<10)
	stored := make(chan error, 1)
	g := &store.Group{
		Entries: []store.Entry{{Subject: goes.Subject("t", "d"), Data: make([]byte, 200<<10)}}, Done: func(err error) { stored <- err },
	}
	filled := e.log.Filled()
	if err := goes.Append(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	<-filled
	if !e.log.Full() {
		t.Fatal("the log is not full")
	}
	if err := goes.Purge(t.Context(), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if first, err := kept.First(t.Context()); first != 1 || err != nil {
		t.Errorf("the other lane begins at %d, %v", first, err)
	}
}

// TestStatsOfALane holds them against what is there, in memory and after a
// restart, before and after purges.
func TestStatsOfALane(t *testing.T) {
	dir := t.TempDir()
	begun := time.Now().Add(-time.Second)
	e := start(t, dir, store.Options{MaxBytes: 4 << 20})
	a, b := e.lane("a"), e.lane("b")
	stats := func(l *store.Lane) store.Stats {
		t.Helper()
		s, err := l.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if diff := cmp.Diff(store.Stats{}, stats(a)); diff != "" {
		t.Errorf("of a new lane (-want +got):\n%s", diff)
	}
	e.fill(a, 50, 4<<10)
	e.fill(b, 10, 1<<10)
	half := time.Now()
	e.fill(a, 50, 4<<10)
	check := func(first, count uint64) {
		t.Helper()
		s := stats(a)
		if s.First != first || s.Count != count {
			t.Errorf("begins at %d and counts %d, want %d and %d", s.First, s.Count, first, count)
		}
		usage, err := e.log.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if sum := s.Bytes + stats(b).Bytes; sum < usage*95/100 || sum > usage*105/100 {
			t.Errorf("the lanes count %d bytes, the server %d", sum, usage)
		}
		if count > 0 && (s.Oldest.Before(begun) || s.Newest.Before(half) || s.Newest.After(time.Now()) || s.Newest.Before(s.Oldest)) {
			t.Errorf("from %s to %s", s.Oldest, s.Newest)
		}
		if at, err := a.StoredAt(t.Context(), 60, 0); err != nil || count >= 41 && at.Before(half) || count == 0 && !at.IsZero() {
			t.Errorf("60 was stored at %s, %v; that is after %s", at, err, half)
		}
	}
	check(1, 100)
	e.stop()
	e = start(t, dir, store.Options{MaxBytes: 4 << 20})
	a, b = e.lane("a"), e.lane("b")
	check(1, 100)
	seq, err := a.Find(t.Context(), 31)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.log.Purge(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	check(31, 70)
	if seq, err = a.SequenceOf(t.Context(), 42*(4<<10), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	if err := a.Purge(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	if s := stats(a); s.Bytes > 42*(4<<10) || s.Bytes < 38*(4<<10) {
		t.Errorf("%d bytes are left, want up to %d", s.Bytes, 42*(4<<10))
	}
	if err := a.Purge(t.Context(), e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	check(0, 0)
	e.stop()
	e = start(t, dir, store.Options{MaxBytes: 4 << 20})
	defer e.stop()
	a, b = e.lane("a"), e.lane("b")
	check(0, 0)
	e.fill(a, 1, 10)
	check(101, 1)
}

// TestWhatAFullLogDropsIsCounted holds I7 for a log that drops its oldest: how
// many entries went of each lane, and which, is kept across a restart.
func TestWhatAFullLogDropsIsCounted(t *testing.T) {
	dir := t.TempDir()
	opts := store.Options{MaxBytes: 1 << 20, DropOldest: true, Single: true}
	e := start(t, dir, opts)
	first, busy := e.lane("first"), e.lane("busy")
	e.fill(first, 3, 1<<10)
	e.fill(busy, 10, 50<<10)
	if n := first.Counts().Evicted + busy.Counts().Evicted; n != 0 {
		t.Fatalf("%d were evicted before the log was full", n)
	}
	e.fill(busy, 50, 50<<10)
	check := func() {
		t.Helper()
		if diff := cmp.Diff([][2]uint64{{1, 3}}, e.lane("first").Evicted()); diff != "" || e.lane("first").Counts().Evicted != 3 {
			t.Errorf("first (-want +got):\n%s", diff)
		}
		left := e.numbers("busy")
		want := 60 - uint64(len(left))
		if got := e.lane("busy").Counts().Evicted; got != want || want < 30 {
			t.Errorf("%d evicted of busy, %d are missing", got, want)
		}
		if diff := cmp.Diff([][2]uint64{{1, want}}, e.lane("busy").Evicted()); diff != "" {
			t.Errorf("busy (-want +got):\n%s", diff)
		}
	}
	check()
	e.stop()
	e = start(t, dir, opts)
	defer e.stop()
	check()
}

// TestDamageIsFoundBetweenDeletes holds that what a purge of one lane leaves
// behind hides no damage, with the server's list of it and without.
func TestDamageIsFoundBetweenDeletes(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	kept, goes := e.lane("kept"), e.lane("goes")
	for range 10 {
		e.put(kept, 1, store.Group{})
		e.put(goes, 1, store.Group{})
	}
	seq, err := kept.Find(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := goes.Purge(t.Context(), e.log.Durable()); err != nil {
		t.Fatal(err)
	}
	e.stop()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "EDGED_RECORDS", "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	block, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; ; at++ { // of both lanes: one is deleted, and must not be missed
		next := bytes.Index(block[at:], body(5))
		if next < 0 {
			break
		}
		at += next
		block[at+2] ^= 4
	}
	if err := os.WriteFile(blocks[0], block, 0o600); err != nil {
		t.Fatal(err)
	}
	e = start(t, dir, store.Options{})
	defer e.stop()
	got, more, err := store.Unreadable(t.Context(), e.nc, "EDGED_RECORDS", true)
	if diff := cmp.Diff([]uint64{seq}, got); diff != "" || more != 0 || err != nil {
		t.Errorf("unreadable (-want +got):\n%s\nand %d, %v", diff, more, err)
	}
	if got, more, err := store.Unreadable(t.Context(), e.nc, "EDGED_RECORDS", false); len(got) != 0 || more != 1 || err != nil {
		t.Errorf("without details: %v and %d are unreadable, %v; want 1", got, more, err)
	}
	for _, lane := range e.verify(store.Options{}).Lanes {
		gaps := [][2]uint64{{5, 5}}
		if lane.Lane == "goes" {
			gaps = [][2]uint64{}
		}
		if diff := cmp.Diff(gaps, lane.Gaps); diff != "" {
			t.Errorf("%s: gaps (-want +got):\n%s", lane.Lane, diff)
		}
	}
}
