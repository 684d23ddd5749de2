package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/store"
)

// verify checks the log; entries must be the JSON that put makes.
func (e *edge) verify(opts store.Options) store.Report {
	e.t.Helper()
	opts.Stream, opts.Subject = "EDGED_RECORDS", "edged.records"
	r, err := store.Verify(e.t.Context(), e.nc, opts, nil, func(f *store.Found) error {
		if !bytes.Equal(f.Data, body(f.Number)) {
			return errors.New("not what was put")
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

// numbers are what a scan finds of a lane.
func (e *edge) numbers(lane string) []uint64 {
	e.t.Helper()
	var found []uint64
	err := store.Scan(e.t.Context(), e.nc, "EDGED_RECORDS", "edged.records", nil, func(f *store.Found) error {
		if f.Lane == lane {
			found = append(found, f.Number)
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return found
}

// whole is the report of a lane that is as it should be.
func whole(lane string, first, last uint64, epoch string) store.LaneReport {
	return store.LaneReport{
		Lane: lane, Epoch: epoch, First: first, Last: last, Count: last - first + 1,
		Gaps: [][2]uint64{}, Removed: [][2]uint64{}, Damaged: [][2]uint64{},
	}
}

func TestVerifyFindsNothingInAWholeLog(t *testing.T) {
	e := start(t, t.TempDir(), store.Options{})
	defer e.stop()
	a, b := e.lane("a"), e.lane("b b")
	for range 5 {
		e.put(a, 3, store.Group{})
		e.put(b, 1, store.Group{})
	}
	epoch := e.log.Epoch()
	want := []store.LaneReport{whole("a", 1, 15, epoch), whole("b b", 1, 5, epoch)}
	if diff := cmp.Diff(want, e.verify(store.Options{}).Lanes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// What was purged is not missed; what was discarded is said to be.
	if err := e.log.Purge(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	want = []store.LaneReport{whole("a", 7, 15, epoch), whole("b b", 3, 5, epoch)}
	if diff := cmp.Diff(want, e.verify(store.Options{}).Lanes); diff != "" {
		t.Errorf("after a purge (-want +got):\n%s", diff)
	}
	if _, err := a.Discard(t.Context(), 7, 9, e.log.Durable()+1); err != nil {
		t.Fatal(err)
	}
	want[0] = whole("a", 10, 15, epoch)
	if diff := cmp.Diff(want, e.verify(store.Options{}).Lanes); diff != "" {
		t.Errorf("after a discard (-want +got):\n%s", diff)
	}
}

// TestVerifyFindsAChangedByte holds that damage on the disk is found and named,
// and hides nothing of what stands behind it.
func TestVerifyFindsAChangedByte(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{})
	a := e.lane("a")
	for range 6 {
		e.put(a, 3, store.Group{})
	}
	epoch := e.log.Epoch()
	e.stop()

	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "EDGED_RECORDS", "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	block, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(block, body(8))
	block[at+2] ^= 4
	if err := os.WriteFile(blocks[0], block, 0o600); err != nil {
		t.Fatal(err)
	}

	e = start(t, dir, store.Options{})
	defer e.stop()
	got := e.verify(store.Options{})
	want := whole("a", 1, 18, epoch)
	want.Count, want.Gaps = 15, [][2]uint64{{7, 9}}
	if diff := cmp.Diff([]store.LaneReport{want}, got.Lanes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][2]uint64{{3, 3}}, got.Unreadable); diff != "" {
		t.Errorf("unreadable (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 17, 18}, e.numbers("a")); diff != "" {
		t.Errorf("a scan finds (-want +got):\n%s", diff)
	}
}

// TestVerifyFindsWhatTheServerDoesNot writes past the log what it would never
// write: a pack that is none, and one whose numbers were given out before.
func TestVerifyFindsWhatTheServerDoesNot(t *testing.T) {
	e := start(t, t.TempDir(), store.Options{})
	defer e.stop()
	a := e.lane("a")
	e.put(a, 2, store.Group{})
	e.put(a, 1, store.Group{Entries: []store.Entry{{Subject: a.Subject("t", "d"), Data: []byte("foreign")}}})
	js, err := jetstream.New(e.nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "EDGED_RECORDS")
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(first.Data)
	changed[len(changed)/2] ^= 1
	for _, data := range [][]byte{first.Data, changed} {
		if _, err := js.Publish(t.Context(), first.Subject, data); err != nil {
			t.Fatal(err)
		}
	}
	lane := e.verify(store.Options{}).Lanes[0]
	// 3 is foreign, and with it put's own numbers are one off; 1 and 2 came twice.
	if lane.DamagedPacks != 1 || lane.Count != 6 || lane.Last != 4 {
		t.Errorf("%+v", lane)
	}
	if diff := cmp.Diff([][2]uint64{{3, 4}, {1, 2}}, lane.Damaged); diff != "" {
		t.Errorf("damaged (-want +got):\n%s", diff)
	}
}

func TestVerifyWithoutALog(t *testing.T) {
	e := start(t, t.TempDir(), store.Options{})
	defer e.stop()
	_, err := store.Verify(t.Context(), e.nc, store.Options{Stream: "OTHER", Subject: "other"}, nil, nil)
	if !errors.Is(err, store.ErrNoStream) {
		t.Errorf("error %v, want ErrNoStream", err)
	}
	_, err = store.Open(t.Context(), e.nc, store.Options{Stream: "OTHER", Subject: "other", Existing: true})
	if !errors.Is(err, store.ErrNoStream) {
		t.Errorf("error %v, want ErrNoStream", err)
	}
}

// TestScansReadInBatches holds that a scan asks for many messages at a time, also
// of a log that an earlier version made once it has been opened; and that one that
// has not been is read all the same, message by message.
func TestScansReadInBatches(t *testing.T) {
	const entries = 2500
	dir := t.TempDir()
	e := start(t, dir, store.Options{Single: true})
	for range entries / 500 {
		e.put(e.lane("a"), 500, store.Group{})
	}
	js, err := jetstream.New(e.nc)
	if err != nil {
		t.Fatal(err)
	}
	var batches, alone *nats.Subscription
	watch := func() {
		t.Helper()
		var err error
		if batches, err = e.nc.SubscribeSync("$JS.API.DIRECT.GET.>"); err == nil {
			alone, err = e.nc.SubscribeSync("$JS.API.STREAM.MSG.GET.>")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	asked := func(sub *nats.Subscription) int {
		n, _, err := sub.Pending()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	scan := func(wantBatches int, wantAlone bool) {
		t.Helper()
		watch()
		var told, all uint64
		next := uint64(1)
		err := store.Scan(t.Context(), e.nc, "EDGED_RECORDS", "edged.records", func(n, of uint64) {
			if n != told+1 {
				t.Fatalf("after %d it tells of %d", told, n)
			}
			told, all = n, of
		}, func(f *store.Found) error {
			if f.Number != next || !bytes.Equal(f.Data, body(next)) || f.Time.IsZero() {
				t.Fatalf("got %+v, want number %d", f, next)
			}
			next++
			return nil
		})
		if err == nil {
			err = e.nc.Flush() // what was asked has been counted
		}
		if err != nil || next != entries+1 || told != all || all < entries {
			t.Fatalf("%v: up to %d, told of %d of %d", err, next-1, told, all)
		}
		n := 0
		if wantAlone {
			n = int(all)
		}
		if asked(batches) != wantBatches || asked(alone) != n {
			t.Errorf("asked for %d batches and %d messages, want %d and %d", asked(batches), asked(alone), wantBatches, n)
		}
	}
	scan(3, false)

	s, err := js.Stream(t.Context(), "EDGED_RECORDS")
	if err != nil {
		t.Fatal(err)
	}
	older := s.CachedInfo().Config
	older.AllowDirect = false
	if _, err := js.UpdateStream(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	scan(0, true)
	e.stop()
	e = start(t, dir, store.Options{Single: true})
	defer e.stop()
	scan(3, false)
}

// TestRemovedEntriesStayAway holds that exactly those go that were named, that
// numbers are not given out again, and that it is noted (I7).
func TestRemovedEntriesStayAway(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, store.Options{Single: true})
	a, b := e.lane("a"), e.lane("b")
	e.put(a, 5, store.Group{Source: "s", Position: json.RawMessage(`7`)})
	e.put(b, 2, store.Group{})
	var named []store.Found
	err := store.Scan(t.Context(), e.nc, "EDGED_RECORDS", "edged.records", nil, func(f *store.Found) error {
		if f.Lane == "a" && f.Number != 2 || f.Lane == "b" && f.Number == 2 {
			named = append(named, *f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// In any order, and one twice.
	named[0], named[3] = named[3], named[0]
	for _, want := range []int{5, 0} {
		if n, err := e.log.Remove(t.Context(), named); n != want || err != nil {
			t.Fatalf("removed %d, %v; want %d", n, err, want)
		}
	}
	look := func(e *edge) {
		t.Helper()
		if diff := cmp.Diff([]uint64{2}, e.numbers("a")); diff != "" {
			t.Errorf("a (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]uint64{1}, e.numbers("b")); diff != "" {
			t.Errorf("b (-want +got):\n%s", diff)
		}
		lane := e.lane("a")
		if lane.Last() != 5 || lane.Counts().Discarded != 4 || string(lane.Position("s")) != "7" {
			t.Errorf("last %d, %+v, position %s", lane.Last(), lane.Counts(), lane.Position("s"))
		}
	}
	look(e)
	e.stop()
	e = start(t, dir, store.Options{Single: true})
	defer e.stop()
	look(e)
	e.put(e.lane("a"), 1, store.Group{})
	if diff := cmp.Diff([]uint64{2, 6}, e.numbers("a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r := e.verify(store.Options{Single: true})
	if diff := cmp.Diff([][2]uint64{{3, 5}}, r.Lanes[0].Removed); diff != "" || len(r.Lanes[0].Gaps) > 0 {
		t.Errorf("verify says %+v (-want +got):\n%s", r.Lanes[0], diff)
	}

	// All that are there, but none that comes after they were counted.
	var newest uint64
	err = store.Scan(t.Context(), e.nc, "EDGED_RECORDS", "edged.records", nil, func(f *store.Found) error { newest = f.Seq; return nil })
	if err != nil {
		t.Fatal(err)
	}
	e.put(e.lane("b"), 1, store.Group{})
	if err := e.log.RemoveBefore(t.Context(), newest+1, map[string][2]uint64{"a": {2, 6}, "b": {1, 1}}); err != nil {
		t.Fatal(err)
	}
	if got := e.numbers("a"); len(got) > 0 {
		t.Errorf("left of a: %v", got)
	}
	if diff := cmp.Diff([]uint64{3}, e.numbers("b")); diff != "" {
		t.Errorf("b (-want +got):\n%s", diff)
	}
	if last := e.lane("a").Last(); last != 6 {
		t.Errorf("a has the number %d, want 6", last)
	}
}

// TestPackedEntriesAreNotRemoved holds that an entry never takes others with it.
func TestPackedEntriesAreNotRemoved(t *testing.T) {
	e := start(t, t.TempDir(), store.Options{})
	defer e.stop()
	e.put(e.lane("a"), 2, store.Group{})
	if n, err := e.log.Remove(t.Context(), []store.Found{{Lane: "a", Number: 1, Seq: 1}}); n != 0 || err == nil {
		t.Errorf("removed %d, %v; want an error", n, err)
	}
	if got := e.numbers("a"); len(got) != 2 {
		t.Errorf("left %v", got)
	}
}
