//go:build unix

package wasm

import (
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// mappedMemory is linear memory outside the Go heap. Its address never changes.
type mappedMemory struct{ all []byte }

func newLinearMemory(size uint64) experimental.LinearMemory {
	if size == 0 {
		return &mappedMemory{}
	}
	all, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return &mappedMemory{} // Reallocate refuses; the instance does not start
	}
	return &mappedMemory{all: all}
}

// Reallocate returns nil past the limit, and memory.grow then answers -1.
func (m *mappedMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	if size == 0 {
		return []byte{}
	}
	return m.all[:size]
}

// Free returns the memory to the system.
func (m *mappedMemory) Free() {
	if m.all != nil {
		_ = syscall.Munmap(m.all) // fails only for a range that is no mapping
		m.all = nil
	}
}
