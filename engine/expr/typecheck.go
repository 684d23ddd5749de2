package expr

import (
	"errors"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/customdecode"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// typeOf returns what is known of the type of e, and reports what can never
// work whatever the record holds.
func (c *checker) typeOf(e hclsyntax.Expression) Type {
	if isConst(e) {
		return c.constType(e)
	}
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.typeOf(e.Expression)
	case *hclsyntax.TemplateWrapExpr:
		return c.typeOf(e.Wrapped)
	case *hclsyntax.ScopeTraversalExpr:
		return c.traversalType(e.Traversal)
	case *hclsyntax.TemplateExpr:
		for _, part := range e.Parts {
			c.want(part, String, sumOperand, "what stands in a string")
		}
		return String
	case *hclsyntax.UnaryOpExpr:
		if e.Op == hclsyntax.OpLogicalNot {
			c.want(e.Val, Bool, sumOperand, "the operand of !")
			return Bool
		}
		c.want(e.Val, Number, sumOperand, "the operand of -")
		return Number
	case *hclsyntax.BinaryOpExpr:
		return c.binaryType(e)
	case *hclsyntax.ConditionalExpr:
		c.want(e.Condition, Bool, sumCondition, "a condition")
		return c.conditionType(e)
	case *hclsyntax.FunctionCallExpr:
		return c.callType(e)
	case *hclsyntax.ObjectConsExpr:
		for _, item := range e.Items {
			if !isConst(item.KeyExpr) {
				c.typeOf(item.KeyExpr)
			}
			c.typeOf(item.ValueExpr)
		}
		return Object
	case *hclsyntax.ObjectConsKeyExpr:
		return c.typeOf(e.Wrapped)
	case *hclsyntax.TupleConsExpr:
		for _, element := range e.Exprs {
			c.typeOf(element)
		}
		return List
	case *hclsyntax.IndexExpr:
		c.typeOf(e.Collection)
		c.typeOf(e.Key)
	case *hclsyntax.RelativeTraversalExpr:
		c.typeOf(e.Source)
	}
	// The insides of for and splat expressions have variables of their own;
	// HCL checks them when it evaluates.
	return Any
}

func (c *checker) constType(e hclsyntax.Expression) Type {
	v, err := evaluate(e, pureContext)
	if err != nil {
		at, detail := e.Range(), err.Error()
		if failure := (*Error)(nil); errors.As(err, &failure) {
			at, detail = failure.Range, failure.Detail
		}
		c.fail(at, sumConstant, "%s", detail)
		return Any
	}
	return typeOfValue(v)
}

func typeOfValue(v cty.Value) Type {
	switch t := v.Type(); {
	case v.IsNull():
		return Null
	case t == cty.Bool:
		return Bool
	case t == cty.Number:
		return Number
	case t == cty.String:
		return String
	case t.IsObjectType() || t.IsMapType():
		return Object
	default:
		return List
	}
}

func (c *checker) traversalType(t hcl.Traversal) Type {
	if c.root != Record {
		return Any
	}
	if len(t) == 1 {
		return Object
	}
	name, _, _ := stepName(t[1])
	switch {
	case name != "payload":
		return String
	case len(t) == 2:
		return Object
	}
	return Any
}

// want reports an operand that can never become a value of the wanted type.
func (c *checker) want(e hclsyntax.Expression, want Type, summary, what string) Type {
	got := c.typeOf(e)
	if want == Any || got.fits(want) && (got != String || want == String || !isConst(e)) {
		return got
	}
	advice := ""
	if isConst(e) && got == String {
		v, err := evaluate(e, pureContext)
		if err != nil || convertible(stringValue(v.AsString()), want) {
			return got
		}
		if want == Number {
			advice = " Strings have no order; compare them with == or !=."
		}
	}
	if got != Any {
		c.fail(e.Range(), summary, "Here %s must be %s, but it is %s.%s", what, want, got, advice)
	}
	return got
}

// convertible reports whether HCL may make the wanted type, Bool or Number, of
// the string v.
func convertible(v value, want Type) bool {
	to := cty.Bool
	if want == Number {
		to = cty.Number
	}
	_, err := convert.Convert(cty.StringVal(v.text), to)
	return err == nil
}

func (c *checker) binaryType(e *hclsyntax.BinaryOpExpr) Type {
	switch e.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		c.want(e.LHS, Bool, sumOperand, "an operand of && and ||")
		c.want(e.RHS, Bool, sumOperand, "an operand of && and ||")
		return Bool
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		left, right := c.typeOf(e.LHS), c.typeOf(e.RHS)
		if left != right && left != Any && right != Any && left != Null && right != Null {
			c.report(hcl.DiagWarning, e.SrcRange, sumNeverTrue,
				"This compares %s with %s. They are never equal; tonumber() and tostring() convert.", left, right)
		}
		return Bool
	}
	what := "an operand of arithmetic"
	op, known := numberOperations[e.Op]
	if known && op.compares() {
		what = "what is compared by order"
	}
	for _, operand := range []hclsyntax.Expression{e.LHS, e.RHS} {
		if t, ok := operand.(*hclsyntax.ScopeTraversalExpr); ok && c.isTimestamp(t.Traversal) {
			c.fail(operand.Range(), sumOperand, "record.timestamp is a string, and strings have no order and no arithmetic. timeadd() moves a time.")
			continue
		}
		c.want(operand, Number, sumOperand, what)
	}
	if known && op.compares() {
		return Bool
	}
	return Number
}

func (c *checker) isTimestamp(t hcl.Traversal) bool {
	if c.root != Record || len(t) != 2 {
		return false
	}
	name, _, _ := stepName(t[1])
	return name == "timestamp"
}

// conditionType returns the type that the two results are brought to.
func (c *checker) conditionType(e *hclsyntax.ConditionalExpr) Type {
	yes, no := c.typeOf(e.TrueResult), c.typeOf(e.FalseResult)
	switch {
	case yes == no:
		return yes
	case yes == Any || no == Any:
		return Any
	case yes == Null:
		return no
	case no == Null:
		return yes
	case yes.compound() || no.compound() || yes != String && no != String:
		c.fail(hcl.RangeBetween(e.TrueResult.Range(), e.FalseResult.Range()), sumCondition,
			"Both results of a condition must be of one type, but one is %s and the other %s.", yes, no)
		return Any
	}
	return String
}

// callType checks the arguments against the function's parameters.
func (c *checker) callType(e *hclsyntax.FunctionCallExpr) Type {
	f := functionsByName[e.Name]
	if f == nil {
		return Any
	}
	if e.Name == "try" || e.Name == "can" {
		return c.tryType(e, f)
	}
	if e.Name == "config" {
		return c.configType(e)
	}
	impl := pureContext.Functions[e.Name]
	params, rest := impl.Params(), impl.VarParam()
	for i, arg := range e.Args {
		var param *function.Parameter
		switch {
		case i < len(params):
			param = &params[i]
		case rest != nil:
			param = rest
		}
		if param == nil || e.ExpandFinal && i == len(e.Args)-1 || customdecode.CustomExpressionDecoderForType(param.Type) != nil {
			c.typeOf(arg)
			continue
		}
		c.want(arg, paramType(param.Type), sumArgument, "the argument \""+param.Name+"\" of "+e.Name)
	}
	return f.result
}

// configType is the type of the default. A key that is written out is checked.
func (c *checker) configType(e *hclsyntax.FunctionCallExpr) Type {
	key := e.Args[0]
	c.want(key, String, sumArgument, `the argument "key" of config`)
	if isConst(key) {
		v, err := evaluate(key, pureContext)
		if err == nil && v.Type() == cty.String && !v.IsNull() {
			err = CheckConfigKey(v.AsString())
		}
		if failure := (*Error)(nil); err != nil && !errors.As(err, &failure) { // which is told already
			c.fail(key.Range(), sumArgument, "%v.", err)
		}
	}
	if len(e.Args) < 2 {
		return String
	}
	t := c.typeOf(e.Args[1])
	if t.compound() || t == Null {
		c.fail(e.Args[1].Range(), sumArgument, "The default of config must be a string, a number, or true or false, but it is %s.", t)
		return Any
	}
	return t
}

func paramType(t cty.Type) Type {
	switch t {
	case cty.Bool:
		return Bool
	case cty.Number:
		return Number
	case cty.String:
		return String
	}
	return Any
}

// tryType looks at the arguments of try and can, which may fail: what is wrong
// with them is no error.
func (c *checker) tryType(e *hclsyntax.FunctionCallExpr, f *Function) Type {
	result := f.result
	for i, arg := range e.Args {
		quiet := checker{root: c.root}
		t := quiet.typeOf(arg)
		if f.result != Any {
			continue
		}
		if i > 0 && t != result {
			result = Any
			break
		}
		result = t
	}
	return result
}
