// Package edgedtest runs plugins natively in unit tests: it writes calls as the
// host does, and reads the answers.
package edgedtest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	edged "github.com/edged/edged/sdk/go"
)

var le = binary.LittleEndian

// Record is a record to transform. What is empty has a value all the same, but
// for the payload, which is one JSON object.
type Record struct {
	ID, Device, Type, Payload string
	// Timestamp is in nanoseconds since 1970.
	Timestamp int64
}

// Frame is one frame of an answer. Parts that are empty did not change.
type Frame struct {
	// Src is the number of the record, from 0.
	Src int
	// Action is emit, pass, drop or error.
	Action                    string
	Code                      uint16
	ID, Device, Type, Payload string
	// Timestamp counts if Dated.
	Timestamp int64
	Dated     bool
	// Reason is that of a drop or an error.
	Reason string
}

var actions = [...]string{"", "emit", "pass", "drop", "error"}

// Configure hands a configuration, a JSON object, to the plugin; the error is what
// the plugin says is wrong with it.
func Configure(setUp func(*edged.Config), json string) error {
	if wrong := edged.HandleConfigure([]byte(json), setUp); wrong != "" {
		return fmt.Errorf("%s", wrong)
	}
	return nil
}

// Transform gives the records to handle in one call and returns its answer.
func Transform(t testing.TB, handle func(*edged.Record, *edged.Output), records ...Record) []Frame {
	t.Helper()
	call := header(1, len(records))
	for i, r := range records {
		frame := record(or(r.ID, fmt.Sprintf("r%d", i)), r.Device, r.Type, r.Payload)
		le.PutUint64(frame[24:], uint64(r.Timestamp))
		call = append(call, frame...)
	}
	out := edged.HandleTransform(finish(call), handle)
	var frames []Frame
	for len(out) > 0 {
		if len(out) < 40 || int(le.Uint32(out)) > len(out) || le.Uint32(out)%8 != 0 {
			t.Fatalf("a frame that is none: %x", out)
		}
		frames = append(frames, readFrame(out))
		out = out[le.Uint32(out):]
	}
	return frames
}

func readFrame(b []byte) Frame {
	f := Frame{Src: int(le.Uint32(b[4:])), Action: actions[le.Uint16(b[8:])], Code: le.Uint16(b[10:])}
	changed, at := le.Uint32(b[12:]), 40
	for i, part := range []*string{&f.ID, &f.Device, &f.Type} {
		size := int(le.Uint16(b[16+2*i:]))
		*part = string(b[at : at+size])
		at += size
	}
	last := string(b[at : at+int(le.Uint32(b[28:]))])
	if f.Dated = changed&8 != 0; f.Dated {
		f.Timestamp = int64(le.Uint64(b[32:]))
	}
	if changed&32 != 0 {
		f.Payload = last
	} else {
		f.Reason = last
	}
	return f
}

// Version is one side of a conflict. Without a payload it is a delete.
type Version struct {
	Device, Type, Payload string
	Wall                  int64
	Counter, Revision     uint64
	ClockUnknown          bool
}

// Conflict is a conflict to resolve.
type Conflict struct {
	Key string
	// Base is nil when it is unknown.
	Base          *Version
	Local, Remote Version
}

// Verdict is the answer to a conflict.
type Verdict struct {
	// Src is the number of the conflict, from 0.
	Src int
	// Action is local, remote, merged, delete, manual or error.
	Action string
	Code   uint16
	// Payload is that of a merge, Reason that of the others.
	Payload, Reason string
}

var verdicts = [...]string{"", "local", "remote", "merged", "delete", "manual", "error"}

// Resolve gives the conflicts to decide in one call and returns its verdicts.
func Resolve(t testing.TB, decide func(*edged.Conflict, *edged.Verdict), conflicts ...Conflict) []Verdict {
	t.Helper()
	call := header(2, len(conflicts))
	for _, c := range conflicts {
		begin := len(call)
		call = append(call, make([]byte, 16)...)
		if c.Base != nil {
			call = append(call, c.Base.frame(c.Key)...)
			call[begin+4] = 1
		}
		call = append(append(call, c.Local.frame(c.Key)...), c.Remote.frame(c.Key)...)
		le.PutUint32(call[begin:], uint32(len(call)-begin))
	}
	out := edged.HandleResolve(finish(call), decide)
	var all []Verdict
	for len(out) > 0 {
		if len(out) < 24 || int(le.Uint32(out)) > len(out) || le.Uint32(out)%8 != 0 {
			t.Fatalf("a verdict that is none: %x", out)
		}
		v := Verdict{Src: int(le.Uint32(out[4:])), Action: verdicts[le.Uint16(out[8:])], Code: le.Uint16(out[10:])}
		payload := string(out[24 : 24+le.Uint32(out[12:])])
		if v.Action == "merged" {
			v.Payload = payload
		} else {
			v.Reason = payload
		}
		all = append(all, v)
		out = out[le.Uint32(out):]
	}
	return all
}

func (v *Version) frame(key string) []byte {
	frame := record(or(key, "key"), v.Device, v.Type, v.Payload)
	var flags uint16
	if v.Payload == "" {
		flags |= 2
	}
	if v.ClockUnknown {
		flags |= 8
	}
	le.PutUint16(frame[4:], flags)
	le.PutUint64(frame[24:], uint64(v.Wall))
	le.PutUint64(frame[40:], v.Counter)
	le.PutUint64(frame[48:], v.Revision)
	return frame
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func header(op uint16, count int) []byte {
	b := make([]byte, 32)
	copy(b, "EDG1")
	le.PutUint16(b[4:], 1)
	le.PutUint16(b[6:], op)
	le.PutUint32(b[8:], uint32(count))
	if op == 1 {
		le.PutUint64(b[16:], uint64(edged.Now()))
	}
	return b
}

func finish(call []byte) []byte {
	le.PutUint32(call[12:], uint32(len(call)))
	return call
}

func record(id, device, kind, payload string) []byte {
	b := make([]byte, 64)
	for i, part := range []string{id, or(device, "device"), or(kind, "type"), payload} {
		if i < 3 {
			le.PutUint16(b[8+2*i:], uint16(len(part)))
		} else {
			le.PutUint32(b[20:], uint32(len(part)))
		}
		b = append(b, part...)
	}
	switch {
	case strings.HasPrefix(strings.TrimLeft(payload, " \t\r\n"), "{"):
		b[6] = 1
	case payload != "":
		b[6] = 2
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	le.PutUint32(b, uint32(len(b)))
	return b
}
