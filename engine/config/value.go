package config

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/edged/edged/engine/expr"
)

// value checks one argument's expression and returns its Go value; nil and
// true mean that it is null.
func (d *decoder) value(arg *Arg, e hcl.Expression) (any, bool) {
	switch arg.Type {
	case Expression:
		return d.expression(arg, e)
	case BlockRef:
		return d.reference(arg, e)
	case Resolvers:
		return d.resolvers(arg, e)
	}
	v, ok := d.constant(arg, e)
	if !ok {
		return nil, false
	}
	if v.IsNull() {
		return nil, true
	}
	out, err := convertValue(arg, v, isLiteral(e))
	if err != nil {
		d.report(err.summary, err.detail, e.Range())
		return nil, false
	}
	return out, true
}

func (d *decoder) defaultValue(arg *Arg, header hcl.Range) (any, bool) {
	e, diags := parseDefault(arg)
	if diags.HasErrors() {
		panic(fmt.Sprintf("config: the declared default of %q does not parse: %s", arg.Name, diags))
	}
	if arg.Type == Expression {
		return d.expression(arg, e)
	}
	v, diags := e.Value(d.ctx)
	if diags.HasErrors() {
		d.report("No default value", fmt.Sprintf("The argument %q is not written, and its default %s cannot be had: %s. Write the argument.", arg.Name, arg.Default, diags[0].Detail), header)
		return nil, false
	}
	out, err := convertValue(arg, v, true)
	if err != nil {
		d.report(err.summary, fmt.Sprintf("The argument %q is not written, and its default %s cannot be used: %s", arg.Name, arg.Default, err.detail), header)
		return nil, false
	}
	return out, true
}

func parseDefault(arg *Arg) (hclsyntax.Expression, hcl.Diagnostics) {
	return hclsyntax.ParseExpression([]byte(arg.Default), "default of "+arg.Name, hcl.InitialPos)
}

// expression compiles an argument that is evaluated once per record.
func (d *decoder) expression(arg *Arg, e hcl.Expression) (any, bool) {
	if d.hugeNumber(e) {
		return nil, false
	}
	p, diags := expr.Compile(e, arg.Root)
	if !diags.HasErrors() {
		diags = append(diags, p.Require(arg.Result, fmt.Sprintf("The argument %q", arg.Name))...)
	}
	d.diags = append(d.diags, diags...)
	return p, !diags.HasErrors()
}

// reference reads plugin.x or remote.nats.hub. Whether such a block exists is
// checked when all files are read.
func (d *decoder) reference(arg *Arg, e hcl.Expression) (any, bool) {
	form := referenceForm(arg.Refers)
	t, diags := hcl.AbsTraversalForExpr(e)
	if diags.HasErrors() {
		advice := ""
		if v, diags := e.Value(nil); !diags.HasErrors() && v.Type() == cty.String && !v.IsNull() {
			advice = " A reference stands without quotes."
			if strings.HasPrefix(v.AsString(), arg.Refers+".") {
				form = v.AsString()
			}
		}
		d.report("Invalid reference", fmt.Sprintf("The argument %q names a block %s.%s Write %s = %s.", arg.Name, arg.Refers, advice, arg.Name, form), e.Range())
		return nil, false
	}
	steps := make([]string, 0, len(t))
	for _, step := range t {
		switch s := step.(type) {
		case hcl.TraverseRoot:
			steps = append(steps, s.Name)
		case hcl.TraverseAttr:
			steps = append(steps, s.Name)
		}
	}
	if len(steps) != len(t) || steps[0] != arg.Refers || len(steps) != strings.Count(form, ".")+1 {
		d.report("Invalid reference", fmt.Sprintf("The argument %q names a block %s. Write %s = %s.", arg.Name, arg.Refers, arg.Name, form), e.Range())
		return nil, false
	}
	return steps[1:], true
}

// constant evaluates an argument that has one value for the whole run.
func (d *decoder) constant(arg *Arg, e hcl.Expression) (cty.Value, bool) {
	if vars := e.Variables(); len(vars) > 0 {
		for _, t := range vars {
			d.report("Not a constant", fmt.Sprintf("The argument %q has one value for the whole run, so it cannot use %q. %s", arg.Name, t.RootName(), constantAdvice(e)), t.SourceRange())
		}
		return cty.NilVal, false
	}
	if d.hugeNumber(e) {
		return cty.NilVal, false
	}
	// The compiler knows more about functions than the evaluation does.
	_, diags := expr.Compile(e, expr.None)
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return cty.NilVal, false
	}
	v, diags := e.Value(d.ctx)
	if diags.HasErrors() {
		for _, diag := range diags {
			d.diags = append(d.diags, plainCallError(diag))
		}
		return cty.NilVal, false
	}
	v, _ = v.UnmarkDeep()
	if !v.IsWhollyKnown() {
		d.report("Not a constant", fmt.Sprintf("The value of the argument %q is not known before the run. Write a constant.", arg.Name), e.Range())
		return cty.NilVal, false
	}
	return v, true
}

// plainCallError says what a function said instead of which parameter it took
// offense at.
func plainCallError(diag *hcl.Diagnostic) *hcl.Diagnostic {
	call, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](diag)
	if !ok || call.FunctionCallError() == nil {
		return diag
	}
	return diagnostic("Function call failed", fmt.Sprintf("%s() failed: %s.", call.CalledFunctionName(), strings.TrimSuffix(call.FunctionCallError().Error(), ".")), *diag.Subject)
}

func constantAdvice(e hcl.Expression) string {
	if word := hcl.ExprAsKeyword(e); word != "" {
		return fmt.Sprintf("If it is meant as text, put it in quotes: %q.", word)
	}
	return "Use literals and functions such as env() only."
}

// isLiteral tells whether e is written out, so that a wrong type is a slip of
// the author and not what the environment holds.
func isLiteral(e hcl.Expression) bool {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return true
	case *hclsyntax.TemplateExpr:
		return e.IsStringLiteral()
	}
	return false
}

// hugeNumber reports a literal that is outside 64-bit floating point. Turning
// 1e999999999 into text takes a gigabyte, so it must not reach a function.
func (d *decoder) hugeNumber(e hcl.Expression) bool {
	node, ok := e.(hclsyntax.Expression)
	if !ok {
		return false
	}
	before := len(d.diags)
	diags := hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		lit, ok := n.(*hclsyntax.LiteralValueExpr)
		if !ok || lit.Val.IsNull() || !lit.Val.IsKnown() || lit.Val.Type() != cty.Number || representable(lit.Val.AsBigFloat()) {
			return nil
		}
		return hcl.Diagnostics{diagnostic("Value out of range", "This number does not fit into 64-bit floating point. Write a smaller one.", lit.SrcRange)}
	})
	d.diags = append(d.diags, diags...)
	return len(d.diags) > before
}
