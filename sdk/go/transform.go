package edged

// Record is a record as the host handed it over. Its bytes belong to the call: a
// plugin that keeps some copies them.
type Record struct {
	ID, Device, Type []byte
	// Payload is one JSON object.
	Payload []byte
	// Timestamp is in nanoseconds since 1970.
	Timestamp int64
	// TimestampSaturated says that the timestamp lies outside the years 1677 to
	// 2262 and was cut.
	TimestampSaturated bool
	// Received is when edged received it; 0: unknown.
	Received int64
	// Seq is its number in the store; 0: it is not stored yet.
	Seq uint64
	// CallTime is the time of the call, in nanoseconds since 1970.
	CallTime int64
}

// read reads the record frame at the start of b and returns what follows it.
func (r *Record) read(b []byte) []byte {
	rest := b[recordHeader:]
	part := func(n int) []byte {
		p := rest[:n:n]
		rest = rest[n:]
		return p
	}
	r.TimestampSaturated = u16(b[4:])&1 != 0
	r.ID, r.Device, r.Type = part(int(u16(b[8:]))), part(int(u16(b[10:]))), part(int(u16(b[12:])))
	rest = rest[u32(b[16:]):]
	r.Payload = part(int(u32(b[20:])))
	r.Timestamp, r.Received, r.Seq = int64(u64(b[24:])), int64(u64(b[32:])), u64(b[40:])
	return b[u32(b):]
}

// Draft is a record to emit: what is set replaces what the input has.
type Draft struct {
	// ID, Device and Type stay as they are where they are empty.
	ID, Device, Type string
	// Payload stays as it is when it is nil; otherwise it is one JSON object.
	Payload []byte
	// Timestamp is in nanoseconds since 1970. It counts if Dated.
	Timestamp int64
	Dated     bool
}

// The actions of an out frame, and the bits of its changed mask.
const (
	actionEmit, actionPass, actionDrop, actionError = 1, 2, 3, 4

	changedID, changedDevice, changedType, changedTimestamp, changedPayload = 1, 2, 4, 8, 32
)

// Output answers the record at hand. A record gets Pass, Drop or Error once, or
// any number of emits (a split); Pass beside emits keeps the original among them.
type Output struct{ box outbox }

// Pass lets the record go on as it is. Nothing is copied.
func (o *Output) Pass() { o.box.frame(outHeader, 0, actionPass, 0) }

// Drop ends the record here, on purpose. The reason is kept; code is the plugin's
// own number, 0 for none.
func (o *Output) Drop(reason string, code uint16) { o.reason(actionDrop, reason, code) }

// Error refuses the record: the pipeline decides what becomes of it. code is the
// plugin's own number, 0 for none.
func (o *Output) Error(reason string, code uint16) { o.reason(actionError, reason, code) }

func (o *Output) reason(action uint16, reason string, code uint16) {
	frame := o.box.frame(outHeader, len(reason), action, code)
	put32(frame[28:], uint32(len(reason)))
	copy(frame[outHeader:], reason)
}

// Payload lets the record go on with another payload, which must be one JSON object.
func (o *Output) Payload(json []byte) {
	frame := o.box.frame(outHeader, len(json), actionEmit, 0)
	put32(frame[12:], changedPayload)
	put32(frame[28:], uint32(len(json)))
	copy(frame[outHeader:], json)
}

// Emit makes a record from the one at hand. Call it several times to split; give
// each an id of its own, or the host numbers them.
func (o *Output) Emit(d Draft) {
	frame := o.box.frame(outHeader, len(d.ID)+len(d.Device)+len(d.Type)+len(d.Payload), actionEmit, 0)
	var changed uint32
	at := outHeader
	for i, part := range [...]string{d.ID, d.Device, d.Type} {
		if part != "" {
			changed |= changedID << i
			put16(frame[16+2*i:], uint16(len(part)))
			at += copy(frame[at:], part)
		}
	}
	if d.Payload != nil {
		changed |= changedPayload
		put32(frame[28:], uint32(len(d.Payload)))
		copy(frame[at:], d.Payload)
	}
	if d.Dated {
		changed |= changedTimestamp
		put64(frame[32:], uint64(d.Timestamp))
	}
	put32(frame[12:], changed)
}

// output is used again by every call.
var output Output

// Transform calls handle for every record of a call. It is what the function
// returns that a plugin exports as edged_transform.
func Transform(ptr, size uint32, handle func(*Record, *Output)) uint64 {
	return result(HandleTransform(inbox(ptr, size), handle))
}

// HandleTransform calls handle for every record of a call that it is given as
// bytes, and returns the answer, valid until the next call; nil: the bytes are no
// call. Tests use it through the package edgedtest.
//
// A panic of handle becomes the error of its record. (TinyGo cannot recover from
// all of them: what it cannot is a fault of the record.)
func HandleTransform(call []byte, handle func(*Record, *Output)) []byte {
	if !isCall(call, opTransform) {
		return nil
	}
	count := u32(call[8:])
	record := Record{CallTime: int64(u64(call[16:]))}
	// Most transforms add a little to each record.
	if need := len(call) + int(count)*64; cap(output.box.data) < need {
		output.box.data = make([]byte, 0, need)
	}
	output.box.data = output.box.data[:0]
	rest := call[callHeader:]
	for i := range count {
		rest = record.read(rest)
		output.box.src, output.box.answers = i, 0
		output.answer(&record, handle)
		if output.box.answers == 0 {
			output.Error(noAnswer, 0)
		}
	}
	return output.box.data
}

// answer has handle answer one record.
func (o *Output) answer(r *Record, handle func(*Record, *Output)) {
	begin := len(o.box.data)
	defer func() {
		if value := recover(); value != nil {
			o.box.data = o.box.data[:begin]
			o.Error(panicked(value), 0)
		}
	}()
	handle(r, o)
}
