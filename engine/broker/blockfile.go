package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/minio/highwayhash"
)

// The server keeps messages in block files, one record behind the other:
//
//	length of the record   4 bytes, little-endian; the top bit: it has headers
//	stream sequence        8 bytes; the top bit: erased, the one below: deletes another
//	time                   8 bytes, nanoseconds
//	length of the subject  2 bytes
//	subject, and with headers their length in 4 bytes and they, and the data
//	checksum               8 bytes, over all but the lengths
const (
	recordHead  = 22
	recordSum   = 8
	recordLeast = recordHead + recordSum
	headersBit  = 1 << 31
	erasedBit   = 1 << 63
	deletesBit  = 1 << 62
	// farAhead bounds how far a record found behind damage may be ahead.
	farAhead = 1 << 32
)

// blockHash returns the hash of the records of a stream's block.
func blockHash(stream string, index uint32) (hash.Hash, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))
	return highwayhash.New64(key[:])
}

// stretch is a part of a block file.
type stretch struct{ from, to int }

// layout is what a block file holds.
type layout struct {
	good        []stretch
	bad         []stretch
	first, last uint64 // sequences of the messages; 0: there are none
	// around are, for each bad stretch, the sequences before and behind it; 0:
	// there is none in this block.
	around [][2]uint64
}

// readLayout looks for the records of a block. Behind damage it goes on where the
// next whole record begins, which its checksum proves.
func readLayout(buf []byte, sum hash.Hash) layout {
	var l layout
	for at := 0; at < len(buf); {
		n := recordAt(buf[at:], sum, 0)
		if n > 0 {
			l.take(buf, at, at+n)
			at += n
			continue
		}
		from := at
		for at++; at < len(buf); at++ {
			if recordAt(buf[at:], sum, max(l.last, 1)) > 0 {
				break
			}
		}
		l.bad = append(l.bad, stretch{from, at})
		l.around = append(l.around, [2]uint64{l.last, 0})
	}
	return l
}

// take adds a record to the layout.
func (l *layout) take(buf []byte, from, to int) {
	if k := len(l.good) - 1; k >= 0 && l.good[k].to == from {
		l.good[k].to = to
	} else {
		l.good = append(l.good, stretch{from, to})
	}
	seq := binary.LittleEndian.Uint64(buf[from+4:])
	if seq&deletesBit != 0 || seq&^erasedBit <= l.last {
		return
	}
	seq &^= erasedBit
	if l.first == 0 {
		l.first = seq
	}
	l.last = seq
	for k := len(l.around) - 1; k >= 0 && l.around[k][1] == 0; k-- {
		l.around[k][1] = seq
	}
}

// recordAt returns the length of the record that buf begins with, 0 when there
// is none. With after > 0 it is looked for behind damage: its sequence must then
// be plausible before its checksum is worth computing.
func recordAt(buf []byte, sum hash.Hash, after uint64) int {
	if len(buf) < recordLeast {
		return 0
	}
	le := binary.LittleEndian
	raw := le.Uint32(buf)
	n, subject := int(raw&^headersBit), int(le.Uint16(buf[20:]))
	head := recordHead + subject
	if raw&headersBit != 0 {
		head += 4
	}
	if n > len(buf) || n < head+recordSum {
		return 0
	}
	if seq := le.Uint64(buf[4:]) &^ (erasedBit | deletesBit); after > 0 && (seq == 0 || seq > after+farAhead) {
		return 0
	}
	sum.Reset()
	sum.Write(buf[4:20])
	sum.Write(buf[recordHead : recordHead+subject])
	sum.Write(buf[head : n-recordSum])
	if !bytes.Equal(sum.Sum(nil), buf[n-recordSum:n]) {
		return 0
	}
	return n
}

// erased returns the record of a message that is no more: it keeps the sequences
// behind it from being given out again.
func erased(seq uint64, sum hash.Hash) []byte {
	buf := make([]byte, recordHead, recordLeast)
	binary.LittleEndian.PutUint32(buf, recordLeast)
	binary.LittleEndian.PutUint64(buf[4:], seq|erasedBit)
	sum.Reset()
	sum.Write(buf[4:20])
	return sum.Sum(buf)
}

// indexLast reads the highest sequence from the server's index of a stream, 0
// when that is not what was written.
func indexLast(stream string, buf []byte) uint64 {
	key := sha256.Sum256([]byte(stream))
	sum, err := highwayhash.New64(key[:])
	if err != nil || len(buf) < 2+recordSum {
		return 0
	}
	body := buf[:len(buf)-recordSum]
	sum.Write(body)
	if !bytes.Equal(sum.Sum(nil), buf[len(body):]) {
		return 0
	}
	body = body[2:] // magic and version
	for range 3 {   // messages, bytes, first sequence
		_, n := binary.Uvarint(body)
		if n <= 0 {
			return 0
		}
		body = body[n:]
	}
	_, n := binary.Varint(body) // time of the first
	if n <= 0 {
		return 0
	}
	last, _ := binary.Uvarint(body[n:])
	return last
}
