package wasm

import "fmt"

// VerdictAction says how a conflict is settled.
type VerdictAction uint8

// The actions of a [Verdict].
const (
	// VerdictLocal: the local side wins, as it is.
	VerdictLocal VerdictAction = iota + 1
	// VerdictRemote: the remote side wins, as it is.
	VerdictRemote
	// VerdictMerged: both sides become Payload.
	VerdictMerged
	// VerdictDelete: both sides lose the value.
	VerdictDelete
	// VerdictManual: a person decides. Code says which side is served until
	// then: 0 the remote, 1 the local one.
	VerdictManual
	// VerdictError: the plugin refuses the conflict; the next resolver is asked.
	VerdictError
	// VerdictFaulted: the plugin failed on the conflict. Fault says how.
	VerdictFaulted
	// VerdictSkipped: the plugin rests after too many faults and was not given
	// the conflict; [Plugin.Rests] says how long.
	VerdictSkipped
)

var verdictNames = [...]string{
	VerdictLocal: "local", VerdictRemote: "remote", VerdictMerged: "merged", VerdictDelete: "delete",
	VerdictManual: "manual", VerdictError: "error", VerdictFaulted: "fault", VerdictSkipped: "skipped",
}

// String returns the action's name.
func (a VerdictAction) String() string {
	if int(a) < len(verdictNames) && verdictNames[a] != "" {
		return verdictNames[a]
	}
	return fmt.Sprintf("verdict(%d)", uint8(a))
}

// Verdict is how one conflict is settled.
type Verdict struct {
	Action VerdictAction
	// Code is 0 or 1 for VerdictManual, the plugin's own number for
	// VerdictError, and else 0.
	Code uint16
	// Payload is the JSON value of VerdictMerged.
	Payload []byte
	// Reason is for people, for VerdictManual and all that follow it.
	// For a fault it names the plugin and its sha256.
	Reason string
	// Fault is set when Action is VerdictFaulted.
	Fault *Fault
}

// ResolveOutput receives the verdicts of [Plugin.Resolve]. It may be used again
// and then keeps its buffers; verdicts and their bytes are valid until then. It
// serves one goroutine.
type ResolveOutput struct {
	// Verdicts holds one for every conflict of the input, in its order.
	Verdicts []Verdict

	in     []Conflict
	bodies bool // whether the plugin is given them
	copies outboxes
}

func (o *ResolveOutput) reset(in []Conflict, bodies bool) {
	clear(o.Verdicts)
	o.in, o.bodies, o.Verdicts = in, bodies, o.Verdicts[:0]
	o.copies.reset()
	if cap(o.Verdicts) < len(in) {
		o.Verdicts = make([]Verdict, 0, len(in))
	}
}

// decode reads a copied outbox that answers n conflicts and appends a verdict
// for each. A fault means that the outbox as a whole cannot be believed; then
// nothing was appended.
func (o *ResolveOutput) decode(n int, data []byte, limits *Limits) *Fault {
	first := len(o.Verdicts)
	fault := o.decodeAll(n, data, limits)
	if fault != nil {
		clear(o.Verdicts[first:])
		o.Verdicts = o.Verdicts[:first]
	}
	return fault
}

func (o *ResolveOutput) decodeAll(n int, data []byte, limits *Limits) *Fault {
	for i := range n {
		if len(data) == 0 {
			return faultf(FaultFrame, "conflict %d has no verdict", i)
		}
		f, rest, fault := nextVerdict(data)
		if fault != nil {
			return fault
		}
		if f.src != uint32(i) {
			return faultf(FaultFrame, "a verdict is for conflict %d of %d, where conflict %d is next", f.src, n, i)
		}
		v, fault := f.verdict(limits)
		if fault != nil {
			return fault
		}
		o.Verdicts = append(o.Verdicts, v)
		data = rest
	}
	if len(data) > 0 {
		return faultf(FaultFrame, "%d bytes follow the last verdict", len(data))
	}
	return nil
}
