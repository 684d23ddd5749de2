package wasm

import "github.com/tetratelabs/wazero/experimental"

// memoryAllocator gives one instance its linear memory and is where the
// plugin's memory limit holds, whatever maximum the module declares (I9).
type memoryAllocator struct {
	limit uint64
	given experimental.LinearMemory
}

// Allocate reserves address space for the whole limit; pages come as the guest
// touches them, so growing copies nothing.
func (a *memoryAllocator) Allocate(_, maximum uint64) experimental.LinearMemory {
	a.given = newLinearMemory(min(maximum, a.limit))
	return a.given
}

// free returns the memory of an instance that did not start.
func (a *memoryAllocator) free() {
	if a.given != nil {
		a.given.Free()
	}
}
