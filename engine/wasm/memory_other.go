//go:build !unix

package wasm

import "github.com/tetratelabs/wazero/experimental"

// heapMemory is linear memory on the Go heap.
type heapMemory struct {
	limit uint64
	buf   []byte
}

func newLinearMemory(size uint64) experimental.LinearMemory { return &heapMemory{limit: size} }

// Reallocate returns nil past the limit, and memory.grow then answers -1.
func (m *heapMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		return nil
	}
	if size > uint64(cap(m.buf)) {
		grown := make([]byte, size, min(max(size, 2*uint64(cap(m.buf))), m.limit))
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size]
	return m.buf
}

// Free leaves the memory to the garbage collector.
func (m *heapMemory) Free() { m.buf = nil }
