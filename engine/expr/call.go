package expr

import (
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/edged/edged/engine/record"
)

// callNode is a call of a function that takes values and may fail on them.
type callNode struct {
	args []node
	call func(ev *Evaluator, n *callNode) value
	err  *Error // an argument is null or of the wrong type
	// digits is the failure of round on its second argument.
	digits  *Error
	boolean bool // the result is a truth value
}

func (n *callNode) eval(ev *Evaluator) value { return n.call(ev, n) }

// compiledCalls are the functions of the compiled form. The others are left to
// HCL.
var compiledCalls = map[string]func(ev *Evaluator, n *callNode) value{
	"abs":        callAbs,
	"ceil":       callCeil,
	"coalesce":   callCoalesce,
	"config":     callConfig,
	"contains":   callContains,
	"endswith":   func(ev *Evaluator, n *callNode) value { return n.textTest(ev, strings.HasSuffix) },
	"env":        callEnv,
	"floor":      callFloor,
	"fromunix":   callFromUnix,
	"hostname":   callHostname,
	"lower":      func(ev *Evaluator, n *callNode) value { return n.textMap(ev, lowerASCII, strings.ToLower) },
	"max":        func(ev *Evaluator, n *callNode) value { return n.extreme(ev, 1) },
	"min":        func(ev *Evaluator, n *callNode) value { return n.extreme(ev, -1) },
	"now":        callNow,
	"round":      callRound,
	"startswith": func(ev *Evaluator, n *callNode) value { return n.textTest(ev, strings.HasPrefix) },
	"tonumber":   callToNumber,
	"tostring":   callToString,
	"trimspace":  callTrimSpace,
	"uniform":    callUniform,
	"upper":      func(ev *Evaluator, n *callNode) value { return n.textMap(ev, upperASCII, strings.ToUpper) },
}

// A failed call is an unknown of unknown type, whatever failed.

// number evaluates an argument that must be a number.
func (n *callNode) number(ev *Evaluator, i int) value {
	v := n.args[i].eval(ev)
	if v.kind.failed() {
		return value{kind: kindErr}
	}
	if v = toNumber(v); v.kind == kindErr {
		return ev.fail(kindErr, n.err)
	}
	return v
}

// textArg evaluates an argument that must be a string.
func (n *callNode) textArg(ev *Evaluator, i int) value {
	v := n.args[i].eval(ev)
	switch {
	case v.kind == kindStr:
		return v
	case v.kind.failed():
		return value{kind: kindErr}
	}
	if v = ev.toText(v); v.kind == kindErr {
		return ev.fail(kindErr, n.err)
	}
	return v
}

// either returns what keeps a call of two arguments from being made: asking
// HCL before failing.
func either(a, b value) (value, bool) {
	switch {
	case a.kind == kindBail || b.kind == kindBail:
		return value{}, true
	case a.kind.failed() || b.kind.failed():
		return value{kind: kindErr}, true
	}
	return value{}, false
}

func (n *callNode) textTest(ev *Evaluator, test func(s, t string) bool) value {
	a, b := n.textArg(ev, 0), n.textArg(ev, 1)
	if a.kind == kindStr && b.kind == kindStr {
		return boolValue(test(a.text, b.text))
	}
	v, _ := either(a, b)
	return v
}

func (n *callNode) textMap(ev *Evaluator, ascii func(byte) byte, full func(string) string) value {
	v := n.textArg(ev, 0)
	if v.kind != kindStr {
		return v
	}
	start := len(ev.buf)
	for i := 0; i < len(v.text); i++ {
		c := v.text[i]
		if c >= 0x80 {
			return stringValue(nfc(full(v.text)))
		}
		ev.buf = append(ev.buf, ascii(c))
	}
	return stringValue(view(ev.buf[start:]))
}

func lowerASCII(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func upperASCII(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

func callTrimSpace(ev *Evaluator, n *callNode) value {
	v := n.textArg(ev, 0)
	if v.kind == kindStr {
		// What follows a space may begin with a combining mark.
		v.text = nfc(strings.TrimSpace(v.text))
	}
	return v
}

func callAbs(ev *Evaluator, n *callNode) value {
	v := n.number(ev, 0)
	if v.kind == kindNum {
		v.num = v.num.abs()
	}
	return v
}

func callFloor(ev *Evaluator, n *callNode) value { return n.whole(ev, -1) }

func callCeil(ev *Evaluator, n *callNode) value { return n.whole(ev, 1) }

// whole rounds down or up.
func (n *callNode) whole(ev *Evaluator, direction int64) value {
	v := n.number(ev, 0)
	if v.kind != kindNum {
		return v
	}
	return numberValue(v.num.whole(direction))
}

func (n *callNode) extreme(ev *Evaluator, want int) value {
	var best value
	bail, failed := false, false
	for i := range n.args {
		v := n.number(ev, i)
		switch {
		case v.kind == kindBail:
			bail = true
		case v.kind.failed():
			failed = true
		case best.kind == kindBail:
			best = v
		default:
			sign, ok := v.num.compare(best.num)
			bail = bail || !ok
			if sign == want {
				best = v
			}
		}
	}
	switch {
	case bail:
		return value{}
	case failed:
		return value{kind: kindErr}
	}
	return best
}

func callRound(ev *Evaluator, n *callNode) value {
	v, places := n.number(ev, 0), 0
	if len(n.args) == 2 {
		d := n.number(ev, 1)
		if out, stop := either(v, d); stop {
			return out
		}
		switch {
		case !d.num.dyadic():
			return value{}
		case d.num.scale != 0 || d.num.coef < 0 || d.num.coef > maxRoundDigits:
			if d.num.scale != 0 {
				return value{} // 2.0 is whole too
			}
			return ev.fail(kindErr, n.digits)
		}
		places = int(d.num.coef)
	}
	if v.kind != kindNum {
		return v
	}
	return numberValue(v.num.round(places))
}

func callFromUnix(ev *Evaluator, n *callNode) value {
	v := n.number(ev, 0)
	if v.kind != kindNum {
		return v
	}
	nanos, ok := v.num.multiply(number{coef: int64(time.Second)})
	if ok {
		nanos, ok = nanos.round(0)
	}
	if !ok {
		return value{} // beyond the years that 64 bits of nanoseconds hold
	}
	start := len(ev.buf)
	ev.buf = record.AppendTime(ev.buf, time.Unix(0, nanos.coef))
	return stringValue(view(ev.buf[start:]))
}

func callToNumber(ev *Evaluator, n *callNode) value {
	v := n.args[0].eval(ev)
	if v.kind == kindNull {
		return value{kind: kindNullTyped}
	}
	if v.kind == kindNullTyped {
		return value{}
	}
	if v.kind.failed() {
		return value{kind: kindErr}
	}
	if v = toNumber(v); v.kind == kindErr {
		return ev.fail(kindErr, n.err)
	}
	return v
}

func callToString(ev *Evaluator, n *callNode) value {
	v := n.args[0].eval(ev)
	if v.kind.null() {
		return value{kind: kindNullTyped}
	}
	if v.kind.failed() {
		return value{kind: kindErr}
	}
	if v = ev.toText(v); v.kind == kindErr {
		return ev.fail(kindErr, n.err)
	}
	return v
}

// callCoalesce answers when all arguments are of one simple type; else HCL
// looks for a common one.
func callCoalesce(ev *Evaluator, n *callNode) value {
	first := value{kind: kindNull}
	bail, failed := false, false
	for _, arg := range n.args {
		v := arg.eval(ev)
		switch {
		case v.kind.failed():
			failed = true
		case v.kind == kindNull:
		case v.kind != kindBool && v.kind != kindNum && v.kind != kindStr:
			bail = true
		case first.kind == kindNull:
			first = v
		case v.kind != first.kind:
			bail = true
		}
	}
	switch {
	case failed:
		return value{kind: kindErr}
	case bail:
		return value{}
	case first.kind == kindNull:
		return ev.fail(kindErr, n.err)
	}
	return first
}

// containsConstNode is contains with a list of literals.
type containsConstNode struct {
	list   []value
	needle node
}

func (n *containsConstNode) eval(ev *Evaluator) value {
	v := n.needle.eval(ev)
	if v.kind.failed() {
		return value{kind: kindErr}
	}
	bail := v.kind == kindBail || v.kind == kindRaw || v.kind == kindNullTyped
	for i := range n.list {
		if bail {
			return value{}
		}
		switch eq := equal(n.list[i], v); {
		case eq.kind == kindBail:
			bail = true
		case eq.isTrue():
			return eq
		}
	}
	if bail {
		return value{}
	}
	return boolValue(false)
}

func callContains(ev *Evaluator, n *callNode) value {
	in, v := n.args[0].eval(ev), n.args[1].eval(ev)
	switch stop, stopped := either(in, v); {
	case stopped:
		return stop
	case v.kind == kindRaw || v.kind == kindNullTyped || in.kind == kindNullTyped:
		return value{}
	case in.kind == kindStr && v.kind == kindStr:
		return boolValue(strings.Contains(in.text, v.text))
	case in.kind != kindRaw || in.text[0] != '[':
		return ev.fail(kindErr, n.err)
	}
	data := viewBytes(in.text)
	for i := space(data, 1); i < len(data) && data[i] != ']'; {
		end, isPlain := 0, false
		if data[i] == '"' {
			end, isPlain = stringEnd(data, i)
		} else {
			end = valueEnd(data, i)
		}
		switch eq := equal(ev.read(data[i:end], isPlain), v); {
		case eq.kind == kindBail:
			return value{}
		case eq.isTrue():
			return eq
		}
		if i = space(data, end); i < len(data) && data[i] == ',' {
			i = space(data, i+1)
		}
	}
	return boolValue(false)
}

func callNow(ev *Evaluator, _ *callNode) value {
	start := len(ev.buf)
	ev.buf = record.AppendTime(ev.buf, ev.clock())
	return stringValue(view(ev.buf[start:]))
}

func callUniform(ev *Evaluator, n *callNode) value {
	a, b := n.number(ev, 0), n.number(ev, 1)
	if v, stop := either(a, b); stop {
		return v
	}
	// The nearest float64 of a decimal with few digits is a single division
	// away; of others HCL knows it.
	if !a.num.small() || !b.num.small() {
		return value{}
	}
	low, _ := a.num.approximate()
	high, _ := b.num.approximate()
	start := len(ev.buf)
	ev.buf = appendUniform(ev.buf, low, high, ev.world.float64())
	return numberValue(parseNumber(view(ev.buf[start:])))
}

func callHostname(ev *Evaluator, n *callNode) value {
	name, err := ev.world.hostname()
	if err != nil {
		return ev.fail(kindErr, newError(n.err.Range, "asking for the host name: %v", err))
	}
	return stringValue(nfc(name))
}

func callEnv(ev *Evaluator, n *callNode) value {
	name, fallback := n.textArg(ev, 0), value{kind: kindNull}
	if len(n.args) > 1 {
		fallback = n.textArg(ev, 1)
	}
	if v, stop := either(name, fallback); stop {
		return v
	}
	if text, ok := ev.world.lookupEnv(name.text); ok {
		return stringValue(nfc(text))
	}
	if fallback.kind == kindNull {
		return ev.fail(kindErr, newError(n.err.Range, "the environment variable %s is not set", name.text))
	}
	return fallback
}

// tryNode is try.
type tryNode struct{ args []node }

func (n *tryNode) eval(ev *Evaluator) value {
	for _, arg := range n.args {
		if v := arg.eval(ev); !v.kind.failed() {
			return v
		}
	}
	return value{kind: kindErr} // with the last one's error
}

// canNode is can.
type canNode struct{ of node }

func (n *canNode) eval(ev *Evaluator) value {
	v := n.of.eval(ev)
	if v.kind == kindBail {
		return v
	}
	return boolValue(!v.kind.failed())
}

// call returns nil for what is left to HCL.
func (c *compiler) call(e *hclsyntax.FunctionCallExpr) node {
	if e.ExpandFinal {
		return nil
	}
	if e.Name == "contains" {
		if list, ok := c.constList(e.Args[0]); ok {
			needle := c.compile(e.Args[1])
			if needle == nil {
				return nil
			}
			return &containsConstNode{list, needle}
		}
	}
	args := make([]node, len(e.Args))
	for i, arg := range e.Args {
		if args[i] = c.compile(arg); args[i] == nil {
			return nil
		}
	}
	switch e.Name {
	case "try":
		return &tryNode{args}
	case "can":
		return &canNode{args[0]}
	}
	call := compiledCalls[e.Name]
	if call == nil {
		return nil
	}
	f := functionsByName[e.Name]
	return &callNode{
		args:    args,
		call:    call,
		boolean: f.result == Bool,
		err:     newError(e.Range(), "an argument of %s is null or of the wrong type", f.Usage),
		digits:  newError(e.Range(), "round takes a whole number of digits from 0 to %d", maxRoundDigits),
	}
}
