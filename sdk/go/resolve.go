package edged

import "bytes"

// Version is one version of a key. Its bytes belong to the call.
type Version struct {
	// Device wrote it.
	Device []byte
	Type   []byte
	// Payload is the JSON value; empty when it is deleted or left out.
	Payload []byte
	// Wall is the wall time of its hybrid logical clock, in nanoseconds since
	// 1970, and Counter the counter among versions with the same wall time.
	Wall    int64
	Counter uint64
	// Revision is the one at the hub; 0: it was never there.
	Revision uint64
	// Deleted says that the version is a delete; it has no payload.
	Deleted bool
	// ClockRaised says that the clock of its writer lagged behind and was raised;
	// ClockUnknown that it says nothing.
	ClockRaised, ClockUnknown bool
	// LeftOut says that there is a payload which was not asked for: the plugin's
	// needs is headers.
	LeftOut bool
	// IsObject says that the payload is one JSON object, and not another JSON value.
	IsObject bool
}

// read reads the record frame at the start of b and returns what follows it, and
// the key.
func (v *Version) read(b []byte) (rest, key []byte) {
	var r Record
	rest = r.read(b)
	flags := u16(b[4:])
	*v = Version{
		Device: r.Device, Type: r.Type, Payload: r.Payload, Wall: r.Timestamp, Counter: r.Seq, Revision: u64(b[48:]),
		Deleted: flags&2 != 0, ClockRaised: flags&4 != 0, ClockUnknown: flags&8 != 0, LeftOut: flags&16 != 0,
		IsObject: u16(b[6:]) == 1,
	}
	return rest, r.ID
}

// Compare says which version is later: above 0 this one, below 0 the other, 0
// neither. By wall time, then the counter, then the device; every edge finds the
// same. 0 also when the clock of either is unknown: then only the hub's order
// counts.
func (v *Version) Compare(other *Version) int {
	switch {
	case v.ClockUnknown || other.ClockUnknown:
		return 0
	case v.Wall != other.Wall:
		return sign(v.Wall > other.Wall)
	case v.Counter != other.Counter:
		return sign(v.Counter > other.Counter)
	}
	return bytes.Compare(v.Device, other.Device)
}

func sign(later bool) int {
	if later {
		return 1
	}
	return -1
}

// Conflict is a key that was changed here and at the hub since both last agreed.
type Conflict struct {
	Key []byte
	// Base is what both last agreed on. Nil: that is not known, and what one side
	// lacks may be new on the other. A deleted base says that the key was not there.
	Base *Version
	// Local is what this edge has, and Remote what the hub has.
	Local, Remote Version
}

// The actions of a verdict.
const (
	verdictLocal, verdictRemote, verdictMerged, verdictDelete, verdictManual, verdictError = 1, 2, 3, 4, 5, 6
)

// Verdict decides the conflict at hand, once: a second decision panics.
type Verdict struct{ box outbox }

// Local lets this edge's version win.
func (v *Verdict) Local() { v.decide(verdictLocal, 0, "") }

// Remote lets the hub's version win.
func (v *Verdict) Remote() { v.decide(verdictRemote, 0, "") }

// Merged makes both sides this JSON value.
func (v *Verdict) Merged(json []byte) {
	frame := v.frame(verdictMerged, 0, len(json))
	copy(frame[verdictHeader:], json)
}

// Delete takes the key from both sides.
func (v *Verdict) Delete() { v.decide(verdictDelete, 0, "") }

// Manual leaves it to a person; until then the hub's version is served, or this
// edge's.
func (v *Verdict) Manual(reason string, serveLocal bool) {
	var code uint16
	if serveLocal {
		code = 1
	}
	v.decide(verdictManual, code, reason)
}

// Error has the next resolver of the chain asked. code is the plugin's own number,
// 0 for none.
func (v *Verdict) Error(reason string, code uint16) { v.decide(verdictError, code, reason) }

func (v *Verdict) decide(action, code uint16, reason string) {
	copy(v.frame(action, code, len(reason))[verdictHeader:], reason)
}

func (v *Verdict) frame(action, code uint16, size int) []byte {
	if v.box.answers > 0 {
		panic("two verdicts for one conflict")
	}
	frame := v.box.frame(verdictHeader, size, action, code)
	put32(frame[12:], uint32(size))
	return frame
}

// verdict is used again by every call.
var verdict Verdict

// Resolve calls decide for every conflict of a call. It is what the function
// returns that a plugin exports as edged_resolve.
func Resolve(ptr, size uint32, decide func(*Conflict, *Verdict)) uint64 {
	return result(HandleResolve(inbox(ptr, size), decide))
}

// HandleResolve calls decide for every conflict of a call that it is given as
// bytes, and returns the answer, valid until the next call; nil: the bytes are no
// call. Tests use it through the package edgedtest. A panic of decide becomes the
// error of its conflict.
func HandleResolve(call []byte, decide func(*Conflict, *Verdict)) []byte {
	if !isCall(call, opResolve) {
		return nil
	}
	verdict.box.data = append(verdict.box.data[:0], noAnswer...)[:0] // an answer without verdicts is one
	rest := call[callHeader:]
	for i := range u32(call[8:]) {
		var c Conflict
		frame := rest[conflictHeader:]
		if u32(rest[4:])&1 != 0 {
			c.Base = new(Version)
			frame, _ = c.Base.read(frame)
		}
		frame, c.Key = c.Local.read(frame)
		c.Remote.read(frame)
		verdict.box.src, verdict.box.answers = i, 0
		verdict.answer(&c, decide)
		if verdict.box.answers == 0 {
			verdict.Error(noAnswer, 0)
		}
		rest = rest[u32(rest):]
	}
	return verdict.box.data
}

// answer has decide decide one conflict.
func (v *Verdict) answer(c *Conflict, decide func(*Conflict, *Verdict)) {
	begin := len(v.box.data)
	defer func() {
		if value := recover(); value != nil {
			v.box.data, v.box.answers = v.box.data[:begin], 0
			v.Error(panicked(value), 0)
		}
	}()
	decide(c, v)
}
