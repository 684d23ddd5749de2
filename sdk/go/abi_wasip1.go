package edged

import "unsafe"

// room is the inbox: the host writes a call into it. Words, so that it lies at a
// multiple of 8.
var room []uint64

// The name is the version of the ABI; it is never called.
//
//go:wasmexport edged_abi_v1
func abiV1() {}

// edgedAlloc gives the host room for its next call.
//
//go:wasmexport edged_alloc
func edgedAlloc(size uint32) uint32 {
	if words := (int(size) + 7) / 8; words > len(room) || len(room) == 0 {
		room = make([]uint64, max(words, 512))
	}
	return address(unsafe.Pointer(&room[0]))
}

// inbox returns the bytes that the host wrote; nil: they are not where it was told.
func inbox(ptr, size uint32) []byte {
	if len(room) == 0 || ptr != address(unsafe.Pointer(&room[0])) || int(size) > 8*len(room) {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&room[0])), int(size))
}

// kept holds what the host is told the address of, until the next call.
var kept []byte

// result is what a function of the ABI returns for an answer; nil: 0.
func result(answer []byte) uint64 {
	if answer == nil {
		return 0
	}
	kept = answer
	return uint64(address(unsafe.Pointer(unsafe.SliceData(answer))))<<32 | uint64(len(answer))
}

func address(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }
