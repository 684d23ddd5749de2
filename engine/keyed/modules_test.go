package keyed_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

// module loads a module as a resolver, through the host that an edge has.
func module(t testing.TB, name string, code []byte, config string) keyed.Resolver {
	t.Helper()
	h, err := wasm.NewHost(t.Context(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	m := wasm.Module{Name: name, Code: code}
	if config != "" {
		m.Config = json.RawMessage(config)
	}
	p, err := h.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	r, err := engine.NewResolver(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// strategy is one that comes with edged.
func strategy(t testing.TB, name, config string) keyed.Resolver {
	t.Helper()
	code, ok := plugins.Builtin(name)
	if !ok {
		t.Fatalf("%s is not shipped", name)
	}
	return module(t, name, code, config)
}

// The instructions of the bad modules below.
const (
	wasmLoop        = 0x03
	wasmBr          = 0x0c
	wasmEnd         = 0x0b
	wasmUnreachable = 0x00
	wasmI32Const    = 0x41
	wasmI64Const    = 0x42
	wasmMemoryGrow  = 0x40
	wasmDrop        = 0x1a
	wasmI32Load8U   = 0x2d
	wasmI32Store8   = 0x3a
	wasmI32Add      = 0x6a
	wasmI32And      = 0x71
	wasmI32Or       = 0x72
)

// badModule assembles a module whose edged_resolve is body; data stands at
// address 1024.
func badModule(body []byte, data []byte) []byte {
	uleb := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	section := func(id byte, content []byte) []byte {
		return append(append([]byte{id}, uleb(len(content))...), content...)
	}
	vec := func(items ...[]byte) []byte {
		out := uleb(len(items))
		for _, item := range items {
			out = append(out, item...)
		}
		return out
	}
	name := func(s string) []byte { return append(uleb(len(s)), s...) }
	code := func(body []byte) []byte {
		f := append([]byte{0}, body...) // no locals
		return append(uleb(len(f)+1), append(f, wasmEnd)...)
	}
	export := func(n string, kind, index byte) []byte { return append(name(n), kind, index) }
	const i32, i64 = 0x7f, 0x7e
	m := []byte("\x00asm\x01\x00\x00\x00")
	m = append(m, section(1, vec([]byte{0x60, 0, 0}, []byte{0x60, 1, i32, 1, i32}, []byte{0x60, 2, i32, i32, 1, i64}))...)
	m = append(m, section(3, vec([]byte{0}, []byte{1}, []byte{2}))...)
	m = append(m, section(5, vec([]byte{0, 2}))...)
	m = append(m, section(7, vec(export("memory", 2, 0), export("edged_abi_v1", 0, 0), export("edged_alloc", 0, 1), export("edged_resolve", 0, 2)))...)
	m = append(m, section(10, vec(code(nil), code(append([]byte{wasmI32Const}, sleb(65536)...)), code(body)))...)
	segment := append([]byte{0, wasmI32Const}, append(sleb(1024), wasmEnd)...)
	segment = append(segment, append(uleb(len(data)), data...)...)
	return append(m, section(11, vec(segment))...)
}

func sleb(n int64) []byte {
	var out []byte
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

// returning is the body that returns length bytes at address 1024.
func returning(length int64) []byte {
	return append([]byte{wasmI64Const}, sleb(1024<<32|length)...)
}
