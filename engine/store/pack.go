package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// A pack is one message of a log's stream. It holds consecutive entries of one
// lane; the last pack of a commit holds the lane's commit entry too, and an
// outbox when there is one:
//
//	"EDP1"
//	first number            uvarint
//	commit entry            uvarint length, JSON (empty: a later pack has it)
//	outbox                  uvarint length, JSON (empty: none)
//	states                  only with "EDP2": uvarint count, each uvarint length
//	                        and name, uvarint sequence of the pack with the part
//	                        before (0: none), uvarint count of chunks, each
//	                        uvarint length and bytes
//	subjects                uvarint count, each uvarint length and bytes
//	entries                 uvarint count, each uvarint subject, uvarint length, bytes
//	CRC-32C of all before   4 bytes, little-endian
//
// Subjects stand without the log's prefix.
const (
	packMagic      = "EDP1"
	packMagicState = "EDP2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a pack is not what was written.
var errDamaged = errors.New("damaged pack")

// pack is a decoded pack. Its bytes alias the message.
type pack struct {
	first   uint64
	commit  []byte
	outbox  []byte
	states  []packState
	entries []Entry
}

// last is the number of the last entry; before the first of an empty pack.
func (p *pack) last() uint64 { return p.first + uint64(len(p.entries)) - 1 }

// size is about how many bytes the pack takes on disk.
func (p *pack) size() int {
	n := len(p.commit) + len(p.outbox) + entryOverhead
	for i := range p.entries {
		n += len(p.entries[i].Data) + 4
	}
	for i := range p.states {
		n += len(p.states[i].name) + 32
		for _, c := range p.states[i].chunks {
			n += len(c) + 4
		}
	}
	return n
}

// encodePack returns the pack's bytes. prefix is the log's subject prefix, which
// every entry's subject starts with.
func encodePack(p *pack, prefix string) []byte {
	magic := packMagic
	if len(p.states) > 0 {
		magic = packMagicState
	}
	dst := append(make([]byte, 0, p.size()), magic...)
	dst = binary.AppendUvarint(dst, p.first)
	for _, b := range [][]byte{p.commit, p.outbox} {
		dst = append(binary.AppendUvarint(dst, uint64(len(b))), b...)
	}
	if len(p.states) > 0 {
		dst = appendStates(dst, p.states)
	}
	index := make(map[string]uint64, 16)
	var subjects []string
	for i := range p.entries {
		s := p.entries[i].Subject
		if i > 0 && s == p.entries[i-1].Subject {
			continue
		}
		if _, ok := index[s]; !ok {
			index[s] = uint64(len(subjects))
			subjects = append(subjects, s)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(subjects)))
	for _, s := range subjects {
		s = s[len(prefix):]
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.entries)))
	var at uint64
	for i := range p.entries {
		e := &p.entries[i]
		if i == 0 || e.Subject != p.entries[i-1].Subject {
			at = index[e.Subject]
		}
		dst = binary.AppendUvarint(dst, at)
		dst = append(binary.AppendUvarint(dst, uint64(len(e.Data))), e.Data...)
	}
	return sealPack(dst)
}

func appendStates(dst []byte, states []packState) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(states)))
	for i := range states {
		s := &states[i]
		dst = append(binary.AppendUvarint(dst, uint64(len(s.name))), s.name...)
		dst = binary.AppendUvarint(dst, s.prev)
		dst = binary.AppendUvarint(dst, uint64(len(s.chunks)))
		for _, c := range s.chunks {
			dst = append(binary.AppendUvarint(dst, uint64(len(c))), c...)
		}
	}
	return dst
}

// sealPack appends the checksum.
func sealPack(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
}

// decodePack reads a pack and checks it whole.
func decodePack(data []byte, prefix string) (*pack, error) {
	magic := string(data[:min(len(data), len(packMagic))])
	if len(data) < len(packMagic)+4 || magic != packMagic && magic != packMagicState {
		return nil, fmt.Errorf("%w: it does not begin as one", errDamaged)
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[len(body):]) {
		return nil, fmt.Errorf("%w: the checksum is another", errDamaged)
	}
	r := packReader{rest: body[len(packMagic):]}
	p := &pack{first: r.number()}
	p.commit, p.outbox = r.bytes(), r.bytes()
	if magic == packMagicState {
		p.states = r.states()
	}
	subjects := make([]string, 0, r.count())
	for range cap(subjects) {
		subjects = append(subjects, prefix+string(r.bytes()))
	}
	p.entries = make([]Entry, 0, r.count())
	for range cap(p.entries) {
		at, b := r.number(), r.bytes()
		if at >= uint64(len(subjects)) {
			r.bad = true
			break
		}
		p.entries = append(p.entries, Entry{Subject: subjects[at], Data: b})
	}
	if r.bad || len(r.rest) > 0 || p.first == 0 || p.first > math.MaxUint64-uint64(len(p.entries)) {
		return nil, fmt.Errorf("%w: its lengths do not add up", errDamaged)
	}
	return p, nil
}

// packReader reads a pack's fields; after a fault everything is empty.
type packReader struct {
	rest []byte
	bad  bool
}

func (r *packReader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// count reads how many items follow; each takes a byte at least.
func (r *packReader) count() int {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return 0
	}
	return int(n)
}

func (r *packReader) states() []packState {
	states := make([]packState, r.count())
	for i := range states {
		s := &states[i]
		s.name, s.prev = string(r.bytes()), r.number()
		s.chunks = make([][]byte, r.count())
		for j := range s.chunks {
			s.chunks[j] = r.bytes()
		}
	}
	return states
}

func (r *packReader) bytes() []byte {
	n := r.count()
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
