package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// valueError is what is wrong with a value, without its place.
type valueError struct{ summary, detail string }

func wrongType(arg *Arg, expected string, v cty.Value, advice string) *valueError {
	return &valueError{"Wrong type", fmt.Sprintf("The argument %q takes %s, but this is %s.%s", arg.Name, expected, describe(v), spaced(advice))}
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
			return nil, wrongType(arg, "true or false", v, unquoteAdvice(v, literal))
		}
		return v.True(), nil
	case Int, Float:
		return numberValue(arg, v, literal)
	case Duration, Size, Rate:
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
	return s, checkText(arg, s)
}

// checkText checks a string, or one of a list.
func checkText(arg *Arg, s string) *valueError {
	if len(arg.Enum) > 0 && !slices.Contains(arg.Enum, s) {
		hint := didYouMean(s, arg.Enum)
		if why := arg.Elsewhere[s]; why != "" {
			hint = " " + why
		}
		return &valueError{"Unsupported value", fmt.Sprintf("%q is not a value of the argument %q.%s The values are: %s.", s, arg.Name, hint, joinQuoted(arg.Enum))}
	}
	if arg.Check == nil {
		return nil
	}
	if err := arg.Check(s); err != nil {
		return &valueError{"Unsupported value", fmt.Sprintf("The argument %q cannot be %q: %s.", arg.Name, s, err)}
	}
	return nil
}

func numberValue(arg *Arg, v cty.Value, literal bool) (any, *valueError) {
	expected := "a number"
	if arg.Type == Int {
		expected = "a whole number"
	}
	if v.Type() != cty.Number {
		return nil, wrongType(arg, expected, v, unquoteAdvice(v, literal))
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
	case Rate:
		n, err := parseRate(text)
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
	switch arg.Type {
	case Size:
		name, summary, advice = "a size", "Invalid size", sizeAdvice
		parse = parseSize
	case Rate:
		name, summary, advice = "a rate", "Invalid rate", rateAdvice
		parse = parseRate
	}
	if v.Type() != cty.String {
		return nil, wrongType(arg, name+" in quotes", v, advice)
	}
	n, err := parse(v.AsString())
	if err != nil {
		return nil, &valueError{summary, fmt.Sprintf("The argument %q takes %s, but %s", arg.Name, name, err)}
	}
	if !within(arg, new(big.Float).SetInt64(n)) {
		return nil, outOfRange(arg, v.AsString())
	}
	if arg.Type == Duration {
		return time.Duration(n), nil
	}
	return n, nil
}

func outOfRange(arg *Arg, found string) *valueError {
	return &valueError{"Value out of range", fmt.Sprintf("The argument %q must be %s, but this is %s.", arg.Name, arg.bounds(), found)}
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
			return nil, &valueError{"Wrong type", fmt.Sprintf("The argument %q takes %s, but element %d is %s.%s", arg.Name, expected, len(list)+1, describe(element), spaced(quoteAdvice(element)))}
		}
		if err := checkText(arg, element.AsString()); err != nil {
			return nil, err
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
			return nil, &valueError{"Wrong type", fmt.Sprintf("The argument %q takes %s, but the value of %q is %s.%s", arg.Name, expected, key.AsString(), describe(element), spaced(quoteAdvice(element)))}
		}
		m[key.AsString()] = element.AsString()
	}
	return m, nil
}

func unquoteAdvice(v cty.Value, literal bool) string {
	if literal && !v.IsNull() && v.Type() == cty.String {
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
