package wasm

import (
	"testing"
)

// TestGuestThatNeverFrees holds that a record is not blamed for what those before
// it have used up: a fresh instance decides.
func TestGuestThatNeverFrees(t *testing.T) {
	h := testHost(t)
	g := newGuest()
	g.marker()
	// Every call of edged_alloc takes two more pages and traps when there is none.
	g.fn("edged_alloc", []byte{tI32}, []byte{tI32}, 0, 0,
		iconst(2), memGrow, iconst(-1), eq, when(unreachable), iconst(atInbox))
	g.passUnless(unreachable)
	p := load(t, h, Module{Code: g.build(), Limits: Limits{Memory: (8 + 9) * pageSize}})
	var out Output
	for range 20 {
		if err := p.Transform(t.Context(), testRecords("a"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if out.Results[0].Action != Pass {
			t.Fatalf("%s: %s", out.Results[0].Action, out.Results[0].Reason)
		}
	}
	if s := p.Stats(); s.Faulted != 0 || s.Instances < 3 {
		t.Errorf("stats %+v", s)
	}
	// What fails on a fresh instance, too, is to blame.
	if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if r := out.Results[0]; r.Action != Faulted || r.Fault.Kind != FaultTrap {
		t.Errorf("%s: %s", r.Action, r.Reason)
	}
}
