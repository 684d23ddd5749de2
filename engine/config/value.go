package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

// value checks one argument's expression and returns its Go value; nil and
// true mean that it is null.
func (d *decoder) value(arg *Arg, e hcl.Expression) (any, bool) {
	switch arg.Type {
	case Expression:
		return d.expression(arg, e)
	case BlockRef:
		return d.reference(arg, e)
	}
	v, ok := d.constant(arg, e)
	if !ok {
		return nil, false
	}
	if v.IsNull() && arg.Type != JSON {
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
	p, diags := expr.Compile(e, arg.Root)
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
		if v, diags := e.Value(nil); !diags.HasErrors() && v.Type() == cty.String {
			advice = " A reference stands without quotes."
		}
		d.report("Invalid reference", fmt.Sprintf("The argument %q names a %s block.%s Write %s = %s.", arg.Name, arg.Refers, advice, arg.Name, form), e.Range())
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
		d.report("Invalid reference", fmt.Sprintf("The argument %q names a %s block. Write %s = %s.", arg.Name, arg.Refers, arg.Name, form), e.Range())
		return nil, false
	}
	return steps[1:], true
}

// constant evaluates an argument that has one value for the whole run.
func (d *decoder) constant(arg *Arg, e hcl.Expression) (cty.Value, bool) {
	if vars := e.Variables(); len(vars) > 0 {
		for _, t := range vars {
			d.report("Not a constant", fmt.Sprintf("The argument %q has one value for the whole run, so it cannot use %q. %s", arg.Name, t.RootName(), d.constantAdvice(e)), t.SourceRange())
		}
		return cty.NilVal, false
	}
	if tooLarge, found := hugeNumber(e); found {
		d.report("Value out of range", "This number does not fit into 64-bit floating point. Write a smaller one.", tooLarge)
		return cty.NilVal, false
	}
	v, diags := e.Value(d.ctx)
	if diags.HasErrors() {
		d.diags = append(d.diags, diags...)
		return cty.NilVal, false
	}
	v, _ = v.UnmarkDeep()
	if !v.IsWhollyKnown() {
		d.report("Not a constant", fmt.Sprintf("The value of the argument %q is not known before the run. Write a constant.", arg.Name), e.Range())
		return cty.NilVal, false
	}
	return v, true
}

func (d *decoder) constantAdvice(e hcl.Expression) string {
	if word := hcl.ExprAsKeyword(e); word != "" {
		return fmt.Sprintf("If it is meant as text, put it in quotes: %q.", word)
	}
	return "Use literals and functions such as env() only."
}

// valueError is what is wrong with a value, without its place.
type valueError struct{ summary, detail string }

func wrongType(arg *Arg, expected string, v cty.Value, advice string) *valueError {
	if advice != "" {
		advice = " " + advice
	}
	return &valueError{"Wrong type", fmt.Sprintf("The argument %q is %s, but this is %s.%s", arg.Name, expected, describe(v), advice)}
}

// convertValue turns v into the Go value of arg's type and checks its bounds.
// A string that was not written literally, such as the result of env(), is
// taken for a number or truth value when it reads as one.
func convertValue(arg *Arg, v cty.Value, literal bool) (any, *valueError) {
	if !literal && !v.IsNull() && v.Type() == cty.String {
		want := map[Type]cty.Type{Int: cty.Number, Float: cty.Number, Bool: cty.Bool}[arg.Type]
		if want != cty.NilType {
			if c, err := convert.Convert(v, want); err == nil {
				v = c
			}
		}
	}
	switch arg.Type {
	case String:
		return stringValue(arg, v)
	case Bool:
		if v.Type() != cty.Bool {
			return nil, wrongType(arg, "true or false", v, unquoteAdvice(v))
		}
		return v.True(), nil
	case Int, Float:
		return numberValue(arg, v)
	case Duration, Size:
		return quantityValue(arg, v)
	case StringList:
		return stringList(arg, v)
	case StringMap:
		return stringMap(arg, v)
	case JSON:
		raw, err := appendJSON(nil, v)
		if err != nil {
			return nil, &valueError{"Wrong type", fmt.Sprintf("The argument %q cannot be written as JSON: %s.", arg.Name, err)}
		}
		return json.RawMessage(raw), nil
	}
	panic(fmt.Sprintf("config: argument %q has the unknown type %d", arg.Name, arg.Type))
}

func stringValue(arg *Arg, v cty.Value) (any, *valueError) {
	if v.Type() != cty.String {
		return nil, wrongType(arg, "a string", v, quoteAdvice(v))
	}
	s := v.AsString()
	if len(arg.Enum) > 0 && !slices.Contains(arg.Enum, s) {
		return nil, &valueError{"Unsupported value", fmt.Sprintf("%q is not a value of the argument %q.%s The values are: %s.", s, arg.Name, didYouMean(s, arg.Enum), joinQuoted(arg.Enum))}
	}
	return s, nil
}

func numberValue(arg *Arg, v cty.Value) (any, *valueError) {
	expected := "a number"
	if arg.Type == Int {
		expected = "a whole number"
	}
	if v.Type() != cty.Number {
		return nil, wrongType(arg, expected, v, unquoteAdvice(v))
	}
	f := v.AsBigFloat()
	if !within(arg, f) {
		return nil, outOfRange(arg, numberText(f))
	}
	if arg.Type == Float {
		n, _ := f.Float64()
		if math.IsInf(n, 0) {
			return nil, &valueError{"Value out of range", fmt.Sprintf("The argument %q does not fit into 64-bit floating point. Write a smaller number.", arg.Name)}
		}
		return n, nil
	}
	n, accuracy := f.Int64()
	if !f.IsInt() {
		return nil, wrongType(arg, expected, v, "Write it without a fraction.")
	}
	if accuracy != big.Exact {
		return nil, &valueError{"Value out of range", fmt.Sprintf("The argument %q does not fit into 64 bits. Write a smaller number.", arg.Name)}
	}
	return n, nil
}

// limit reads a declared bound; the empty text is none.
func limit(arg *Arg, text string) (*big.Float, error) {
	if text == "" {
		return nil, nil
	}
	switch arg.Type {
	case Duration:
		d, err := parseDuration(text)
		return new(big.Float).SetInt64(int64(d)), err
	case Size:
		n, err := parseSize(text)
		return new(big.Float).SetInt64(n), err
	}
	f, _, err := big.ParseFloat(text, 10, 512, big.ToNearestEven)
	return f, err
}

// within tells whether f keeps arg's bounds. A malformed bound is a fault of
// the program that [CheckCatalog] finds.
func within(arg *Arg, f *big.Float) bool {
	low, lowErr := limit(arg, arg.Min)
	high, highErr := limit(arg, arg.Max)
	if err := errors.Join(lowErr, highErr); err != nil {
		panic(fmt.Sprintf("config: the declared bounds of %q: %s", arg.Name, err))
	}
	return (low == nil || f.Cmp(low) >= 0) && (high == nil || f.Cmp(high) <= 0)
}

func quantityValue(arg *Arg, v cty.Value) (any, *valueError) {
	name, summary, advice := "a duration", "Invalid duration", durationAdvice
	parse := func(s string) (int64, error) {
		d, err := parseDuration(s)
		return int64(d), err
	}
	if arg.Type == Size {
		name, summary, advice = "a size", "Invalid size", sizeAdvice
		parse = parseSize
	}
	if v.Type() != cty.String {
		return nil, wrongType(arg, name+" in quotes", v, advice)
	}
	n, err := parse(v.AsString())
	if err != nil {
		return nil, &valueError{summary, fmt.Sprintf("The argument %q is %s, but %s", arg.Name, name, err)}
	}
	if !within(arg, new(big.Float).SetInt64(n)) {
		return nil, outOfRange(arg, v.AsString())
	}
	if arg.Type == Size {
		return n, nil
	}
	return time.Duration(n), nil
}

func outOfRange(arg *Arg, found string) *valueError {
	return &valueError{"Value out of range", fmt.Sprintf("The argument %q is %s, but this is %s.", arg.Name, arg.bounds(), found)}
}

func stringList(arg *Arg, v cty.Value) (any, *valueError) {
	const expected = "a list of strings"
	if t := v.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		advice := ""
		if t == cty.String {
			advice = fmt.Sprintf("Put it in brackets: [%q].", v.AsString())
		}
		return nil, wrongType(arg, expected, v, advice)
	}
	list := make([]string, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		if element.IsNull() || element.Type() != cty.String {
			return nil, &valueError{"Wrong type", fmt.Sprintf("The argument %q is %s, but element %d is %s. %s", arg.Name, expected, len(list)+1, describe(element), quoteAdvice(element))}
		}
		list = append(list, element.AsString())
	}
	return list, nil
}

func stringMap(arg *Arg, v cty.Value) (any, *valueError) {
	const expected = "a map of strings"
	if t := v.Type(); !t.IsObjectType() && !t.IsMapType() {
		return nil, wrongType(arg, expected, v, `Write { name = "value" }.`)
	}
	m := make(map[string]string, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		key, element := it.Element()
		if element.IsNull() || element.Type() != cty.String {
			return nil, &valueError{"Wrong type", fmt.Sprintf("The argument %q is %s, but the value of %q is %s. %s", arg.Name, expected, key.AsString(), describe(element), quoteAdvice(element))}
		}
		m[key.AsString()] = element.AsString()
	}
	return m, nil
}

func unquoteAdvice(v cty.Value) string {
	if !v.IsNull() && v.Type() == cty.String {
		return "Write it without quotes."
	}
	return ""
}

func quoteAdvice(v cty.Value) string {
	if !v.IsNull() && (v.Type() == cty.Number || v.Type() == cty.Bool) {
		return "Put it in quotes."
	}
	return ""
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

// describe names a value in a sentence.
func describe(v cty.Value) string {
	t := v.Type()
	switch {
	case v.IsNull():
		return "null"
	case t == cty.String:
		s := v.AsString()
		if len(s) > 40 {
			return "a string"
		}
		return fmt.Sprintf("the string %q", s)
	case t == cty.Number:
		return "the number " + numberText(v.AsBigFloat())
	case t == cty.Bool:
		return fmt.Sprintf("the truth value %t", v.True())
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return "a list"
	case t.IsObjectType(), t.IsMapType():
		return "an object"
	}
	return "a " + t.FriendlyName()
}

// numberText is f as JSON writes it.
func numberText(f *big.Float) string {
	if f.IsInt() && f.MantExp(nil) <= 64 {
		return f.Text('f', 0)
	}
	return f.Text('g', -1)
}

var errNumber = errors.New("a number is outside the range of 64-bit floating point")

// appendJSON writes v without white space, members sorted by name.
func appendJSON(dst []byte, v cty.Value) ([]byte, error) {
	if v.IsNull() {
		return append(dst, "null"...), nil
	}
	t := v.Type()
	switch {
	case t == cty.String:
		return record.AppendString(dst, v.AsString()), nil
	case t == cty.Bool:
		return fmt.Append(dst, v.True()), nil
	case t == cty.Number:
		f := v.AsBigFloat()
		if f.IsInf() || f.MantExp(nil) > 1024 || f.Sign() != 0 && f.MantExp(nil) < -1074 {
			return dst, errNumber
		}
		return append(dst, numberText(f)...), nil
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return appendElements(dst, v, '[', ']')
	case t.IsObjectType(), t.IsMapType():
		return appendElements(dst, v, '{', '}')
	}
	return dst, fmt.Errorf("a %s has no JSON form", t.FriendlyName())
}

// appendElements relies on cty handing out members sorted by name.
func appendElements(dst []byte, v cty.Value, opening, closing byte) ([]byte, error) {
	dst = append(dst, opening)
	first := true
	for it := v.ElementIterator(); it.Next(); first = false {
		if !first {
			dst = append(dst, ',')
		}
		key, element := it.Element()
		if opening == '{' {
			dst = append(record.AppendString(dst, key.AsString()), ':')
		}
		var err error
		if dst, err = appendJSON(dst, element); err != nil {
			return dst, err
		}
	}
	return append(dst, closing), nil
}

// hugeNumber finds a literal that is outside 64-bit floating point. Turning
// 1e999999999 into text takes a gigabyte, so it must not reach a function.
func hugeNumber(e hcl.Expression) (hcl.Range, bool) {
	node, ok := e.(hclsyntax.Expression)
	if !ok {
		return hcl.Range{}, false
	}
	var at *hcl.Range
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if lit, ok := n.(*hclsyntax.LiteralValueExpr); ok && at == nil && lit.Val.Type() == cty.Number && !lit.Val.IsNull() && lit.Val.IsKnown() {
			if exp := lit.Val.AsBigFloat().MantExp(nil); exp > 1024 || exp < -1074 {
				at = lit.SrcRange.Ptr()
			}
		}
		return nil
	})
	if at == nil {
		return hcl.Range{}, false
	}
	return *at, true
}
