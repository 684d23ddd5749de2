package meter_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/wasm/meter"
	"github.com/edged/edged/plugins"
)

func TestList(t *testing.T) {
	code, _ := plugins.Builtin("deadband")
	c, err := meter.List(code)
	if err != nil {
		t.Fatal(err)
	}
	want := []meter.Item{
		{Module: "edged_v1", Name: "kv_get", Kind: "func", Type: "(i32, i32, i32, i32) -> (i32)"},
		{Module: "edged_v1", Name: "kv_put", Kind: "func", Type: "(i32, i32, i32, i32, i32) -> (i32)"},
	}
	if diff := cmp.Diff(want, c.Imports); diff != "" {
		t.Error(diff)
	}
	for _, e := range []meter.Item{
		{Name: "edged_transform", Kind: "func", Type: "(i32, i32) -> (i64)"}, {Name: "memory", Kind: "memory"},
	} {
		if !slices.Contains(c.Exports, e) {
			t.Errorf("the exports are %v, without %v", c.Exports, e)
		}
	}
	if c.MemoryMin != 4 || c.MemoryMax != -1 || c.Functions == 0 || c.CodeBytes == 0 || c.DataBytes == 0 {
		t.Errorf("contents %+v", c)
	}
}

// TestListOfHalfAModule holds that what stands before a mistake is listed, and
// that no cut is more than an error.
func TestListOfHalfAModule(t *testing.T) {
	code, _ := plugins.Builtin("deadband")
	whole, err := meter.List(code)
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	for n := range code {
		c, err := meter.List(code[:n])
		if err != nil && !errors.Is(err, meter.ErrInvalid) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if err != nil && len(c.Imports) == len(whole.Imports) {
			listed++
		}
	}
	if listed == 0 {
		t.Error("the imports were lost with every cut")
	}
}

func FuzzList(f *testing.F) {
	for _, name := range plugins.Names() {
		code, _ := plugins.Builtin(name)
		f.Add(code)
	}
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x02\x0e\x04\x01a\x01b\x02\x01\x01\x02\x01a\x01c\x03\x7f\x00"))
	f.Fuzz(func(t *testing.T, code []byte) {
		if _, err := meter.List(code); err != nil && !errors.Is(err, meter.ErrInvalid) {
			t.Errorf("%v", err)
		}
	})
}
