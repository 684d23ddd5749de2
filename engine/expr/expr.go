// Package expr compiles one HCL expression into an evaluator that works on a
// record's bytes, without building a cty value per record. What the compiler
// does not cover is evaluated by HCL itself, with the same result.
//
// # Two ways, one result
//
// A [Program] holds the expression itself and, where the compiler covers it, a
// compiled form. The compiled form reads the payload's JSON in place. It may at
// any moment say that it cannot promise HCL's result (a number of too many
// digits, a null where HCL has a corner); then HCL evaluates that record. HCL
// is always the truth; FuzzCompiledAgreesWithHCL holds the two together.
//
// What surprises in HCL holds here too: a missing attribute is an error, for try
// and can; both sides of && and || are evaluated, and a side that decides alone
// hides the failure of the other, on either hand; values of different types are
// never equal, but "5" < 10 reads the string as a number; strings are compared
// in Unicode normal form C.
//
// # What differs from HCL's own habits
//
//   - Of a JSON member that stands twice the last wins.
//   - A result is written as compact JSON with object members sorted by name,
//     without HTML escapes. Numbers are written as plain decimals: whole numbers
//     in full, others with at most 34 significant digits. So 0.1 + 0.2 is 0.3,
//     and a number taken from a record keeps its digits; 1.50 becomes 1.5, 1e3
//     becomes 1000.
//   - A number from JSON beyond 1e4096 counts as infinite, below 1e-4096 as zero.
//   - A constant part that fails is refused by [Compile], though HCL might never
//     come to look at it. Inside try and can it is not.
//   - now() is the same for one whole evaluation. How often an evaluation asks
//     for random numbers is not defined.
package expr

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/edged/edged/engine/record"
)

// Root names the one variable an expression may refer to.
type Root string

// The roots. None is a constant expression: only functions and literals.
const (
	None   Root = ""
	Record Root = "record"
	Input  Root = "input"
)

// Value is what one evaluation works on. For the root [Record], Record is set;
// for [Input], JSON holds the input as one valid JSON value.
type Value struct {
	Record *record.Record
	JSON   []byte
}

// Host gives expressions what they may know of the world. Nil members use the
// real clock, math/rand/v2, os.Hostname and os.LookupEnv; without Config no key
// is set. All are called from many goroutines, and often.
type Host struct {
	Now       func() time.Time
	Float64   func() float64
	Hostname  func() (string, error)
	LookupEnv func(string) (string, bool)
	Config    func(key string) (string, bool) // the device configuration
}

// Program is a compiled expression. It is immutable and may be shared.
type Program struct {
	expr hcl.Expression
	root Root
	typ  Type

	// The compiled form. Either may be nil: then HCL is asked.
	node node
	out  output
	keys []string // the members that node and out look up first

	// What HCL is given when it is asked.
	wanted  wanted
	numbers bool // HCL may read strings as numbers
}

// Error says why an evaluation failed, and where in the expression.
type Error struct {
	Range  hcl.Range
	Detail string
}

// Error returns the place and the detail.
func (e *Error) Error() string { return e.Range.String() + ": " + e.Detail }

// Compile checks and compiles e, which may refer to root only. All that is
// wrong is reported at once; the program is nil if there are errors. An
// expression without variables, now, uniform, env, config and hostname is evaluated
// here, once.
func Compile(e hcl.Expression, root Root) (*Program, hcl.Diagnostics) {
	p := &Program{expr: e, root: root}
	c := checker{root: root}
	p.typ = c.check(e)
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	p.wanted, p.numbers = wantedBy(e), readsNumbers(e)
	if node, ok := e.(hclsyntax.Expression); ok {
		comp := compiler{root: root}
		p.node, p.out = comp.compile(node), comp.compileOutput(node)
		p.keys = comp.keys
	}
	return p, c.diags
}

// Bool evaluates to a truth value. As everywhere in HCL the strings "true" and
// "false" stand for one; a null does not.
func (p *Program) Bool(ev *Evaluator, v Value) (bool, error) {
	ev.begin(p, v)
	if p.node != nil {
		got := p.node.eval(ev)
		if got.kind.failed() {
			return false, ev.err
		}
		switch b := toBool(got); b.kind {
		case kindBool:
			return b.isTrue(), nil
		case kindErr:
			return false, newError(p.Range(), "the result is %s, but true or false is required", got.kind)
		}
	}
	val, err := p.evalHCL(ev, v)
	if err != nil {
		return false, err
	}
	b, err := convert.Convert(val, cty.Bool)
	if err != nil || b.IsNull() {
		return false, p.mismatch(val, "true or false is required")
	}
	return b.True(), nil
}

// Text evaluates to a string; numbers and truth values become text. The string
// is the caller's.
func (p *Program) Text(ev *Evaluator, v Value) (string, error) {
	ev.begin(p, v)
	if p.node != nil {
		got := p.node.eval(ev)
		switch {
		case got.kind.failed():
			return "", ev.err
		case got.kind == kindStr:
			return strings.Clone(got.text), nil
		case got.kind == kindBool || got.kind == kindNum:
			if text, k := ev.appendJSON(nil, got); k == got.kind {
				return string(text), nil
			}
		case got.kind != kindBail:
			return "", newError(p.Range(), "the result is %s, but a string is required", got.kind)
		}
	}
	val, err := p.evalHCL(ev, v)
	if err != nil {
		return "", err
	}
	return p.text(val)
}

func (p *Program) text(val cty.Value) (string, error) {
	if val.Type() == cty.Number && !val.IsNull() {
		text, err := numberText(val.AsBigFloat())
		if err != nil {
			return "", newError(p.Range(), "%v", err)
		}
		return text, nil
	}
	s, err := convert.Convert(val, cty.String)
	if err != nil || s.IsNull() {
		return "", p.mismatch(val, "a string is required")
	}
	return s.AsString(), nil
}

// Time evaluates to a time: a string in RFC 3339.
func (p *Program) Time(ev *Evaluator, v Value) (time.Time, error) {
	text, err := p.Text(ev, v)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, &Error{Range: p.Range(), Detail: fmt.Sprintf("%q is not an RFC 3339 time like 2026-11-22T06:15:00.123Z; fromunix(seconds) makes one from a number", text)}
	}
	return t.UTC(), nil
}

// AppendJSON appends the result as JSON to dst. After an error dst is returned
// as it was.
func (p *Program) AppendJSON(ev *Evaluator, dst []byte, v Value) ([]byte, error) {
	ev.begin(p, v)
	if p.out != nil {
		out, k := p.out.write(ev, dst)
		switch {
		case k.failed():
			return dst, ev.err
		case k != kindBail:
			return out, nil
		}
	}
	val, err := p.evalHCL(ev, v)
	if err != nil {
		return dst, err
	}
	out, err := appendValue(dst, val)
	if err != nil {
		return dst, newError(p.Range(), "%v", err)
	}
	return out, nil
}

func (p *Program) mismatch(val cty.Value, want string) error {
	got := "null"
	if !val.IsNull() {
		got = val.Type().FriendlyName()
	}
	return &Error{Range: p.Range(), Detail: "the result is " + got + ", but " + want}
}

// Range is where the expression stands in its file.
func (p *Program) Range() hcl.Range { return p.expr.Range() }

// Type is what is known of the result before there is a record; [Any] if
// nothing is.
func (p *Program) Type() Type { return p.typ }

// Require reports, as diagnostics, that the result can never be of the wanted
// type, nor be converted to it. what names the argument in the message: "when".
// No diagnostics is no promise: what a record holds is known at run time only.
func (p *Program) Require(want Type, what string) hcl.Diagnostics {
	got := p.typ.String()
	if p.typ.fits(want) {
		c, isConst := p.node.(*constNode)
		if !isConst || p.typ == want || want == Any || want == String || convertible(c.v, want) {
			return nil
		}
		got = fmt.Sprintf("the string %q", c.v.text)
	}
	return hcl.Diagnostics{{
		Severity: hcl.DiagError,
		Summary:  "Unsuitable value type",
		Detail:   fmt.Sprintf("%s must be %s, but this expression gives %s.", what, want, got),
		Subject:  p.Range().Ptr(),
	}}
}

// Compiled reports whether the program has a compiled form. If not, HCL
// evaluates it for every record, some fifty times slower.
func (p *Program) Compiled() bool { return p.out != nil }

// Evaluator holds the scratch memory of evaluations. One goroutine at a time.
type Evaluator struct {
	world world
	now   time.Time        // of the evaluation under way; zero: not asked yet
	ctx   *hcl.EvalContext // nil until HCL is needed

	// The evaluation under way.
	prog    *Program
	record  *record.Record
	data    []byte // the payload or the input
	start   int    // where the value in data begins
	scanned bool   // start and spans are set
	err     *Error // the last failure

	spans   []span // by Program.keys
	one     [1]span
	buf     []byte // texts made on the way
	texts   []string
	members []member
}

// NewEvaluator returns an evaluator that asks host. The host name is asked for
// once.
func NewEvaluator(host Host) *Evaluator {
	w := host.world()
	w.hostname = sync.OnceValues(w.hostname)
	return &Evaluator{world: w}
}

// begin starts one evaluation.
func (ev *Evaluator) begin(p *Program, v Value) {
	ev.prog, ev.record, ev.data = p, v.Record, v.JSON
	if p.root == Record {
		if v.Record == nil {
			v.Record = &record.Record{}
		}
		ev.record, ev.data = v.Record, v.Record.Payload
	}
	ev.now, ev.scanned, ev.err = time.Time{}, false, nil
	ev.buf, ev.texts, ev.members = ev.buf[:0], ev.texts[:0], ev.members[:0]
	if n := len(p.keys); cap(ev.spans) < n {
		ev.spans = make([]span, n)
	} else {
		ev.spans = ev.spans[:n]
	}
}

// clock is the time of this evaluation.
func (ev *Evaluator) clock() time.Time {
	if ev.now.IsZero() {
		ev.now = ev.world.now()
	}
	return ev.now
}

// hclContext is made when HCL is first needed: most evaluators never do.
func (ev *Evaluator) hclContext() *hcl.EvalContext {
	if ev.ctx == nil {
		w := ev.world
		w.now = ev.clock
		ev.ctx = &hcl.EvalContext{Functions: functionsFor(w)}
	}
	return ev.ctx
}

// EvalContext returns the functions for evaluating constant expressions with
// HCL itself. In them config is an error.
func EvalContext(host Host) *hcl.EvalContext {
	w := host.world()
	w.fixed = true
	return &hcl.EvalContext{Functions: functionsFor(w)}
}
