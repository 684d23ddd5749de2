package expr

import "github.com/edged/edged/engine/record"

// node is one step of the compiled form.
type node interface {
	eval(ev *Evaluator) value
}

// constNode is a literal, or what was worked out at compile time.
type constNode struct{ v value }

func (n *constNode) eval(*Evaluator) value { return n.v }

// fieldNode is record.id, device_id, data_type or timestamp.
type fieldNode struct{ name string }

func (n *fieldNode) eval(ev *Evaluator) value {
	switch r := ev.record; n.name {
	case "id":
		return stringValue(nfc(r.ID))
	case "device_id":
		return stringValue(nfc(r.DeviceID))
	case "data_type":
		return stringValue(nfc(r.DataType))
	default:
		start := len(ev.buf)
		ev.buf = record.AppendTime(ev.buf, r.Timestamp)
		return stringValue(view(ev.buf[start:]))
	}
}

// pathNode is a traversal into the payload or the input.
type pathNode struct {
	key   int // index into Program.keys of the first member; -1: there is none
	first *stepErrors
	steps []step // the steps after the first member
}

// step is one step of a traversal: into an object by name, into an array by
// index.
type step struct {
	name  [1]string // one key for scanMembers
	index int       // -1: the step names no element
	*stepErrors
}

// stepErrors are the ways in which one step can fail, made at compile time so
// that a failing record costs no memory.
type stepErrors struct{ missing, null, scalar *Error }

// data is what the traversals walk on.
func (ev *Evaluator) scan() {
	ev.scanned = true
	ev.start = space(ev.data, 0)
	if ev.start < len(ev.data) && ev.data[ev.start] == '{' {
		scanMembers(ev.data, ev.start, ev.prog.keys, ev.spans)
	} else {
		clear(ev.spans)
	}
}

func (n *pathNode) eval(ev *Evaluator) value {
	if !ev.scanned {
		ev.scan()
	}
	at := span{start: ev.start, end: len(ev.data)}
	if n.key >= 0 {
		at = ev.spans[n.key]
		if at.end == 0 {
			return n.first.on(ev, ev.data[ev.start:])
		}
	}
	if len(n.steps) > 0 {
		return n.walk(ev, at)
	}
	if n.key < 0 {
		at.end = valueEnd(ev.data, at.start)
	}
	return ev.read(ev.data[at.start:at.end], at.plain)
}

// walk follows the steps after the first member.
func (n *pathNode) walk(ev *Evaluator, at span) value {
	raw := ev.data[at.start:at.end]
	isPlain := at.plain
	for i := range n.steps {
		s := &n.steps[i]
		var found span
		switch {
		case len(raw) > 0 && raw[0] == '{':
			scanMembers(raw, 0, s.name[:], ev.one[:])
			found = ev.one[0]
		case len(raw) > 0 && raw[0] == '[' && s.index >= 0:
			found, _ = element(raw, s.index)
		}
		if found.end == 0 {
			return s.on(ev, raw)
		}
		raw, isPlain = raw[found.start:found.end], found.plain
	}
	return ev.read(raw, isPlain)
}

// on is the failure of a step on a value.
func (e *stepErrors) on(ev *Evaluator, raw []byte) value {
	switch {
	case len(raw) > 0 && raw[0] == 'n':
		return ev.fail(kindErr, e.null)
	case len(raw) > 0 && (raw[0] == '{' || raw[0] == '['):
		return ev.fail(kindErr, e.missing)
	}
	return ev.fail(kindErr, e.scalar)
}

// logicNode is && and ||. HCL evaluates both sides and lets the side that
// decides alone hide the other's failure.
type logicNode struct {
	left, right node
	decides     bool // the value that decides alone: false for &&
	total       bool // right always gives a truth value or fails as one
	err         *Error
}

func (n *logicNode) eval(ev *Evaluator) value {
	l := n.left.eval(ev)
	if n.total && l.kind == kindBool && l.isTrue() == n.decides {
		return l
	}
	err := ev.err
	r := n.right.eval(ev)
	if l.kind == kindBool && r.kind == kindBool {
		if l.isTrue() == n.decides {
			return l
		}
		return r
	}
	return n.slow(ev, l, r, err)
}

// slow is for sides that are not both truth values. err is the left one's.
func (n *logicNode) slow(ev *Evaluator, l, r value, err *Error) value {
	l, r = n.operand(ev, l), n.operand(ev, r)
	if l.kind == kindErrBool && err != nil {
		ev.err = err
	}
	switch {
	case l.kind == kindBail || r.kind == kindBail:
		return value{}
	case l.kind == kindErrNum || r.kind == kindErrNum: // no truth value at all
		return value{kind: kindErrBool}
	case l.kind == kindBool && l.isTrue() == n.decides, r.kind == kindBool && r.isTrue() == n.decides:
		return boolValue(n.decides)
	case l.kind == kindErrBool || r.kind == kindErrBool:
		return value{kind: kindErrBool}
	}
	return boolValue(!n.decides)
}

// operand converts to kindBool, kindErrBool (unknown), kindErrNum (unsuitable)
// or kindBail.
func (n *logicNode) operand(ev *Evaluator, v value) value {
	switch v.kind {
	case kindErr, kindErrBool, kindErrStr:
		return value{kind: kindErrBool}
	case kindErrNum:
		return v
	case kindErrOdd, kindNull, kindNullTyped:
		return value{} // HCL has corners here
	}
	if v = toBool(v); v.kind == kindErr {
		return ev.fail(kindErrNum, n.err)
	}
	return v
}

// notNode is !.
type notNode struct {
	of  node
	err *Error
}

func (n *notNode) eval(ev *Evaluator) value {
	v := n.of.eval(ev)
	if v.kind.failed() {
		return value{kind: kindErrBool}
	}
	switch v = toBool(v); v.kind {
	case kindBail:
		return v
	case kindBool:
		return boolValue(!v.isTrue())
	}
	return ev.fail(kindErrBool, n.err)
}

// equalNode is == and !=.
type equalNode struct {
	left, right node
	not         bool
}

func (n *equalNode) eval(ev *Evaluator) value {
	l := n.left.eval(ev)
	r := n.right.eval(ev)
	switch {
	case l.kind == kindBail || r.kind == kindBail:
		return value{}
	case l.kind.failed() || r.kind.failed():
		return value{kind: kindErrBool}
	}
	v := equal(l, r)
	if v.kind == kindBool && n.not {
		return boolValue(!v.isTrue())
	}
	return v
}

// operation is an operator on two numbers.
type operation uint8

const (
	opLess operation = iota
	opLessEqual
	opGreater
	opGreaterEqual
	opAdd
	opSubtract
	opMultiply
	opDivide
	opModulo
)

func (op operation) compares() bool { return op <= opGreaterEqual }

// numberNode is an operator on two numbers.
type numberNode struct {
	left, right node
	op          operation
	err         *Error
}

func (n *numberNode) eval(ev *Evaluator) value {
	l := n.left.eval(ev)
	r := n.right.eval(ev)
	if l.kind == kindNum && r.kind == kindNum {
		return n.on(l.num, r.num)
	}
	failure := kindErrNum
	if n.op.compares() {
		failure = kindErrBool
	}
	switch {
	case l.kind == kindBail || r.kind == kindBail:
		return value{}
	case l.kind.failed() || r.kind.failed():
		return value{kind: failure}
	}
	l, r = toNumber(l), toNumber(r)
	switch {
	case l.kind == kindErr || r.kind == kindErr:
		return ev.fail(failure, n.err)
	case l.kind == kindBail || r.kind == kindBail:
		return value{}
	}
	return n.on(l.num, r.num)
}

func (n *numberNode) on(a, b number) value {
	if n.op.compares() {
		sign, ok := a.compare(b)
		if !ok {
			return value{}
		}
		return boolValue(n.op.holds(sign))
	}
	return numberValue(n.op.apply(a, b))
}

func (op operation) holds(sign int) bool {
	switch op {
	case opLess:
		return sign < 0
	case opLessEqual:
		return sign <= 0
	case opGreater:
		return sign > 0
	}
	return sign >= 0
}

func (op operation) apply(a, b number) (number, bool) {
	switch op {
	case opAdd:
		return a.add(b)
	case opSubtract:
		return a.add(b.negate())
	case opMultiply:
		return a.multiply(b)
	case opDivide:
		return a.divide(b)
	}
	return a.modulo(b)
}

// negateNode is the unary minus.
type negateNode struct {
	of  node
	err *Error
}

func (n *negateNode) eval(ev *Evaluator) value {
	v := n.of.eval(ev)
	if v.kind.failed() {
		return value{kind: kindErrNum}
	}
	switch v = toNumber(v); v.kind {
	case kindBail:
		return v
	case kindNum:
		return numberValue(v.num.negate(), true)
	}
	return ev.fail(kindErrNum, n.err)
}

// templateNode is a string with interpolations.
type templateNode struct {
	parts       []node
	null, wrong []*Error // by part
}

func (n *templateNode) eval(ev *Evaluator) value {
	base := len(ev.texts)
	result := kindStr
	for i, part := range n.parts {
		v := part.eval(ev)
		switch {
		case v.kind.null():
			ev.err = n.null[i]
			result = worse(result, kindErrOdd)
		case v.kind == kindErrOdd:
			result = worse(result, kindErrOdd)
		case v.kind.failed():
			result = worse(result, kindErrStr)
		default:
			if v = ev.toText(v); v.kind == kindErr {
				ev.err = n.wrong[i]
				v.kind = kindErrOdd
			}
			if v.kind == kindStr {
				ev.texts = append(ev.texts, v.text)
			} else {
				result = worse(result, v.kind)
			}
		}
	}
	start := len(ev.buf)
	for _, text := range ev.texts[base:] {
		ev.buf = append(ev.buf, text...)
	}
	ev.texts = ev.texts[:base]
	if result != kindStr {
		return value{kind: result}
	}
	return stringValue(nfc(view(ev.buf[start:])))
}

// worse orders the ends of a template: HCL's value is an unknown string as soon
// as one part is unknown.
func worse(a, b kind) kind {
	switch {
	case a == kindBail || b == kindBail:
		return kindBail
	case a == kindErrOdd || b == kindErrOdd:
		return kindErrOdd
	case a == kindErrStr || b == kindErrStr:
		return kindErrStr
	}
	return a
}
