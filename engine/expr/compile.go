package expr

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"sort"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"golang.org/x/text/unicode/norm"

	"github.com/edged/edged/engine/record"
)

// compiler turns an expression into nodes.
type compiler struct {
	root Root
	keys []string // first members of all traversals, each once
}

func newError(at hcl.Range, format string, args ...any) *Error {
	return &Error{Range: at, Detail: fmt.Sprintf(format, args...)}
}

// isConst reports whether e always gives the same: it has no variable and calls
// no impure function.
func isConst(e hclsyntax.Expression) bool {
	if len(e.Variables()) > 0 {
		return false
	}
	pure := true
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.FunctionCallExpr:
			f := functionsByName[n.Name]
			pure = pure && f != nil && !f.impure
		case *hclsyntax.AnonSymbolExpr:
			pure = false // means something inside its splat only
		}
		return nil
	})
	return pure
}

// pureContext holds the functions for constant expressions.
var pureContext = EvalContext(Host{})

// compile returns nil for what is left to HCL.
func (c *compiler) compile(e hclsyntax.Expression) node {
	if isConst(e) {
		v, err := evaluate(e, pureContext)
		if err != nil {
			return nil // inside try or can; or else reported already
		}
		if k, ok := constValue(v); ok {
			return &constNode{k}
		}
		return nil
	}
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.compile(e.Expression)
	case *hclsyntax.TemplateWrapExpr:
		return c.compile(e.Wrapped)
	case *hclsyntax.ScopeTraversalExpr:
		return c.traversal(e)
	case *hclsyntax.UnaryOpExpr:
		return c.unary(e)
	case *hclsyntax.BinaryOpExpr:
		return c.binary(e)
	case *hclsyntax.ConditionalExpr:
		return c.condition(e)
	case *hclsyntax.TemplateExpr:
		return c.template(e)
	case *hclsyntax.FunctionCallExpr:
		return c.call(e)
	}
	return nil
}

// constValue turns a simple constant into a value.
func constValue(v cty.Value) (value, bool) {
	switch {
	case v.IsNull():
		return value{kind: kindNull}, v.Type() == cty.DynamicPseudoType
	case v.Type() == cty.Bool:
		return boolValue(v.True()), true
	case v.Type() == cty.String:
		return stringValue(v.AsString()), true
	case v.Type() == cty.Number:
		n, ok := parseNumber(v.AsBigFloat().Text('f', -1))
		if !ok {
			return value{}, false
		}
		// The decimal must stand for just this number.
		if again, err := cty.ParseNumberVal(v.AsBigFloat().Text('f', -1)); n.exact() &&
			(err != nil || again.AsBigFloat().Cmp(v.AsBigFloat()) != 0) {
			return value{}, false
		}
		return numberValue(n, true), true
	}
	return value{}, false
}

// constList returns the elements of a list of simple constants.
func (c *compiler) constList(e hclsyntax.Expression) ([]value, bool) {
	if !isConst(e) {
		return nil, false
	}
	v, err := evaluate(e, pureContext)
	if err != nil || v.IsNull() || !v.Type().IsTupleType() {
		return nil, false
	}
	list := make([]value, 0, v.LengthInt())
	for _, element := range v.AsValueSlice() {
		k, ok := constValue(element)
		if !ok {
			return nil, false
		}
		list = append(list, k)
	}
	return list, true
}

// traversal compiles record.payload.a.b and input.a["b"][0].
func (c *compiler) traversal(e *hclsyntax.ScopeTraversalExpr) node {
	rest := e.Traversal[1:]
	if c.root == Record {
		if len(rest) == 0 {
			return nil // the whole record
		}
		name, _, ok := stepName(rest[0])
		if !ok {
			return nil
		}
		if name != "payload" {
			if len(rest) > 1 {
				return nil // fails; reported already
			}
			return &fieldNode{name}
		}
		rest = rest[1:]
	}
	n := &pathNode{key: -1}
	for i, t := range rest {
		s, ok := newStep(t, e.Traversal, len(e.Traversal)-len(rest)+i)
		if !ok {
			return nil
		}
		// The first member is looked up together with all others, unless it may
		// be an element of an array, which a payload never is.
		if i == 0 && (c.root == Record || s.index < 0) {
			n.key = c.keyIndex(s.name[0])
			n.first = s.stepErrors
			continue
		}
		n.steps = append(n.steps, s)
	}
	return n
}

func (c *compiler) keyIndex(name string) int {
	if i := slices.Index(c.keys, name); i >= 0 {
		return i
	}
	c.keys = append(c.keys, name)
	return len(c.keys) - 1
}

// newStep compiles one step of a traversal.
func newStep(t hcl.Traverser, whole hcl.Traversal, at int) (s step, ok bool) {
	name, rng, ok := stepName(t)
	if !ok {
		return s, false
	}
	s.name[0] = norm.NFC.String(name)
	s.index = -1
	if t, ok := t.(hcl.TraverseIndex); ok {
		key, err := convert.Convert(t.Key, cty.Number)
		if err == nil && !key.IsNull() {
			n, acc := key.AsBigFloat().Int64()
			if acc != big.Exact || n < 0 {
				n = math.MaxInt // an array has never so many
			}
			s.index = int(n)
		}
	}
	of := traversalText(whole[:at])
	s.stepErrors = &stepErrors{
		missing: newError(rng, "%s has no %q", of, name),
		null:    newError(rng, "%s is null, so it has no %q", of, name),
		scalar:  newError(rng, "%s is neither an object nor a list, so it has no %q", of, name),
	}
	return s, true
}

// traversalText writes a traversal as it may stand in a file.
func traversalText(t hcl.Traversal) string {
	text := t.RootName()
	for _, step := range t[1:] {
		name, _, _ := stepName(step)
		if _, isAttr := step.(hcl.TraverseAttr); isAttr {
			text += "." + name
		} else {
			text += fmt.Sprintf("[%q]", name)
		}
	}
	return text
}

func (c *compiler) unary(e *hclsyntax.UnaryOpExpr) node {
	of := c.compile(e.Val)
	switch {
	case of == nil:
		return nil
	case e.Op == hclsyntax.OpLogicalNot:
		return &notNode{of, newError(e.Val.Range(), "the operand of ! must be true or false")}
	case e.Op == hclsyntax.OpNegate:
		return &negateNode{of, newError(e.Val.Range(), "the operand of - must be a number")}
	}
	return nil
}

var numberOperations = map[*hclsyntax.Operation]operation{
	hclsyntax.OpLessThan:           opLess,
	hclsyntax.OpLessThanOrEqual:    opLessEqual,
	hclsyntax.OpGreaterThan:        opGreater,
	hclsyntax.OpGreaterThanOrEqual: opGreaterEqual,
	hclsyntax.OpAdd:                opAdd,
	hclsyntax.OpSubtract:           opSubtract,
	hclsyntax.OpMultiply:           opMultiply,
	hclsyntax.OpDivide:             opDivide,
	hclsyntax.OpModulo:             opModulo,
}

func (c *compiler) binary(e *hclsyntax.BinaryOpExpr) node {
	left, right := c.compile(e.LHS), c.compile(e.RHS)
	if left == nil || right == nil {
		return nil
	}
	switch e.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		return &logicNode{
			left: left, right: right, decides: e.Op == hclsyntax.OpLogicalOr, total: givesBool(right),
			err: newError(e.SrcRange, "the operands of && and || must be true or false"),
		}
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		return &equalNode{left, right, e.Op == hclsyntax.OpNotEqual}
	}
	op, ok := numberOperations[e.Op]
	if !ok {
		return nil
	}
	return &numberNode{left, right, op, newError(e.SrcRange, "both operands must be numbers, but one is null or something else")}
}

// givesBool reports whether the node's value is a truth value or fails in a way
// that HCL can take for one, so that it need not be looked at when the other
// side decides.
func givesBool(n node) bool {
	switch n := n.(type) {
	case *logicNode, *notNode, *equalNode, *canNode, *containsConstNode:
		return true
	case *numberNode:
		return n.op.compares()
	case *callNode:
		return n.boolean
	case *constNode:
		return n.v.kind == kindBool
	}
	return false
}

func (c *compiler) condition(e *hclsyntax.ConditionalExpr) node {
	cond, yes, no := c.compile(e.Condition), c.compile(e.TrueResult), c.compile(e.FalseResult)
	if cond == nil || yes == nil || no == nil {
		return nil
	}
	return &conditionNode{
		cond: cond, yes: yes, no: no,
		mixed:   newError(e.SrcRange, "both results of a condition must be of one type"),
		null:    newError(e.Condition.Range(), "the condition is null"),
		notBool: newError(e.Condition.Range(), "the condition must be true or false"),
	}
}

func (c *compiler) template(e *hclsyntax.TemplateExpr) node {
	n := &templateNode{}
	for _, part := range e.Parts {
		p := c.compile(part)
		if p == nil {
			return nil
		}
		n.parts = append(n.parts, p)
		n.null = append(n.null, newError(part.Range(), "a null cannot stand in a string"))
		n.wrong = append(n.wrong, newError(part.Range(), "an object or list cannot stand in a string"))
	}
	return n
}

// output writes a result as JSON. The second result is the kind of what was
// written, or kindBail, or how it failed.
type output interface {
	write(ev *Evaluator, dst []byte) ([]byte, kind)
}

// compileOutput is [compiler.compile] for a place where the result is written,
// so that it may be an object or list that never exists as a value.
func (c *compiler) compileOutput(e hclsyntax.Expression) output {
	if isConst(e) {
		v, err := evaluate(e, pureContext)
		if err != nil {
			return nil
		}
		text, err := appendValue(nil, v)
		if err != nil {
			return nil
		}
		return constOutput(text)
	}
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.compileOutput(e.Expression)
	case *hclsyntax.ObjectConsExpr:
		return c.object(e)
	case *hclsyntax.TupleConsExpr:
		items := make(listOutput, len(e.Exprs))
		for i, element := range e.Exprs {
			if items[i] = c.compileOutput(element); items[i] == nil {
				return nil
			}
		}
		return items
	case *hclsyntax.FunctionCallExpr:
		if e.Name != "try" || e.ExpandFinal {
			break
		}
		items := make(tryOutput, len(e.Args))
		for i, arg := range e.Args {
			if items[i] = c.compileOutput(arg); items[i] == nil {
				return nil
			}
		}
		return items
	}
	if n := c.compile(e); n != nil {
		return valueOutput{n}
	}
	return nil
}

// object compiles { name = value }, whose names must be constant.
func (c *compiler) object(e *hclsyntax.ObjectConsExpr) output {
	out := &objectOutput{}
	for _, item := range e.Items {
		if !isConst(item.KeyExpr) {
			return nil
		}
		key, err := evaluate(item.KeyExpr, pureContext)
		if err != nil || key.IsNull() || key.Type() != cty.String || !norm.NFC.IsNormalString(key.AsString()) {
			return nil
		}
		v := c.compileOutput(item.ValueExpr)
		if v == nil {
			return nil
		}
		out.members = append(out.members, memberOutput{
			name: key.AsString(), lead: string(append(record.AppendString(nil, key.AsString()), ':')), value: v,
		})
	}
	// Of equal names the last wins, but all are evaluated, as in HCL.
	sort.SliceStable(out.members, func(i, j int) bool { return out.members[i].name < out.members[j].name })
	for i := range out.members {
		out.members[i].hidden = i+1 < len(out.members) && out.members[i].name == out.members[i+1].name
	}
	return out
}

type constOutput string

func (o constOutput) write(_ *Evaluator, dst []byte) ([]byte, kind) {
	return append(dst, o...), kindRaw
}

type valueOutput struct{ node }

func (o valueOutput) write(ev *Evaluator, dst []byte) ([]byte, kind) {
	return ev.appendJSON(dst, o.eval(ev))
}

type listOutput []output

func (o listOutput) write(ev *Evaluator, dst []byte) ([]byte, kind) {
	dst = append(dst, '[')
	for i, item := range o {
		if i > 0 {
			dst = append(dst, ',')
		}
		var k kind
		if dst, k = item.write(ev, dst); k == kindBail || k.failed() {
			return dst, k
		}
	}
	return append(dst, ']'), kindRaw
}

type tryOutput []output

func (o tryOutput) write(ev *Evaluator, dst []byte) ([]byte, kind) {
	start := len(dst)
	for _, item := range o {
		var k kind
		if dst, k = item.write(ev, dst[:start]); !k.failed() {
			return dst, k
		}
	}
	return dst, kindErr
}

type objectOutput struct{ members []memberOutput }

type memberOutput struct {
	name, lead string
	value      output
	hidden     bool
}

func (o *objectOutput) write(ev *Evaluator, dst []byte) ([]byte, kind) {
	dst = append(dst, '{')
	start := len(dst)
	for i := range o.members {
		m := &o.members[i]
		before := len(dst)
		if before > start {
			dst = append(dst, ',')
		}
		dst = append(dst, m.lead...)
		var k kind
		if dst, k = m.value.write(ev, dst); k == kindBail || k.failed() {
			return dst, k
		}
		if m.hidden {
			dst = dst[:before]
		}
	}
	return append(dst, '}'), kindRaw
}
