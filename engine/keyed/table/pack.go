package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A pack is one message of the stream:
//
//	"EKT1"                     4 bytes
//	CRC-32C of what follows    4 bytes, little-endian
//	entries, one after the other:
//	  length of the name       uvarint
//	  name
//	  length of the value + 1  uvarint; 0: the name was removed
//	  value
const (
	packMagic  = "EKT1"
	packHeader = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("the pack is not what was stored")

// packer lays entries out as packs of bounded size.
type packer struct {
	packs [][]byte
	at    []place // of every entry, in order of add
}

// place says where a value stands: in which pack, and where in it.
type place struct {
	pack, offset, length int
}

// packBytes bounds a pack, so that reading one value does not read much else.
// An entry that is larger has a pack of its own.
const packBytes = 256 << 10

func (p *packer) add(name string, value []byte) {
	last := len(p.packs) - 1
	if last < 0 || len(p.packs[last])+len(name)+len(value) > packBytes && len(p.packs[last]) > packHeader {
		p.packs = append(p.packs, append(make([]byte, 0, packHeader+len(name)+len(value)+2*binary.MaxVarintLen32), packMagic+"\x00\x00\x00\x00"...))
		last++
	}
	b := binary.AppendUvarint(p.packs[last], uint64(len(name)))
	b = append(b, name...)
	if value == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(len(value))+1)
	}
	p.at = append(p.at, place{pack: last, offset: len(b), length: len(value)})
	p.packs[last] = append(b, value...)
}

// seal writes the checksums.
func (p *packer) seal() {
	for _, b := range p.packs {
		binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[packHeader:], castagnoli))
	}
}

// unpack calls visit for every entry of a pack, in order; value is nil when the
// name was removed. Both alias data. A damaged pack visits nothing.
func unpack(data []byte, visit func(name, value []byte, offset int)) error {
	if len(data) < packHeader || string(data[:4]) != packMagic {
		return fmt.Errorf("%w: it does not begin with %s", errDamaged, packMagic)
	}
	if crc32.Checksum(data[packHeader:], castagnoli) != binary.LittleEndian.Uint32(data[4:]) {
		return fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	for at := packHeader; at < len(data); {
		name, next, ok := field(data, at, 0)
		if !ok {
			return fmt.Errorf("%w: a name ends behind it", errDamaged)
		}
		value, end, ok := field(data, next, 1)
		if !ok {
			return fmt.Errorf("%w: a value ends behind it", errDamaged)
		}
		visit(name, value, end-len(value))
		at = end
	}
	return nil
}

// field reads a length, less what is added to it, and as many bytes. A length
// of 0 with less = 1 is nil.
func field(data []byte, at, less int) (value []byte, next int, ok bool) {
	n, size := binary.Uvarint(data[at:])
	if at += size; size <= 0 || n > uint64(len(data)-at+less) {
		return nil, 0, false
	}
	length := int(n) - less
	if length < 0 {
		return nil, at, true
	}
	return data[at : at+length : at+length], at + length, true
}
