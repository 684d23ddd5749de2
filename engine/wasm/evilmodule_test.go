package wasm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestEvilModule holds that the module which the engine's tests run is what is
// written down here; with EDGED_WRITE_TESTDATA=1 it writes it. On a record whose
// id begins with XT it traps, with XL it loops for ever, with XG it returns
// garbage; every other it passes.
func TestEvilModule(t *testing.T) {
	on := func(letter byte, evil ...[]byte) []byte {
		return cat(get(3), load8(recordHeader+1), iconst(int64(letter)), eq, when(evil...))
	}
	code := evilGuest(on('T', unreachable), on('L', spin), on('G', answer(0xfffffff0, 64), ret)).build()
	path := filepath.Join("..", "testdata", "evil.wasm")
	if os.Getenv("EDGED_WRITE_TESTDATA") != "" {
		if err := os.WriteFile(path, code, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, code) {
		t.Error("engine/testdata/evil.wasm is not what this test makes: run it with EDGED_WRITE_TESTDATA=1")
	}
	p := load(t, testHost(t), Module{Code: code, Limits: Limits{Time: 20_000_000}})
	in := testRecords("a", "XT1", "b", "XL1", "XG1", "X", "c")
	var out Output
	if err := p.Transform(t.Context(), in, testTime, &out); err != nil {
		t.Fatal(err)
	}
	want := []FaultKind{"", FaultTrap, "", FaultTime, FaultFrame, "", ""}
	for i, r := range out.Results {
		if (want[i] == "") != (r.Action == Pass) || (r.Action == Faulted && r.Fault.Kind != want[i]) {
			t.Errorf("record %s: %v %s", in[i].ID, r.Action, r.Reason)
		}
	}
}
