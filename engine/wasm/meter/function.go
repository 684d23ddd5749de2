package meter

import (
	"fmt"
	"slices"
)

// How much fuel bulk instructions take. Fuel is about an instruction.
const (
	// perMemory: 16 bytes of memory cost one.
	perMemory = -4
	// perPage: a page of 64 KiB that is grown costs 1024, for it is cleared.
	perPage = 10
	// perElement: an element of a table costs one.
	perElement = 0
)

// edit replaces the bytes from at to end of a body.
type edit struct {
	at, end int
	with    []byte
}

// charge is a place where fuel is taken: a function's entry or a loop's header.
// It takes one for every instruction up to the end of its function or loop,
// those in loops within it excepted, which take their own.
type charge struct {
	at   int
	cost int64
}

// function rewrites one body.
type function struct {
	module *module
	body   *reader
	params uint64

	locals  uint64 // with parameters
	charges []charge
	edits   []edit
	// open holds, for every block that is open, the charge that was current
	// outside of it.
	open    []int
	current int
}

func (f *function) rewrite(dst []byte) []byte {
	r := f.body
	groupsAt := r.at
	groups := r.u32()
	declared := r.at
	f.locals = f.params
	for range groups {
		f.locals += uint64(r.u32())
		r.byte()
		if f.locals > maxLocals {
			r.fail(groupsAt, fmt.Sprintf("a function with more than %d locals", maxLocals))
		}
	}
	code := r.at
	f.charges = append(f.charges, charge{at: code, cost: int64(f.locals-f.params) / 8})
	f.scan()

	for _, c := range f.charges {
		f.edits = append(f.edits, edit{c.at, c.at, f.take(nil, func(b []byte) []byte {
			return appendS64(append(b, opI64Const), c.cost)
		})})
	}
	slices.SortStableFunc(f.edits, func(a, b edit) int { return a.at - b.at })

	// The two locals that metering uses: the fuel, and the size of a bulk
	// instruction.
	dst = appendU32(dst, groups+2)
	dst = append(dst, r.data[declared:code]...)
	dst = append(dst, 1, typeI64, 1, typeI32)
	at := code
	for _, e := range f.edits {
		dst = append(dst, r.data[at:e.at]...)
		dst = append(dst, e.with...)
		at = e.end
	}
	return append(dst, r.data[at:]...)
}

// scan reads the instructions and notes charges and edits.
func (f *function) scan() {
	r := f.body
	for {
		start := r.at
		op := r.byte()
		f.charges[f.current].cost++
		switch op {
		case opBlock, opIf:
			f.blockType(start)
			f.open = append(f.open, f.current)
		case opLoop:
			f.blockType(start)
			f.open = append(f.open, f.current)
			f.current = len(f.charges)
			f.charges = append(f.charges, charge{at: r.at, cost: 1})
		case opEnd:
			if len(f.open) == 0 {
				r.finished()
				return
			}
			f.current = f.open[len(f.open)-1]
			f.open = f.open[:len(f.open)-1]
		case opCall, opRefFunc:
			at := r.at
			f.edits = append(f.edits, edit{at, 0, appendU32(nil, f.module.function(r.u32()))})
			f.edits[len(f.edits)-1].end = r.at
		case opCallIndir:
			f.module.typeIndex(r)
			r.u32()
		case opLocalGet, opLocalSet, opLocalTee:
			if i := r.u32(); uint64(i) >= f.locals {
				r.fail(start, fmt.Sprintf("local %d of %d", i, f.locals))
			}
		case opGlobalGet, opGlobalSet:
			if i := r.u32(); i >= f.module.globals {
				r.fail(start, fmt.Sprintf("global %d of %d", i, f.module.globals))
			}
		case opMemoryGrow:
			r.u32()
			f.bulk(start, perPage)
		case opMisc:
			f.misc(start)
		default:
			r.immediates(op, start)
		}
	}
}

// blockType passes the type of a block, which may be the number of one of the
// module's types.
func (f *function) blockType(start int) {
	r := f.body
	at := r.at
	r.skipLEB(5)
	if b := r.data[at]; r.at == at+1 && b >= 0x40 {
		return // negative: empty, or a value type
	}
	r.at = at
	if t := r.u32(); int(t) >= len(f.module.params) {
		r.fail(start, fmt.Sprintf("type %d of %d", t, len(f.module.params)))
	}
}

func (f *function) misc(start int) {
	switch f.body.misc(start) {
	case miscMemoryInit, miscMemoryCopy, miscMemoryFill:
		f.bulk(start, perMemory)
	case miscTableInit, miscTableCopy, miscTableFill, miscTableGrow:
		f.bulk(start, perElement)
	}
}

// bulk takes fuel, before the instruction at start, by the size that lies on
// top of the stack; shift says how much.
func (f *function) bulk(start, shift int) {
	size := uint32(f.locals) + 1
	b := appendU32([]byte{opLocalTee}, size)
	b = f.take(b, func(b []byte) []byte {
		b = appendU32(append(b, opLocalGet), size)
		b = append(b, opI64ExtendU)
		switch {
		case shift > 0:
			b = append(b, opI64Const, byte(shift), opI64Shl)
		case shift < 0:
			b = append(b, opI64Const, byte(-shift), opI64ShrU)
		}
		return b
	})
	f.edits = append(f.edits, edit{start, start, b})
}

// take appends code that takes the amount of fuel that amount pushes, and asks
// the host for more when it is used up. It leaves the stack as it is.
func (f *function) take(b []byte, amount func([]byte) []byte) []byte {
	fuel := f.module.fuel
	local := uint32(f.locals)
	b = appendU32(append(b, opGlobalGet), fuel)
	b = amount(b)
	b = append(b, opI64Sub)
	b = appendU32(append(b, opLocalTee), local)
	b = appendU32(append(b, opGlobalSet), fuel)
	b = appendU32(append(b, opLocalGet), local)
	b = append(b, opI64Const, 0, opI64LtS, opIf, blockEmpty)
	b = appendU32(append(b, opLocalGet), local)
	b = appendU32(append(b, opCall), f.module.refill)
	b = appendU32(append(b, opGlobalSet), fuel)
	return append(b, opEnd)
}
