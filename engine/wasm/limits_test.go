package wasm

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestFuelIsTheSameEverywhere holds that what a call uses depends on the module
// and its input alone: not on the instance, nor on what it did before.
func TestFuelIsTheSameEverywhere(t *testing.T) {
	code := evilGuest(unreachable).build()
	in := testRecords("a", "b", "c")
	var want uint64
	for range 2 {
		p := load(t, testHost(t), Module{Code: code})
		for round := range 3 {
			var out Output
			if round == 1 { // another call between, and then a fresh instance
				if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
					t.Fatal(err)
				}
			}
			before := p.Stats().Fuel
			if err := p.Transform(t.Context(), in, testTime, &out); err != nil {
				t.Fatal(err)
			}
			used := p.Stats().Fuel - before
			if want == 0 {
				want = used
			}
			if used != want || used < 30 || used > 300 {
				t.Fatalf("used %d, want %d", used, want)
			}
		}
		// Exactly as much is enough, one less is not.
		for limit, kind := range map[int64]FaultKind{int64(want): "", int64(want) - 1: FaultFuel} {
			p := load(t, testHost(t), Module{Code: code, Limits: Limits{Fuel: limit}})
			var out Output
			if err := p.Transform(t.Context(), in, testTime, &out); err != nil {
				t.Fatal(err)
			}
			replayed := p.Stats().Replays == 1 // alone each record has enough
			if replayed != (kind == FaultFuel) {
				t.Errorf("with %d of fuel: %+v", limit, p.Stats())
			}
		}
	}
}

func TestFuelIsBounded(t *testing.T) {
	for name, body := range map[string][]byte{
		"loop":       spin,
		"host calls": loop(callf(0), drop, br(0)),
	} {
		g := newGuest()
		g.importFunc(moduleWASI, "sched_yield", nil, []byte{tI32})
		g.marker().allocAt(iconst(atInbox)).passUnless(body)
		p := load(t, testHost(t), Module{Code: g.build(), Limits: Limits{Fuel: 123_456, Time: time.Hour}})
		var out Output
		if err := p.Transform(t.Context(), testRecords("a", "X"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if r := out.Results[1]; r.Action != Faulted || r.Fault.Kind != FaultFuel || !strings.Contains(r.Reason, "used up its 123456 units of fuel") {
			t.Errorf("%s: got %v %s", name, r.Action, r.Reason)
		}
		if used := p.Stats().Fuel; used < 2*123_456 || used > 2*123_456+1000 {
			t.Errorf("%s: used %d in two calls that were stopped", name, used)
		}
	}
}

// TestHostCallsTakeTime holds that a guest which leaves the work to the host is
// stopped like one that works.
func TestHostCallsTakeTime(t *testing.T) {
	for name, c := range map[string]struct {
		params int
		args   []int64
	}{
		"random_get": {2, []int64{4096, maxRandomBytes}}, "fd_write": {4, []int64{1, 4096, maxIOVec, 8}}, "poll_oneoff": {4, []int64{4096, 16384, maxPoll, 8}},
	} {
		g := newGuest()
		g.importFunc(moduleWASI, name, bytes.Repeat([]byte{tI32}, c.params), []byte{tI32})
		var args [][]byte
		for _, a := range c.args {
			args = append(args, iconst(a))
		}
		g.marker().allocAt(iconst(atInbox)).passUnless(loop(cat(args...), callf(0), drop, br(0)))
		p := load(t, testHost(t), Module{Code: g.build(), Limits: Limits{Time: 5 * time.Millisecond}})
		var out Output
		if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if r := out.Results[0]; r.Action != Faulted || r.Fault.Kind != FaultTime {
			t.Errorf("%s: got %v %s", name, r.Action, r.Reason)
		}
		// What it was charged says how long the host can have worked after the
		// time was over: at most a slice.
		if used := p.Stats().Fuel; used < 5000*instructionsPerMicrosecond {
			t.Errorf("%s: it was charged %d only", name, used)
		}
	}
}

func TestLogRateIsBounded(t *testing.T) {
	var buf bytes.Buffer
	h, c := clockedHost(t, Options{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
	g := newGuest()
	g.importFunc(moduleEdged, "log", []byte{tI32, tI32, tI32}, nil)
	g.segment(4096, []byte("line"))
	g.marker().allocAt(iconst(atInbox)).passUnless(iconst(1), iconst(4096), iconst(4), callf(0), iconst(0), iconst(4096), iconst(4), callf(0))
	p := load(t, h, Module{Code: g.build(), Allow: []string{CapabilityLog}, Limits: Limits{LogLines: 5}})
	flood := func() int {
		t.Helper()
		buf.Reset()
		for range 20 {
			var out Output
			if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Count(buf.String(), "\n")
	}
	if n := flood(); n != 5 {
		t.Errorf("%d lines in the first second, want 5", n)
	}
	c.at = c.at.Add(400 * time.Millisecond)
	if n := flood(); n != 2 {
		t.Errorf("%d lines in 400 ms, want 2", n)
	}
	c.at = c.at.Add(time.Hour)
	if n := flood(); n != 5 {
		t.Errorf("%d lines after an hour, want 5", n)
	}
	// Lines below the log's level take no room from others and are no loss.
	if n := p.Stats().LogDropped; n != 15+18+15 {
		t.Errorf("%d lines are counted as dropped, want 48", n)
	}
}

func TestConfigAndMetrics(t *testing.T) {
	h, _ := clockedHost(t, Options{Config: func(key string) ([]byte, bool) { return []byte("21.5"), key == "setpoint" }})
	g := newGuest()
	i32s := func(n int) []byte { return bytes.Repeat([]byte{tI32}, n) }
	g.importFunc(moduleEdged, "config_get", i32s(4), []byte{tI32})
	g.importFunc(moduleEdged, "metric_add", []byte{tI32, tI32, 0x7c}, []byte{tI32})
	g.segment(4096, []byte("setpoint_Total9 "))
	at := func(off int, code ...[]byte) []byte {
		return cat(iconst(int64(atData+off)), cat(code...), op(0x3a, 0, 0))
	}
	config := func(size, buf, room int64) []byte {
		return cat(iconst(4096), iconst(size), iconst(buf), iconst(room), callf(0))
	}
	f64 := func(b ...byte) []byte { return append([]byte{0x44}, b...) }
	half, nan := f64(0, 0, 0, 0, 0, 0, 0xe0, 0x3f), f64(0, 0, 0, 0, 0, 0, 0xf8, 0x7f)
	metric := func(size int64, delta []byte) []byte { return cat(iconst(4096), iconst(size), delta, callf(1)) }
	reporting(g,
		at(0, config(8, 8192, 4)), at(1, iconst(8194), load8(0)),
		at(2, config(7, 8192, 4)), at(3, config(8, 8192, 3)), at(4, config(0, 8192, 4)), at(5, config(8, -1, 4)),
		at(6, metric(15, half)), at(7, metric(15, half)), at(8, metric(8, half)),
		at(9, metric(16, half)), at(10, metric(0, half)), at(11, metric(65, half)), at(12, metric(8, nan)), at(13, iconst(0)),
	)
	p := load(t, h, Module{Code: g.build(), Allow: []string{CapabilityConfig, CapabilityMetric}})
	var out Output
	if err := p.Transform(t.Context(), testRecords("x"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	neg := func(v int8) byte { return byte(v) }
	want := []byte{4, '.', neg(-1), 4, neg(-4), neg(-4), 0, 0, 0, neg(-4), neg(-4), neg(-4), neg(-4), 0}
	if diff := cmp.Diff(want, reported(t, &out)[:14]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]float64{"setpoint_Total9": 1, "setpoint": 0.5}, p.Stats().Metrics); diff != "" {
		t.Error(diff)
	}
}

func TestMetricsAreBoundedAndExact(t *testing.T) {
	// Each record whose id begins with X counts under its second letter, and
	// with XT it traps afterwards.
	g := newGuest()
	g.importFunc(moduleEdged, "metric_add", []byte{tI32, tI32, 0x7c}, []byte{tI32})
	g.marker().allocAt(iconst(atInbox)).passUnless(
		get(3), iconst(recordHeader+1), add, iconst(1), op(0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f), callf(0), drop,
		get(3), load8(recordHeader+1), iconst('T'), eq, when(unreachable),
	)
	p := load(t, testHost(t), Module{Code: g.build(), Allow: []string{CapabilityMetric}})
	var out Output
	if err := p.Transform(t.Context(), testRecords("Xa", "Xb", "XT", "Xa"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"a": 2, "b": 1}, p.Stats().Metrics); diff != "" {
		t.Errorf("a call that failed has counted: %s", diff)
	}
	var ids []string
	for c := '0'; c <= 'z'; c++ {
		ids = append(ids, "X"+string(c))
	}
	if err := p.Transform(t.Context(), testRecords(ids...), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if n := len(p.Stats().Metrics); n != maxMetrics {
		t.Errorf("%d metrics, at most %d are allowed", n, maxMetrics)
	}
}
