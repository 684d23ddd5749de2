package wasm

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// memory.fill of n bytes at 0.
func fill(n int64) []byte { return cat(iconst(0), iconst(1), iconst(n), op(0xfc, 0x0b, 0)) }

// chain is a guest that runs for ever without a loop: forty functions, each of
// which calls the one before twice.
func chain() *guest {
	g := newGuest().marker().allocAt(iconst(atInbox))
	last := g.fn("", nil, nil, 0, 0)
	for range 40 {
		last = g.fn("", nil, nil, 0, 0, callf(last), callf(last))
	}
	return g.passUnless(callf(last))
}

// reentrant is a guest that calls its own exports from within a call.
func reentrant() *guest {
	g := newGuest().marker().allocAt(iconst(atInbox))
	alloc := len(g.funcs) - 1
	self := len(g.funcs)
	return g.passUnless(loop(iconst(64), callf(alloc), drop, get(0), get(1), callf(self), drop, br(0)))
}

// flood is a guest that logs without end.
func flood() *guest {
	g := newGuest()
	g.importFunc(moduleEdged, "log", []byte{tI32, tI32, tI32}, nil)
	g.segment(4096, bytes.Repeat([]byte("line "), 400))
	return g.marker().allocAt(iconst(atInbox)).passUnless(loop(iconst(3), iconst(4096), iconst(2000), callf(0), br(0)))
}

// TestEvilGuestsAreContained runs guests that never end of themselves, and holds
// that each is stopped at its deadline, and that meanwhile another plugin serves
// and the garbage collector comes round: a guest that is not metered stops the
// collector, and with it the process.
func TestEvilGuestsAreContained(t *testing.T) {
	// Beside a busy loop of Go, too, two cores do one to five collections in 100 ms.
	const limit = 300 * time.Millisecond
	for name, c := range map[string]struct {
		guest *guest
		allow []string
		kinds []FaultKind
	}{
		"loop":           {evilGuest(spin), nil, []FaultKind{FaultTime}},
		"calls":          {chain(), nil, []FaultKind{FaultTime}},
		"bulk fill":      {evilGuest(loop(fill(8*pageSize), br(0))), nil, []FaultKind{FaultTime}},
		"grows for ever": {evilGuest(loop(iconst(1), memGrow, drop, br(0))), nil, []FaultKind{FaultTime}},
		"grow and fill":  {evilGuest(iconst(200), memGrow, drop, loop(fill(200*pageSize), br(0))), nil, []FaultKind{FaultTime}},
		"re-entrance":    {reentrant(), nil, []FaultKind{FaultTrap, FaultTime}},
		"log flood":      {flood(), []string{CapabilityLog}, []FaultKind{FaultTime}},
	} {
		t.Run(name, func(t *testing.T) {
			h := testHost(t)
			good := load(t, h, Module{Name: "good", Code: evilGuest().build()})
			evil := load(t, h, Module{Name: "evil", Code: c.guest.build(), Allow: c.allow, Limits: Limits{Time: limit}})
			var served, collected atomic.Int64
			stop := make(chan struct{})
			var others sync.WaitGroup
			beside := func(f func()) {
				others.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							f()
						}
					}
				})
			}
			var goodOut Output
			beside(func() {
				if err := good.Transform(t.Context(), testRecords("a", "b"), testTime, &goodOut); err != nil {
					t.Error(err)
				}
				served.Add(1)
			})
			beside(func() { runtime.GC(); collected.Add(1) })
			best, meanwhile := time.Hour, false
			for try := 0; try < 9 && (best > 10*time.Millisecond || !meanwhile); try++ {
				calls, rounds := served.Load(), collected.Load()
				var out Output
				began := time.Now()
				if err := evil.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
					t.Fatal(err)
				}
				best = min(best, time.Since(began)-limit)
				meanwhile = meanwhile || served.Load() > calls && collected.Load() > rounds+1
				if r := out.Results[0]; r.Action != Faulted || !containsKind(c.kinds, r.Fault.Kind) {
					t.Fatalf("got %v %s", r.Action, r.Reason)
				}
			}
			close(stop)
			others.Wait()
			t.Logf("stopped %v after its deadline", best)
			// On a quiet machine it is a fraction of 10 ms; this one has to share.
			if best > 500*time.Millisecond {
				t.Errorf("it was stopped %v after its deadline only", best)
			}
			if !meanwhile {
				t.Error("nothing else ran meanwhile")
			}
		})
	}
}

func containsKind(kinds []FaultKind, kind FaultKind) bool {
	for _, k := range kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// TestDescriptionsThatLie holds that a module which cannot be trusted with what
// it says of itself is refused, in time, or believed in nothing that matters.
func TestDescriptionsThatLie(t *testing.T) {
	for name, c := range map[string]struct {
		code []byte
		want string
	}{
		"4 GiB":            {answer(8, 0xffffffff), "at most 65536 are allowed"},
		"outside":          {answer(0xfffffff0, 16), "outside the plugin's memory"},
		"nothing":          {answer(0, 0), "edged_describe"},
		"spins":            {cat(spin, lconst(0)), "took longer than"},
		"traps":            {unreachable, "unreachable"},
		"of another shape": {answer(atData, 18), "edged_describe"},
	} {
		g := evilGuest()
		g.segment(atData, []byte(`{"kinds":"resolve"}`)[:18])
		g.fn("edged_describe", nil, []byte{tI64}, 0, 0, c.code)
		_, err := testHost(t).Load(t.Context(), Module{Name: "liar", Code: g.build(), Limits: Limits{Time: 5 * time.Millisecond}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	// It says that it resolves; what it exports says otherwise.
	g := evilGuest()
	says := `{"kinds":["resolve"],"needs":"headers"}`
	g.segment(atData, []byte(says))
	g.fn("edged_describe", nil, []byte{tI64}, 0, 0, answer(atData, uint32(len(says))))
	p := load(t, testHost(t), Module{Code: g.build()})
	if p.Resolves() || !p.Transforms() {
		t.Error("its description is believed more than its exports")
	}
	var out Output
	if err := p.Transform(t.Context(), testRecords("a"), testTime, &out); err != nil || out.Results[0].Action != Pass {
		t.Errorf("it does not transform: %v %+v", err, out.Results)
	}
}
