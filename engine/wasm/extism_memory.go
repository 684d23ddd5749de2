package wasm

import (
	"encoding/binary"
	"sort"
)

// extismMemory is what the functions of the Extism ABI call memory: blocks that
// a guest asks for and reaches only by address, byte by byte or eight at a
// time. It lives for one call. An address is an offset into bytes, and every
// access is checked against what was handed out (I8).
type extismMemory struct {
	limit  uint64 // of bytes
	config map[string][]byte

	bytes  []byte
	blocks []extismBlock // by offset
	input  extismBlock
	// out and failed are ranges that output_set and error_set named.
	out, failed extismBlock
}

type extismBlock struct {
	offset, size uint64
	free         bool
}

const (
	// extismFirst is the first address: 0 means none.
	extismFirst = 16
	// extismKept bounds what an instance keeps for its next call.
	extismKept = 1 << 20
	// extismMaxBlocks bounds the blocks of one call.
	extismMaxBlocks = 1 << 16
)

// begin starts a call with that input. False: it does not fit.
func (m *extismMemory) begin(input []byte) bool {
	if cap(m.bytes) > extismKept {
		m.bytes = nil
	}
	if m.bytes = m.bytes[:0]; cap(m.bytes) < extismFirst {
		m.bytes = make([]byte, 0, 4096)
	}
	m.bytes = append(m.bytes, make([]byte, extismFirst)...)
	m.blocks = m.blocks[:0]
	m.out, m.failed, m.input = extismBlock{}, extismBlock{}, extismBlock{}
	at := m.put(input)
	m.input = extismBlock{offset: at, size: uint64(len(input))}
	return at != 0 || len(input) == 0
}

// alloc returns the address of a new block of zeros; 0 when there is no room.
func (m *extismMemory) alloc(size uint64) uint64 {
	at := uint64(pad8(len(m.bytes)))
	if size == 0 || size > m.limit || at+size > m.limit || len(m.blocks) == extismMaxBlocks {
		return 0
	}
	// What was here in an earlier call is not for this one.
	m.bytes = append(m.bytes, make([]byte, at+size-uint64(len(m.bytes)))...)
	m.blocks = append(m.blocks, extismBlock{offset: at, size: size})
	return at
}

// put allocates a block with that content.
func (m *extismMemory) put(data []byte) uint64 {
	at := m.alloc(uint64(len(data)))
	if at != 0 {
		copy(m.bytes[at:], data)
	}
	return at
}

// find returns the block that begins at that address; nil: none does.
func (m *extismMemory) find(at uint64) *extismBlock {
	i := sort.Search(len(m.blocks), func(i int) bool { return m.blocks[i].offset >= at })
	if i == len(m.blocks) || m.blocks[i].offset != at || m.blocks[i].free {
		return nil
	}
	return &m.blocks[i]
}

// release frees a block. Room is used again from the end, except what the host
// will still read.
func (m *extismMemory) release(at uint64) {
	b := m.find(at)
	if b == nil {
		return
	}
	b.free = true
	for n := len(m.blocks); n > 0; n-- {
		if last := m.blocks[n-1]; !last.free || last.holds(m.out) || last.holds(m.failed) {
			return
		}
		m.bytes, m.blocks = m.bytes[:m.blocks[n-1].offset], m.blocks[:n-1]
	}
}

func (b extismBlock) holds(o extismBlock) bool {
	return o.size > 0 && o.offset < b.offset+b.size && b.offset < o.offset+o.size
}

// at returns n bytes at that address; false: they were not handed out.
func (m *extismMemory) at(offset, n uint64) ([]byte, bool) {
	end := offset + n
	if offset < extismFirst || end < offset || end > uint64(len(m.bytes)) {
		return nil, false
	}
	return m.bytes[offset:end:end], true
}

// text returns the content of the block at that address.
func (m *extismMemory) text(at uint64) ([]byte, bool) {
	b := m.find(at)
	if b == nil {
		return nil, false
	}
	return m.at(b.offset, b.size)
}

// inputAt returns n bytes of the input; false: it has not as many there.
func (m *extismMemory) inputAt(offset, n uint64) ([]byte, bool) {
	if end := offset + n; end < offset || end > m.input.size {
		return nil, false
	}
	return m.at(m.input.offset+offset, n)
}

// output returns what output_set named, empty when it was not called.
func (m *extismMemory) output() []byte {
	b, _ := m.at(m.out.offset, m.out.size)
	return b
}

// errorText returns the beginning of what error_set named, as a line.
func (m *extismMemory) errorText() string {
	b, _ := m.at(m.failed.offset, m.failed.size)
	return cleanText(b)
}

func loadLE(b []byte) uint64 {
	if len(b) == 1 {
		return uint64(b[0])
	}
	return binary.LittleEndian.Uint64(b)
}
