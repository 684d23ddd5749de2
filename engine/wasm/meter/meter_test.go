package meter_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edged/edged/engine/wasm/meter"
)

// refusals are the reasons for which the rewriter turns down a valid module.
var refusals = []string{"a plugin imports functions only", "elements, at most", "locals"}

func refused(err error) bool {
	for _, r := range refusals {
		if strings.Contains(err.Error(), r) {
			return true
		}
	}
	return false
}

// compile says whether code is valid. The interpreter validates all the same
// and is done sooner.
func compile(ctx context.Context, r wazero.Runtime, code []byte) error {
	m, err := r.CompileModule(ctx, code)
	if err != nil {
		return err
	}
	return m.Close(ctx)
}

func newRuntime(t testing.TB) wazero.Runtime {
	t.Helper()
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2))
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// check holds that rewriting keeps valid modules valid and invalid ones
// invalid. What the rewriter refuses goes to the compiler only when it is tame:
// the compiler makes room for as many items as a section announces, and a
// number without items behind it can take all memory.
func check(t *testing.T, r wazero.Runtime, code []byte, tame bool) (rewritten bool) {
	t.Helper()
	out, err := meter.Rewrite(code)
	var before error
	if err == nil || tame {
		before = compile(t.Context(), r, code)
	}
	if err != nil {
		if !errors.Is(err, meter.ErrInvalid) {
			t.Errorf("the error is no ErrInvalid: %v", err)
		}
		if strings.Contains(err.Error(), "rewriter failed") {
			t.Errorf("the rewriter panicked: %v", err)
		}
		if tame && before == nil && !refused(err) {
			t.Errorf("a valid module was refused: %v", err)
		}
		return false
	}
	after := compile(t.Context(), r, out)
	if before == nil && after != nil {
		t.Errorf("a valid module became invalid: %v", after)
	}
	// What is wrong within a custom section is gone with it.
	if before != nil && after == nil && !strings.Contains(before.Error(), "custom section") {
		t.Errorf("an invalid module became valid: %v", before)
	}
	return before == nil
}

// TestModulesOfTheSpecification takes every module of the WebAssembly test
// suite, valid and invalid, that comes with wazero.
func TestModulesOfTheSpecification(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(dir)), "internal", "integration_test", "spectest")
	r := newRuntime(t)
	files, rewritten := 0, 0
	for _, version := range []string{"v1", "v2"} {
		err = filepath.WalkDir(filepath.Join(root, version), func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".wasm" {
				return err
			}
			code, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			failed := t.Failed()
			if check(t, r, code, true) {
				rewritten++
			}
			if t.Failed() && !failed {
				t.Errorf("it was %s", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 4000 || rewritten < 1200 {
		t.Errorf("only %d files were found and %d rewritten", files, rewritten)
	}
	t.Logf("%d files, %d of them valid and rewritten", files, rewritten)
}

// module assembles one function () -> () with the given body and a memory.
func module(body ...byte) []byte {
	body = append([]byte{0}, body...)
	m := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x04\x01\x60\x00\x00" + // type () -> ()
		"\x03\x02\x01\x00" + // one function
		"\x05\x03\x01\x00\x01" + // memory of one page
		"\x07\x05\x01\x01f\x00\x00") // exported as f
	m = append(m, 10, byte(len(body)+2), 1, byte(len(body)))
	return append(m, body...)
}

func TestRefusalsNameInstructionAndPlace(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
		want string
	}{
		{"no module", []byte("hello"), "ends too early"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "does not begin like"},
		{"tail call", module(0x12, 0, 0x0b), "unknown instruction 0x12 at byte 35"},
		{"exception", module(0x01, 0x08, 0, 0x0b), "unknown instruction 0x08 at byte 36"},
		{"atomic", module(0xfe, 0x03, 0, 0x0b), "unknown instruction 0xfe at byte 35"},
		{"relaxed vector", module(0xfd, 0x80, 0x02, 0x0b), "unknown instruction 0xfd 256 at byte 35"},
		{"future bulk", module(0xfc, 18, 0x0b), "unknown instruction 0xfc 18 at byte 35"},
		{"the fuel itself", module(0x23, 0, 0x1a, 0x0b), "global 0 of 0 at byte 35"},
		{"writing the fuel", module(0x42, 0, 0x24, 0, 0x0b), "global 0 of 0 at byte 37"},
		{"a metering local", module(0x20, 0, 0x1a, 0x0b), "local 0 of 0 at byte 35"},
		{"no end", module(0x01), "ends too early at byte 36"},
		{"code after the end", module(0x0b, 0x01), "1 bytes too many"},
		{"sections out of order", append(module(0x0b), 1, 1, 0), "out of order"},
		{"refill imported", append([]byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x16\x01\x0bedged_meter\x06refill\x00\x00"), 3, 1, 0), "the host's own"},
		{"table from outside", []byte("\x00asm\x01\x00\x00\x00\x02\x09\x01\x01a\x01b\x01\x70\x00\x01"), "imports the table a.b"},
		{"numbers without items", []byte("\x00asm\x01\x00\x00\x00\x0b\x05\xff\xff\xff\xff\x07"), "ends too early"},
		{"memories without end", []byte("\x00asm\x01\x00\x00\x00\x05\x05\xff\xff\xff\xff\x07"), "at most 1 is allowed"},
		{"huge table", []byte("\x00asm\x01\x00\x00\x00\x04\x07\x01\x70\x00\xff\xff\xff\x7f"), "at most 65536 are allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := meter.Rewrite(c.code)
			if !errors.Is(err, meter.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// run calls f of a rewritten module with endless fuel and returns what it took.
func run(t *testing.T, code []byte) int64 {
	t.Helper()
	out, err := meter.Rewrite(code)
	if err != nil {
		t.Fatal(err)
	}
	r := newRuntime(t)
	used := int64(0)
	refill := api.GoFunc(func(_ context.Context, stack []uint64) {
		used -= int64(stack[0]) // every charge is asked for, so this is its size
		stack[0] = 0
	})
	_, err = r.NewHostModuleBuilder(meter.ImportModule).NewFunctionBuilder().
		WithGoFunction(refill, []api.ValueType{api.ValueTypeI64}, []api.ValueType{api.ValueTypeI64}).
		Export(meter.ImportName).Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ExportedFunction("f").Call(t.Context()); err != nil {
		t.Fatal(err)
	}
	return used
}

func TestFuelIsCountedByWork(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
		want int64
	}{
		{"empty", module(0x0b), 1},
		{"straight", module(0x01, 0x01, 0x01, 0x0b), 4},
		{"block", module(0x02, 0x40, 0x01, 0x0b, 0x0b), 4},
		// A loop that runs once: its header and end, and the function's two.
		{"loop", module(0x03, 0x40, 0x0b, 0x0b), 4},
		// memory.fill of 32,000 bytes: 2,000 and the five instructions.
		{"fill", module(0x41, 0, 0x41, 0, 0x41, 0x80, 0xfa, 1, 0xfc, 11, 0, 0x0b), 2005},
		{"copy", module(0x41, 0, 0x41, 0, 0x41, 0x80, 0xfa, 1, 0xfc, 10, 0, 0, 0x0b), 2005},
		{"grow", module(0x41, 3, 0x40, 0, 0x1a, 0x0b), 3*1024 + 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				if got := run(t, c.code); got != c.want {
					t.Errorf("it took %d, want %d", got, c.want)
				}
			}
		})
	}
}

func FuzzRewrite(f *testing.F) {
	for _, seed := range [][]byte{
		module(0x0b), module(0x03, 0x40, 0x0c, 0, 0x0b, 0x0b), module(0x41, 3, 0x40, 0, 0x1a, 0x0b),
		module(0x02, 0x7f, 0x41, 1, 0x0b, 0x0e, 1, 0, 0, 0x0b), module(0x10, 0, 0xd2, 0, 0x1a, 0x0b),
		module(0xfd, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfd, 21, 0, 0x1a, 0x0b),
	} {
		f.Add(seed)
	}
	for _, path := range []string{"../../../plugins/dew_point/dew_point.wasm"} {
		code, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code []byte) { check(t, newRuntime(t), code, false) })
}
