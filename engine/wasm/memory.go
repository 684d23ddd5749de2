package wasm

import "github.com/tetratelabs/wazero/experimental"

// memoryAllocator gives every instance its linear memory and is where the
// plugin's memory limit holds, whatever maximum the module declares (I9).
type memoryAllocator struct{ limit uint64 }

// Allocate reserves address space for the whole limit; pages come as the guest
// touches them, so growing copies nothing.
func (a memoryAllocator) Allocate(_, maximum uint64) experimental.LinearMemory {
	return newLinearMemory(min(maximum, a.limit))
}
