package wasm

import "slices"

// A small assembler, so that hostile modules are written down instruction by
// instruction and need no toolchain.

type guest struct {
	types    [][]byte
	imports  [][]byte
	funcs    [][]byte // type index and code, in step
	bodies   [][]byte
	exports  [][]byte
	data     [][]byte
	start    int // function index, -1: none
	pages    uint32
	maxPages int // -1: none
	memory   string
}

const (
	tI32 = 0x7f
	tI64 = 0x7e
)

func newGuest() *guest {
	return &guest{start: -1, pages: 8, maxPages: -1, memory: "memory"}
}

func uleb(v uint64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		if v >>= 7; v == 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func sleb(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }
func text(s string) []byte       { return cat(uleb(uint64(len(s))), []byte(s)) }
func sized(b []byte) []byte      { return cat(uleb(uint64(len(b))), b) }
func vec(items [][]byte) []byte  { return cat(uleb(uint64(len(items))), cat(items...)) }

func section(id byte, body []byte) []byte {
	return cat([]byte{id}, sized(body))
}

func (g *guest) typ(params, results []byte) []byte {
	t := cat([]byte{0x60}, sized(params), sized(results))
	i := slices.IndexFunc(g.types, func(o []byte) bool { return slices.Equal(o, t) })
	if i < 0 {
		i = len(g.types)
		g.types = append(g.types, t)
	}
	return uleb(uint64(i))
}

func (g *guest) importFunc(module, name string, params, results []byte) {
	g.imports = append(g.imports, cat(text(module), text(name), []byte{0}, g.typ(params, results)))
}

// fn adds a function with i32 and i64 locals after its parameters and returns
// its index. Imports come first.
func (g *guest) fn(export string, params, results []byte, i32s, i64s int, code ...[]byte) int {
	g.funcs = append(g.funcs, g.typ(params, results))
	locals := vec([][]byte{cat(uleb(uint64(i32s)), []byte{tI32}), cat(uleb(uint64(i64s)), []byte{tI64})})
	g.bodies = append(g.bodies, sized(cat(locals, cat(code...), []byte{0x0b})))
	index := len(g.imports) + len(g.funcs) - 1
	if export != "" {
		g.exports = append(g.exports, cat(text(export), []byte{0}, uleb(uint64(index))))
	}
	return index
}

func (g *guest) segment(at int64, b []byte) {
	g.data = append(g.data, cat([]byte{0}, iconst(at), []byte{0x0b}, sized(b)))
}

func (g *guest) build() []byte {
	mem := cat([]byte{0}, uleb(uint64(g.pages)))
	if g.maxPages >= 0 {
		mem = cat([]byte{1}, uleb(uint64(g.pages)), uleb(uint64(g.maxPages)))
	}
	exports := g.exports
	if g.memory != "" {
		exports = append(slices.Clone(exports), cat(text(g.memory), []byte{2, 0}))
	}
	out := cat([]byte("\x00asm\x01\x00\x00\x00"), section(1, vec(g.types)))
	if len(g.imports) > 0 {
		out = cat(out, section(2, vec(g.imports)))
	}
	out = cat(out, section(3, vec(g.funcs)), section(5, vec([][]byte{mem})), section(7, vec(exports)))
	if g.start >= 0 {
		out = cat(out, section(8, uleb(uint64(g.start))))
	}
	out = cat(out, section(10, vec(g.bodies)))
	if len(g.data) > 0 {
		out = cat(out, section(11, vec(g.data)))
	}
	return out
}

// Instructions.
func op(b ...byte) []byte      { return b }
func iconst(v int64) []byte    { return cat(op(0x41), sleb(int64(int32(v)))) }
func lconst(v int64) []byte    { return cat(op(0x42), sleb(v)) }
func get(i int) []byte         { return cat(op(0x20), uleb(uint64(i))) }
func set(i int) []byte         { return cat(op(0x21), uleb(uint64(i))) }
func callf(i int) []byte       { return cat(op(0x10), uleb(uint64(i))) }
func br(depth int) []byte      { return cat(op(0x0c), uleb(uint64(depth))) }
func brIf(depth int) []byte    { return cat(op(0x0d), uleb(uint64(depth))) }
func load32(off int) []byte    { return cat(op(0x28, 2), uleb(uint64(off))) }
func load8(off int) []byte     { return cat(op(0x2d, 0), uleb(uint64(off))) }
func store32(off int) []byte   { return cat(op(0x36, 2), uleb(uint64(off))) }
func block(b ...[]byte) []byte { return cat(op(0x02, 0x40), cat(b...), op(0x0b)) }
func loop(b ...[]byte) []byte  { return cat(op(0x03, 0x40), cat(b...), op(0x0b)) }
func when(b ...[]byte) []byte  { return cat(op(0x04, 0x40), cat(b...), op(0x0b)) }

var (
	unreachable = op(0x00)
	ret         = op(0x0f)
	drop        = op(0x1a)
	add         = op(0x6a)
	sub         = op(0x6b)
	eq          = op(0x46)
	geU         = op(0x4f)
	extend      = op(0xad) // i64.extend_i32_u
	shl64       = op(0x86)
	or64        = op(0x84)
	memGrow     = op(0x40, 0)
	memSize     = op(0x3f, 0)
)

// Addresses of the guests below.
const (
	atData   = 1024
	atOutbox = 32 << 10
	atInbox  = 64 << 10
)

// answer is the i64 a call returns.
func answer(ptr, size uint32) []byte { return lconst(int64(uint64(ptr)<<32 | uint64(size))) }

// marker adds what every plugin has.
func (g *guest) marker() *guest {
	g.fn("edged_abi_v1", nil, nil, 0, 0)
	return g
}

func (g *guest) allocAt(code ...[]byte) *guest {
	g.fn("edged_alloc", []byte{tI32}, []byte{tI32}, 0, 0, code...)
	return g
}

// passUnless adds a transform that passes every record but those whose id
// begins with 'X'; on these it does what evil says. Locals: 0 the inbox, 1 its
// length, 2 the number of records, 3 the frame, 4 the out frame, 5 the index.
func (g *guest) passUnless(evil ...[]byte) *guest {
	g.fn("edged_transform", []byte{tI32, tI32}, []byte{tI64}, 4, 0,
		get(0), load32(8), set(2),
		get(0), iconst(callHeader), add, set(3),
		iconst(atOutbox), set(4),
		block(loop(
			get(5), get(2), geU, brIf(1),
			get(3), load8(recordHeader), iconst('X'), eq, when(evil...),
			get(4), iconst(outHeader), store32(0),
			get(4), get(5), store32(4),
			get(4), iconst(actionPass), store32(8),
			get(4), iconst(outHeader), add, set(4),
			get(3), get(3), load32(0), add, set(3),
			get(5), iconst(1), add, set(5),
			br(0),
		)),
		lconst(atOutbox), lconst(32), shl64, get(4), iconst(atOutbox), sub, extend, or64,
	)
	return g
}

// evilGuest is a whole plugin that does evil on records whose id begins with X.
func evilGuest(evil ...[]byte) *guest {
	return newGuest().marker().allocAt(iconst(atInbox)).passUnless(evil...)
}
