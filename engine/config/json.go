package config

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/zclconf/go-cty/cty"

	"github.com/edged/edged/engine/record"
)

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
		if !representable(f) {
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

func representable(f *big.Float) bool {
	exponent := f.MantExp(nil)
	return !f.IsInf() && exponent <= 1024 && exponent >= -1074
}
