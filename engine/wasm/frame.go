package wasm

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"github.com/edged/edged/engine/record"
)

// The layout of ABI v1; sdk/abi.md draws it. All numbers are little-endian and
// every frame is padded to 8 bytes.
const (
	callMagic   = 'E' | 'D'<<8 | 'G'<<16 | '1'<<24
	abiVersion  = 1
	opTransform = 1

	callHeader   = 32
	recordHeader = 64
	outHeader    = 40

	contentJSON = 1

	// flagTimestampSaturated says that the timestamp does not fit timestamp_ns.
	flagTimestampSaturated = 1
)

// The bits of an out frame's changed mask.
const (
	changedID = 1 << iota
	changedDevice
	changedType
	changedTimestamp
	changedMeta
	changedPayload
	changedAll = 1<<iota - 1
)

// The actions of an out frame.
const (
	actionEmit = 1 + iota
	actionPass
	actionDrop
	actionError
	actionRoute
)

// maxReasonBytes bounds the text of a drop or an error that is kept.
const maxReasonBytes = 1024

func pad8(n int) int { return (n + 7) &^ 7 }

func recordFrameSize(r *record.Record) int {
	return pad8(recordHeader + len(r.ID) + len(r.DeviceID) + len(r.DataType) + len(r.Payload))
}

// saturatedNano returns t as Unix nanoseconds, and whether it had to be cut to
// what an int64 holds (the years 1677 to 2262).
func saturatedNano(t time.Time) (int64, bool) {
	const limit = math.MaxInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case s >= limit:
		return math.MaxInt64, true
	case s <= -limit:
		return math.MinInt64, true
	}
	return t.UnixNano(), false
}

// appendCall appends the call header and the frames of in to dst, which has
// room for size bytes more. It does not allocate when the room is there.
func appendCall(dst []byte, in []record.Record, size int, now int64) []byte {
	dst = appendCallHeader(dst, opTransform, len(in), size, now)
	for i := range in {
		dst = appendRecord(dst, &in[i])
	}
	return dst
}

func appendCallHeader(dst []byte, op uint16, count, size int, now int64) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, callMagic)
	dst = le.AppendUint16(dst, abiVersion)
	dst = le.AppendUint16(dst, op)
	dst = le.AppendUint32(dst, uint32(count))
	dst = le.AppendUint32(dst, uint32(size))
	dst = le.AppendUint64(dst, uint64(now))
	return le.AppendUint64(dst, 0)
}

func appendRecord(dst []byte, r *record.Record) []byte {
	le := binary.LittleEndian
	ns, saturated := saturatedNano(r.Timestamp)
	var flags uint16
	if saturated {
		flags |= flagTimestampSaturated
	}
	size := recordFrameSize(r)
	start := len(dst)
	dst = le.AppendUint32(dst, uint32(size))
	dst = le.AppendUint16(dst, flags)
	dst = le.AppendUint16(dst, contentJSON)
	dst = le.AppendUint16(dst, uint16(len(r.ID)))
	dst = le.AppendUint16(dst, uint16(len(r.DeviceID)))
	dst = le.AppendUint16(dst, uint16(len(r.DataType)))
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, 0) // meta_len
	dst = le.AppendUint32(dst, uint32(len(r.Payload)))
	dst = le.AppendUint64(dst, uint64(ns))
	dst = append(dst, make([]byte, recordHeader-32)...) // received_ns, seq, origin, reserved
	dst = append(dst, r.ID...)
	dst = append(dst, r.DeviceID...)
	dst = append(dst, r.DataType...)
	dst = append(dst, r.Payload...)
	for len(dst) < start+size {
		dst = append(dst, 0)
	}
	return dst
}

// outFrame is one frame of an outbox. Its slices alias the outbox.
type outFrame struct {
	src          uint32
	action, code uint16
	changed      uint32
	timestamp    int64
	id, device   []byte
	typ, payload []byte
}

// nextOut reads the frame at the start of data and returns what follows it. It
// believes no number in data before it was checked against what is there.
func nextOut(data []byte) (f outFrame, rest []byte, fault *Fault) {
	if len(data) < outHeader {
		return f, nil, faultf(FaultFrame, "%d bytes are left, an out frame has at least %d", len(data), outHeader)
	}
	le := binary.LittleEndian
	size := int64(le.Uint32(data))
	if size < outHeader || size%8 != 0 || size > int64(len(data)) {
		return f, nil, faultf(FaultFrame, "an out frame says it has %d bytes; %d are left", size, len(data))
	}
	f.src, f.action, f.code, f.changed = le.Uint32(data[4:]), le.Uint16(data[8:]), le.Uint16(data[10:]), le.Uint32(data[12:])
	idLen, deviceLen, typeLen := int64(le.Uint16(data[16:])), int64(le.Uint16(data[18:])), int64(le.Uint16(data[20:]))
	metaLen, payloadLen := int64(le.Uint32(data[24:])), int64(le.Uint32(data[28:]))
	f.timestamp = int64(le.Uint64(data[32:]))
	if parts := idLen + deviceLen + typeLen + metaLen + payloadLen; outHeader+parts > size {
		return f, nil, faultf(FaultFrame, "the parts of an out frame have %d bytes, its %d bytes leave room for %d", parts, size, size-outHeader)
	}
	if f.changed&^changedAll != 0 {
		return f, nil, faultf(FaultFrame, "the changed mask %#x has unknown bits", f.changed)
	}
	if metaLen > 0 || f.changed&changedMeta != 0 {
		return f, nil, faultf(FaultFrame, "a record has no meta in ABI v1")
	}
	body := data[outHeader:size]
	f.id, body = body[:idLen:idLen], body[idLen:]
	f.device, body = body[:deviceLen:deviceLen], body[deviceLen:]
	f.typ, body = body[:typeLen:typeLen], body[typeLen:]
	f.payload = body[:payloadLen:payloadLen]
	return f, data[size:], nil
}

// cleanText makes a line for people of a guest's bytes.
func cleanText(b []byte) string {
	s := strings.ToValidUTF8(string(b[:min(len(b), maxReasonBytes)]), "\ufffd")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
