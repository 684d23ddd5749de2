package expr

import (
	"strings"

	"github.com/edged/edged/engine/record"
)

// kind says what a value is. An error is a value too: HCL goes on evaluating
// with an unknown value in its place, of a type that matters to && and ||.
type kind uint8

const (
	kindBail    kind = iota // HCL must be asked
	kindErr                 // failed; HCL has an unknown of unknown type
	kindErrBool             // failed; HCL has an unknown truth value
	kindErrNum
	kindErrStr
	kindErrOdd // failed; HCL has something else
	kindNull
	kindNullTyped // a null that a conversion gave a type
	kindBool      // num.coef is 1 or 0
	kindNum
	kindStr // text, in normal form C
	kindRaw // text is the JSON of an object or array
)

// value is the result of one step. It is small enough to travel in registers.
type value struct {
	kind kind
	num  number
	text string
}

func (k kind) failed() bool { return k >= kindErr && k <= kindErrOdd }

// String names the kind of a value as a message does.
func (k kind) String() string {
	switch k {
	case kindNull, kindNullTyped:
		return "null"
	case kindBool:
		return Bool.String()
	case kindNum:
		return Number.String()
	case kindStr:
		return String.String()
	}
	return "an object or a list"
}

func (k kind) null() bool { return k == kindNull || k == kindNullTyped }

func boolValue(b bool) value {
	v := value{kind: kindBool}
	if b {
		v.num.coef = 1
	}
	return v
}

func (v value) isTrue() bool { return v.num.coef != 0 }

func stringValue(s string) value { return value{kind: kindStr, text: s} }

func numberValue(n number, ok bool) value {
	if !ok {
		return value{}
	}
	return value{kind: kindNum, num: n}
}

// fail is how a step fails: HCL's unknown is of kind k, and err tells the user.
func (ev *Evaluator) fail(k kind, err *Error) value {
	ev.err = err
	return value{kind: k}
}

// toNumber converts as HCL does: strings may hold a number. The kind of the
// result is kindNum, kindBail, or kindErr when there is no number.
func toNumber(v value) value {
	switch v.kind {
	case kindNum, kindBail:
		return v
	case kindStr:
		// What does not read as a number may still be one to HCL: "+5", "inf".
		return numberValue(parseNumber(v.text))
	}
	return value{kind: kindErr}
}

// toBool converts as HCL does. The result is kindBool, kindErr or kindBail.
func toBool(v value) value {
	switch v.kind {
	case kindBool, kindBail:
		return v
	case kindStr:
		switch v.text {
		case "true", "1":
			return boolValue(true)
		case "false", "0":
			return boolValue(false)
		}
	}
	return value{kind: kindErr}
}

// toText converts as HCL does. The result is kindStr, kindErr or kindBail.
func (ev *Evaluator) toText(v value) value {
	switch v.kind {
	case kindStr, kindBail:
		return v
	case kindBool:
		if v.isTrue() {
			return stringValue("true")
		}
		return stringValue("false")
	case kindNum:
		if !v.num.exact() {
			return value{} // HCL writes all 154 digits
		}
		start := len(ev.buf)
		var ok bool
		if ev.buf, ok = v.num.appendText(ev.buf); !ok {
			return value{}
		}
		return stringValue(view(ev.buf[start:]))
	}
	return value{kind: kindErr}
}

// equal compares as == does. The result is kindBool or kindBail.
func equal(a, b value) value {
	switch {
	case a.kind == kindBail || b.kind == kindBail:
		return value{}
	case a.kind.null() || b.kind.null():
		return boolValue(a.kind.null() && b.kind.null())
	case a.kind == kindRaw && b.kind == kindRaw:
		return value{}
	case a.kind != b.kind:
		return boolValue(false)
	case a.kind == kindStr:
		return boolValue(a.text == b.text)
	case a.kind == kindBool:
		return boolValue(a.num.coef == b.num.coef)
	}
	sign, ok := a.num.compare(b.num)
	if !ok {
		return value{}
	}
	return boolValue(sign == 0)
}

// read returns the value that the JSON stands for.
func (ev *Evaluator) read(raw []byte, isPlain bool) value {
	if len(raw) == 0 || raw[0] == '"' && len(raw) < 2 {
		return value{}
	}
	switch raw[0] {
	case '"':
		if isPlain {
			return stringValue(view(raw[1 : len(raw)-1]))
		}
		return stringValue(ev.unquote(raw))
	case '{', '[':
		return value{kind: kindRaw, text: view(raw)}
	case 't':
		return boolValue(true)
	case 'f':
		return boolValue(false)
	case 'n':
		return value{kind: kindNull}
	}
	return numberValue(parseNumber(view(raw)))
}

// unquote is [unquote] and normal form C, with the evaluator's memory.
func (ev *Evaluator) unquote(quoted []byte) string {
	inner := view(quoted[1 : len(quoted)-1])
	if i := strings.IndexByte(inner, '\\'); i >= 0 {
		start := len(ev.buf)
		ev.buf = append(ev.buf, inner[:i]...)
		ev.buf = appendUnescaped(ev.buf, quoted[1+i:len(quoted)-1])
		inner = view(ev.buf[start:])
	}
	return nfc(inner)
}

// appendJSON appends the value. The second result is kindBail or a failure's
// kind if that cannot be done, else the value's kind.
func (ev *Evaluator) appendJSON(dst []byte, v value) ([]byte, kind) {
	switch v.kind {
	case kindNull, kindNullTyped:
		return append(dst, "null"...), v.kind
	case kindBool:
		if v.isTrue() {
			return append(dst, "true"...), v.kind
		}
		return append(dst, "false"...), v.kind
	case kindNum:
		dst, ok := v.num.appendText(dst)
		if !ok {
			return dst, kindBail
		}
		return dst, v.kind
	case kindStr:
		return record.AppendString(dst, v.text), v.kind
	case kindRaw:
		dst, _, ok := ev.appendRaw(dst, viewBytes(v.text), 0, 0)
		if !ok {
			return dst, kindBail
		}
		return dst, v.kind
	}
	return dst, v.kind
}
