package meter

import "fmt"

const (
	typeI32 = 0x7f
	typeI64 = 0x7e
)

// Instructions that are read or written by name.
const (
	opBlock      = 0x02
	opLoop       = 0x03
	opIf         = 0x04
	opElse       = 0x05
	opEnd        = 0x0b
	opBrTable    = 0x0e
	opCall       = 0x10
	opCallIndir  = 0x11
	opSelectT    = 0x1c
	opLocalGet   = 0x20
	opLocalSet   = 0x21
	opLocalTee   = 0x22
	opGlobalGet  = 0x23
	opGlobalSet  = 0x24
	opMemoryGrow = 0x40
	opI32Const   = 0x41
	opI64Const   = 0x42
	opI64LtS     = 0x53
	opI64Sub     = 0x7d
	opI64ShrU    = 0x88
	opI64Shl     = 0x86
	opI64ExtendU = 0xad
	opRefNull    = 0xd0
	opRefFunc    = 0xd2
	opMisc       = 0xfc
	opVector     = 0xfd
	blockEmpty   = 0x40
)

// Instructions after opMisc.
const (
	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscElemDrop   = 13
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableSize  = 16
	miscTableFill  = 17
)

// immediates passes what follows the instruction op, which began at start, and
// fails on one that is not part of core WebAssembly 2.0.
func (r *reader) immediates(op byte, start int) {
	switch {
	case op <= 0x01, op == opElse, op == opEnd, op == 0x0f, op == 0x1a, op == 0x1b, op == 0xd1, op >= 0x45 && op <= 0xc4:
	case op == opBlock, op == opLoop, op == opIf, op == opI32Const:
		r.skipLEB(5)
	case op == 0x0c, op == 0x0d, op == opCall, op >= opLocalGet && op <= 0x26, op == opRefFunc, op == 0x3f, op == opMemoryGrow:
		r.u32()
	case op == opBrTable:
		for n := r.u32(); ; n-- {
			r.u32()
			if n == 0 {
				break
			}
		}
	case op == opCallIndir:
		r.u32()
		r.u32()
	case op == opSelectT:
		r.bytes(int(r.u32()))
	case op >= 0x28 && op <= 0x3e:
		r.memarg()
	case op == opI64Const:
		r.skipLEB(10)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == opRefNull:
		r.byte()
	case op == opMisc:
		r.misc(start)
	case op == opVector:
		r.vector(start)
	default:
		r.fail(start, fmt.Sprintf("unknown instruction %#02x", op))
	}
}

func (r *reader) memarg() {
	r.u32()
	r.u32()
}

// misc passes an instruction after opMisc and returns which it was.
func (r *reader) misc(start int) uint32 {
	op := r.u32()
	switch op {
	case 0, 1, 2, 3, 4, 5, 6, 7:
	case miscDataDrop, miscMemoryFill, miscElemDrop, miscTableGrow, miscTableSize, miscTableFill:
		r.u32()
	case miscMemoryInit, miscMemoryCopy, miscTableInit, miscTableCopy:
		r.u32()
		r.u32()
	default:
		r.fail(start, fmt.Sprintf("unknown instruction 0xfc %d", op))
	}
	return op
}

func (r *reader) vector(start int) {
	op := r.u32()
	switch {
	case op <= 11, op == 92, op == 93:
		r.memarg()
	case op == 12, op == 13: // constant, shuffle
		r.bytes(16)
	case op >= 21 && op <= 34: // lanes
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of a lane
		r.memarg()
		r.byte()
	case op <= 255:
	default:
		r.fail(start, fmt.Sprintf("unknown instruction 0xfd %d", op))
	}
}
