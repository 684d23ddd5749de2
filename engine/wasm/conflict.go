package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/edged/edged/engine/record"
)

// ClockQuality says how far the clock of a version's writer can be trusted.
type ClockQuality uint8

// The qualities of a clock.
const (
	// ClockSynced: nothing speaks against it.
	ClockSynced ClockQuality = iota
	// ClockFloor: it lagged behind what its writer had seen already and was
	// raised to that.
	ClockFloor
	// ClockUnknown: nothing is known of it. Its time orders nothing.
	ClockUnknown
)

var clockNames = [...]string{ClockSynced: "synced", ClockFloor: "floor", ClockUnknown: "unknown"}

// String returns the quality's name.
func (q ClockQuality) String() string {
	if int(q) < len(clockNames) {
		return clockNames[q]
	}
	return fmt.Sprintf("clock(%d)", uint8(q))
}

// Version is one side of a [Conflict].
type Version struct {
	// Key is the same on all sides.
	Key string
	// Device wrote this version; DataType is what it is.
	Device, DataType string
	// WallNS and Counter are the version's hybrid logical clock: nanoseconds of
	// Unix time, and the order among equal times.
	WallNS       int64
	Counter      uint64
	ClockQuality ClockQuality
	// Deleted: the version is a tombstone and has no body.
	Deleted bool
	// Revision is the version's number at the hub; 0: it was never there.
	Revision uint64
	// Body is one JSON value.
	Body []byte
}

// Conflict is two versions of one key, and what both came from.
type Conflict struct {
	// Base is nil when the two have nothing in common that is known.
	Base          *Version
	Local, Remote Version
}

// check refuses what the frames cannot say. The rest of a version is its
// owner's business.
func (c *Conflict) check() error {
	for _, v := range c.versions() {
		switch {
		case v == nil:
		case v.Key != c.Local.Key:
			return fmt.Errorf("the versions have different keys: %q and %q", c.Local.Key, v.Key)
		case len(v.Key) > math.MaxUint16 || len(v.Device) > math.MaxUint16 || len(v.DataType) > math.MaxUint16:
			return fmt.Errorf("a key, device or data type of more than %d bytes", math.MaxUint16)
		case len(v.Body) > record.MaxPayloadBytes:
			return fmt.Errorf("key %q: a body of %d bytes, at most %d are allowed", v.Key, len(v.Body), record.MaxPayloadBytes)
		}
	}
	return nil
}

// versions returns the sides in the order of their frames.
func (c *Conflict) versions() [3]*Version { return [3]*Version{c.Base, &c.Local, &c.Remote} }

const (
	opResolve = 2

	conflictHeader = 16
	verdictHeader  = 24

	contentNone  = 0
	contentOther = 2

	// The flags of a conflict and of a version in it.
	flagBase         = 1
	flagDeleted      = 1 << 1
	flagClockFloor   = 1 << 2
	flagClockUnknown = 1 << 3
	flagLeftOut      = 1 << 4
)

// The actions of a verdict.
const (
	verdictLocal = 1 + iota
	verdictRemote
	verdictMerged
	verdictDelete
	verdictManual
	verdictError
)

// resolveSize returns the size of the whole call; bodies says whether versions
// bring theirs.
func resolveSize(in []Conflict, bodies bool) int {
	size := callHeader
	for i := range in {
		size += conflictFrameSize(&in[i], bodies)
	}
	return size
}

func conflictFrameSize(c *Conflict, bodies bool) int {
	size := conflictHeader
	for _, v := range c.versions() {
		if v != nil {
			size += versionFrameSize(v, bodies)
		}
	}
	return size
}

func versionFrameSize(v *Version, bodies bool) int {
	size := recordHeader + len(v.Key) + len(v.Device) + len(v.DataType)
	if bodies && !v.Deleted {
		size += len(v.Body)
	}
	return pad8(size)
}

// appendResolve appends a whole call to dst, which has room for its size. now
// is 0: a resolver is a function of the conflict alone.
func appendResolve(dst []byte, in []Conflict, size int, bodies bool) []byte {
	le := binary.LittleEndian
	dst = appendCallHeader(dst, opResolve, len(in), size, 0)
	for i := range in {
		var flags uint32
		if in[i].Base != nil {
			flags |= flagBase
		}
		dst = le.AppendUint32(dst, uint32(conflictFrameSize(&in[i], bodies)))
		dst = le.AppendUint32(dst, flags)
		dst = le.AppendUint64(dst, 0)
		for _, v := range in[i].versions() {
			if v != nil {
				dst = appendVersion(dst, v, bodies)
			}
		}
	}
	return dst
}

func appendVersion(dst []byte, v *Version, bodies bool) []byte {
	le := binary.LittleEndian
	body := v.Body
	var flags, content uint16
	switch {
	case v.Deleted:
		flags, content, body = flagDeleted, contentNone, nil
	case record.SkipSpace(body, 0) < len(body) && body[record.SkipSpace(body, 0)] == '{':
		content = contentJSON
	default:
		content = contentOther
	}
	if !bodies && !v.Deleted {
		flags |= flagLeftOut
		body = nil
	}
	switch v.ClockQuality {
	case ClockFloor:
		flags |= flagClockFloor
	case ClockUnknown:
		flags |= flagClockUnknown
	}
	size := versionFrameSize(v, bodies)
	start := len(dst)
	dst = le.AppendUint32(dst, uint32(size))
	dst = le.AppendUint16(dst, flags)
	dst = le.AppendUint16(dst, content)
	dst = le.AppendUint16(dst, uint16(len(v.Key)))
	dst = le.AppendUint16(dst, uint16(len(v.Device)))
	dst = le.AppendUint16(dst, uint16(len(v.DataType)))
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, 0) // meta_len
	dst = le.AppendUint32(dst, uint32(len(body)))
	dst = le.AppendUint64(dst, uint64(v.WallNS))
	dst = le.AppendUint64(dst, 0) // received
	dst = le.AppendUint64(dst, v.Counter)
	dst = le.AppendUint64(dst, v.Revision)
	dst = le.AppendUint64(dst, 0)
	dst = append(dst, v.Key...)
	dst = append(dst, v.Device...)
	dst = append(dst, v.DataType...)
	dst = append(dst, body...)
	for len(dst) < start+size {
		dst = append(dst, 0)
	}
	return dst
}

// verdictFrame is one frame of a resolver's outbox. Its payload aliases it.
type verdictFrame struct {
	src          uint32
	action, code uint16
	payload      []byte
}

// nextVerdict reads the frame at the start of data and returns what follows it.
// It believes no number in data before it was checked against what is there.
func nextVerdict(data []byte) (f verdictFrame, rest []byte, fault *Fault) {
	if len(data) < verdictHeader {
		return f, nil, faultf(FaultFrame, "%d bytes are left, a verdict has at least %d", len(data), verdictHeader)
	}
	le := binary.LittleEndian
	size := int64(le.Uint32(data))
	if size < verdictHeader || size%8 != 0 || size > int64(len(data)) {
		return f, nil, faultf(FaultFrame, "a verdict says it has %d bytes; %d are left", size, len(data))
	}
	f.src, f.action, f.code = le.Uint32(data[4:]), le.Uint16(data[8:]), le.Uint16(data[10:])
	n := int64(le.Uint32(data[12:]))
	if verdictHeader+n > size {
		return f, nil, faultf(FaultFrame, "the payload of a verdict has %d bytes, its %d bytes leave room for %d", n, size, size-verdictHeader)
	}
	f.payload = data[verdictHeader : verdictHeader+n : verdictHeader+n]
	return f, data[size:], nil
}

// verdict checks what a frame says. What is wrong with it is this conflict's
// alone; an action that does not exist is the whole outbox's.
func (f *verdictFrame) verdict(limits *Limits) (v Verdict, fault *Fault) {
	if f.action < verdictLocal || f.action > verdictError {
		return v, faultf(FaultFrame, "unknown action %d", f.action)
	}
	v = Verdict{Action: VerdictAction(f.action), Code: f.code}
	bad := func(format string, args ...any) (Verdict, *Fault) {
		return Verdict{Action: VerdictFaulted, Fault: faultf(FaultRecord, format, args...)}, nil
	}
	if f.code != 0 && v.Action != VerdictManual && v.Action != VerdictError {
		return bad("the verdict %s with the code %d; it has none", v.Action, f.code)
	}
	switch v.Action {
	case VerdictMerged:
		if int64(len(f.payload)) > min(limits.RecordOutput, record.MaxPayloadBytes) {
			v = Verdict{Action: VerdictFaulted}
			v.Fault = faultf(FaultOutput, "it merged both sides to %d bytes, the limit is %d", len(f.payload), min(limits.RecordOutput, record.MaxPayloadBytes))
			return v, nil
		}
		if err := record.Valid(f.payload); err != nil {
			return bad("the value it merged: %w", err)
		}
		v.Payload = bytes.Trim(f.payload, " \t\r\n")
	case VerdictManual, VerdictError:
		if v.Action == VerdictManual && f.code > 1 {
			return bad("the verdict manual with the code %d, which is neither 0 (remote) nor 1 (local)", f.code)
		}
		v.Reason = cleanText(f.payload)
		if v.Action == VerdictError && v.Reason == "" {
			v.Reason = "the plugin gave no reason, code " + strconv.Itoa(int(f.code))
		}
	default:
		if len(f.payload) > 0 {
			return bad("the verdict %s with a payload of %d bytes; it has none", v.Action, len(f.payload))
		}
	}
	return v, nil
}
