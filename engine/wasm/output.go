package wasm

import (
	"fmt"
	"strconv"
	"time"

	"github.com/edged/edged/engine/record"
)

// Action says what became of a record.
type Action uint8

// The actions of a [Result].
const (
	// Pass: the record goes on as it is.
	Pass Action = iota + 1
	// Emit: Records go on in its place, one or several.
	Emit
	// Drop: the plugin wants the record to end here. Reason may say why.
	Drop
	// Error: the plugin refuses the record. Reason says why.
	Error
	// Faulted: the plugin failed on the record. Fault says how.
	Faulted
	// Skipped: the plugin rests after too many faults and was not given the
	// record; [Plugin.Rests] says how long.
	Skipped
)

var actionNames = [...]string{Pass: "pass", Emit: "emit", Drop: "drop", Error: "error", Faulted: "fault", Skipped: "skipped"}

// String returns the action's name.
func (a Action) String() string {
	if int(a) < len(actionNames) && actionNames[a] != "" {
		return actionNames[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Result is what became of one record.
type Result struct {
	Action Action
	// Records are what goes on when Action is Emit, in the plugin's order.
	// Payloads and fields that the plugin did not change alias the input.
	Records []record.Record
	// Code is the plugin's own number for a drop or an error.
	Code uint16
	// Reason is for people. For a fault it names the plugin and its sha256.
	Reason string
	// Fault is set when Action is Faulted, not when it is Skipped.
	Fault *Fault
}

// Output receives the results of [Plugin.Transform]. It may be used again and
// then keeps its buffers; results and their bytes are valid until then. It
// serves one goroutine.
type Output struct {
	// Results holds one result for every record of the input, in its order.
	Results []Result
	// KV is what a plugin that was granted keys reaches in these calls. The
	// caller sets it; nil: its functions answer that they are denied.
	KV *KV

	in      []record.Record
	records []record.Record
	copies  outboxes
}

func (o *Output) reset(in []record.Record) {
	clear(o.Results)
	clear(o.records)
	o.in, o.Results, o.records = in, o.Results[:0], o.records[:0]
	o.copies.reset()
	if cap(o.Results) < len(in) {
		o.Results = make([]Result, 0, len(in))
	}
}

// outboxes holds copies of what guests returned.
type outboxes struct{ bytes []byte }

func (o *outboxes) reset() { o.bytes = o.bytes[:0] }

// add keeps a copy of an outbox. Earlier copies stay where they are: when the
// buffer is full a new one is begun, and results hold on to the old.
func (o *outboxes) add(view []byte) []byte {
	if cap(o.bytes)-len(o.bytes) < len(view) {
		o.bytes = make([]byte, 0, max(2*cap(o.bytes), len(view), 64<<10))
	}
	n := len(o.bytes)
	o.bytes = append(o.bytes, view...)
	return o.bytes[n:len(o.bytes):len(o.bytes)]
}

// decode reads a copied outbox that answers in and appends one result for each
// of its records. A fault means that the outbox as a whole cannot be believed;
// then nothing was appended. A single bad record in a well-formed outbox
// becomes a Faulted result of its own.
func (o *Output) decode(in []record.Record, data []byte, limits *Limits) *Fault {
	results, records := len(o.Results), len(o.records)
	fault := o.decodeAll(in, data, limits)
	if fault != nil {
		clear(o.Results[results:])
		o.Results, o.records = o.Results[:results], o.records[:records]
	}
	return fault
}

func (o *Output) decodeAll(in []record.Record, data []byte, limits *Limits) *Fault {
	var f outFrame
	var fault *Fault
	more := false
	next := func() *Fault {
		if more = len(data) > 0; !more {
			return nil
		}
		before := f.src
		if f, data, fault = nextOut(data); fault != nil {
			return fault
		}
		if f.src >= uint32(len(in)) {
			return faultf(FaultFrame, "an out frame answers record %d of %d", f.src, len(in))
		}
		if f.src < before {
			return faultf(FaultFrame, "an out frame answers record %d after record %d", f.src, before)
		}
		return nil
	}
	if fault := next(); fault != nil {
		return fault
	}
	for i := range in {
		if !more || f.src != uint32(i) {
			return faultf(FaultFrame, "record %d has no answer", i)
		}
		g := group{out: o, src: &in[i], start: len(o.records)}
		for more && f.src == uint32(i) {
			if fault := g.add(&f); fault != nil {
				return fault
			}
			if fault := next(); fault != nil {
				return fault
			}
		}
		o.Results = append(o.Results, g.result(limits))
	}
	return nil
}

// group gathers the frames that answer one record.
type group struct {
	out    *Output
	src    *record.Record
	start  int // of its records in out.records
	frames int
	bytes  int64
	last   Result // of a frame that must stand alone
	bad    *Fault
}

// add takes a frame. The fault it returns is the whole outbox's; g.bad is the
// record's own.
func (g *group) add(f *outFrame) *Fault {
	g.frames++
	if g.frames > 1 && g.last.Action != 0 && g.last.Action != Pass {
		return faultf(FaultFrame, "record %d has answers beside a drop or an error", f.src)
	}
	switch f.action {
	case actionPass:
		g.last = Result{Action: Pass}
		g.out.records = append(g.out.records, *g.src)
		return nil
	case actionEmit:
		if g.last.Action == Pass {
			g.last = Result{}
		}
		g.bytes += int64(len(f.id) + len(f.device) + len(f.typ) + len(f.payload))
		g.out.records = append(g.out.records, *g.src)
		last := len(g.out.records) - 1
		if bad := f.apply(&g.out.records[last], last-g.start); bad != nil && g.bad == nil {
			g.bad = bad
		}
		return nil
	case actionDrop, actionError:
		if g.frames > 1 {
			return faultf(FaultFrame, "record %d has answers beside a drop or an error", f.src)
		}
		g.last = Result{Action: Drop, Code: f.code, Reason: cleanText(f.payload)}
		if f.action == actionError {
			g.last.Action = Error
			if g.last.Reason == "" {
				g.last.Reason = "the plugin gave no reason, code " + strconv.Itoa(int(f.code))
			}
		}
		return nil
	case actionRoute:
		return faultf(FaultFrame, "the action route is reserved")
	}
	return faultf(FaultFrame, "unknown action %d", f.action)
}

func (g *group) result(limits *Limits) Result {
	all := g.out.records[g.start:len(g.out.records):len(g.out.records)]
	switch {
	case g.bytes > limits.RecordOutput:
		g.bad = faultf(FaultOutput, "%d bytes came out of one record, its limit is %d", g.bytes, limits.RecordOutput)
	case g.bad == nil && len(all) > 1:
		g.bad = distinct(all)
	}
	switch {
	case g.bad != nil:
		g.out.records = g.out.records[:g.start]
		return Result{Action: Faulted, Fault: g.bad}
	case g.frames == 1 && g.last.Action != 0:
		g.out.records = g.out.records[:g.start]
		return g.last
	}
	return Result{Action: Emit, Records: all}
}

// apply makes of r, a copy of the source, the record that an emit asks for. Of
// several with an unchanged id, all but the first get their place appended to
// it, so that ids stay distinct and the same after every replay (I2).
func (f *outFrame) apply(r *record.Record, place int) *Fault {
	if fault := f.replace(&r.ID, f.id, changedID, "id"); fault != nil {
		return fault
	}
	if fault := f.replace(&r.DeviceID, f.device, changedDevice, "device_id"); fault != nil {
		return fault
	}
	if fault := f.replace(&r.DataType, f.typ, changedType, "data_type"); fault != nil {
		return fault
	}
	if f.changed&changedID == 0 && place > 0 {
		r.ID += "." + strconv.Itoa(place+1)
	}
	if f.changed&changedTimestamp != 0 {
		r.Timestamp = time.Unix(0, f.timestamp).UTC()
	}
	if f.changed&changedPayload != 0 {
		if err := record.ValidObject(f.payload); err != nil {
			return faultf(FaultRecord, "the payload it emitted: %w", err)
		}
		// The JSON reader accepts white space before the object; a record does
		// not begin with it.
		r.Payload = f.payload[record.SkipSpace(f.payload, 0):]
	} else if len(f.payload) > 0 {
		return faultf(FaultRecord, "payload has bytes but is not marked as changed")
	}
	if err := r.Check(); err != nil {
		return faultf(FaultRecord, "the record it emitted: %w", err)
	}
	return nil
}

func (f *outFrame) replace(to *string, from []byte, bit uint32, name string) *Fault {
	if f.changed&bit != 0 {
		*to = string(from)
	} else if len(from) > 0 {
		return faultf(FaultRecord, "%s has bytes but is not marked as changed", name)
	}
	return nil
}

// distinct keeps a split from making two records of one id, of which one would
// be lost as a duplicate (I2).
func distinct(records []record.Record) *Fault {
	seen := make(map[string]struct{}, len(records))
	for i := range records {
		id := records[i].ID
		if _, twice := seen[id]; twice {
			return faultf(FaultRecord, "two of the records it made of one have the id %q", id)
		}
		seen[id] = struct{}{}
	}
	return nil
}
