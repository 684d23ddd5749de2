package wasm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/edged/edged/engine/record"
)

// chunk says how many of in make the next call.
func chunk(in []record.Record) int {
	o := Output{in: in}
	n, size := o.next(callItems)
	if call := appendCall(nil, in[:n], size, 0); len(call) != size {
		return -1
	}
	return n
}

func TestLargeRecordsComeAlone(t *testing.T) {
	in := testRecords("a", "b", "c", "d")
	in[1].Payload = append(append([]byte(`{"x":"`), bytes.Repeat([]byte("y"), callBytes)...), `"}`...)
	if n := chunk(in); n != 1 {
		t.Errorf("the first call has %d records, want 1", n)
	}
	if n := chunk(in[1:]); n != 1 {
		t.Errorf("the second call has %d records, want 1", n)
	}
	if n := chunk(in[2:]); n != 2 {
		t.Errorf("the third call has %d records, want 2", n)
	}
	if n := chunk(make([]record.Record, 1000)); n != callItems {
		t.Errorf("a call has %d records, want %d", n, callItems)
	}
}

func TestCallsShrinkToWhatThePluginManages(t *testing.T) {
	// Ten answers fit; the records themselves are all good.
	p := load(t, testHost(t), Module{Code: evilGuest().build(), Limits: Limits{Output: 10 * outHeader}})
	in := make([]record.Record, 640)
	for i := range in {
		in[i] = testRecord(fmt.Sprint(i))
	}
	var out Output
	for round := range 2 {
		if err := p.Transform(t.Context(), in, testTime, &out); err != nil {
			t.Fatal(err)
		}
		for i, r := range out.Results {
			if r.Action != Pass {
				t.Fatalf("round %d, record %d: %v %s", round, i, r.Action, r.Reason)
			}
		}
	}
	// 64, 32 and 16 were too many, 8 is not.
	if s := p.Stats(); s.Replays != 3 || p.batch.Load() != 8 {
		t.Errorf("%d replays, calls of %d records", s.Replays, p.batch.Load())
	}
}
