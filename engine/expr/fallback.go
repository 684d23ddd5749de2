package expr

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/edged/edged/engine/record"
)

// evalHCL evaluates the program with HCL itself: it builds the root as a cty
// value and asks the expression. It is the truth that the compiled form must
// agree with.
func (p *Program) evalHCL(ev *Evaluator, v Value) (val cty.Value, err error) {
	ctx := ev.hclContext()
	ctx.Variables = nil
	if p.root != None {
		root, err := rootValue(p.root, v)
		if err != nil {
			return cty.NilVal, &Error{Range: p.expr.Range(), Detail: err.Error()}
		}
		ctx.Variables = map[string]cty.Value{string(p.root): root}
	}
	return evaluate(p.expr, ctx)
}

// evaluate asks HCL. A panic inside HCL or a function becomes an error, so
// that one bad record cannot take the pipeline down (I6).
func evaluate(e hcl.Expression, ctx *hcl.EvalContext) (val cty.Value, err error) {
	defer func() {
		if r := recover(); r != nil {
			val, err = cty.NilVal, &Error{Range: e.Range(), Detail: fmt.Sprintf("the evaluation broke down: %v", r)}
		}
	}()
	val, diags := e.Value(ctx)
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		failure := &Error{Range: e.Range(), Detail: d.Summary + ": " + d.Detail}
		if d.Subject != nil {
			failure.Range = *d.Subject
		}
		return cty.NilVal, failure
	}
	if !val.IsWhollyKnown() {
		return cty.NilVal, &Error{Range: e.Range(), Detail: "the result depends on a null whose type is not known"}
	}
	return val, nil
}

// rootValue builds what the variable `record` or `input` stands for.
func rootValue(root Root, v Value) (cty.Value, error) {
	if root == Input {
		return decodeJSON(v.JSON)
	}
	r := v.Record
	if r == nil {
		return cty.NilVal, errors.New("there is no record to evaluate on")
	}
	payload, err := decodeJSON(r.Payload)
	if err != nil {
		return cty.NilVal, fmt.Errorf("reading the payload: %w", err)
	}
	return cty.ObjectVal(map[string]cty.Value{
		"id":        cty.StringVal(r.ID),
		"device_id": cty.StringVal(r.DeviceID),
		"data_type": cty.StringVal(r.DataType),
		"timestamp": cty.StringVal(string(record.AppendTime(nil, r.Timestamp))),
		"payload":   payload,
	}), nil
}

// decodeJSON turns one JSON value into cty: objects into object values,
// arrays into tuples. Of a member that stands twice the last wins, as in
// encoding/json. Numbers are read as HCL reads its own, see [parseBig].
func decodeJSON(data []byte) (cty.Value, error) {
	if err := record.Valid(data); err != nil {
		return cty.NilVal, err
	}
	v, _ := decodeValue(data, record.SkipSpace(data, 0))
	return v, nil
}

// decodeValue reads the value at data[i], which is known to be valid JSON.
func decodeValue(data []byte, i int) (cty.Value, int) {
	switch data[i] {
	case '{':
		members := make(map[string]cty.Value)
		for i = record.SkipSpace(data, i+1); data[i] != '}'; {
			if data[i] == ',' {
				i = record.SkipSpace(data, i+1)
			}
			end, _ := stringEnd(data, i)
			name := nfc(unquote(data[i:end]))
			i = record.SkipSpace(data, record.SkipSpace(data, end)+1)
			members[name], i = decodeValue(data, i)
			i = record.SkipSpace(data, i)
		}
		return cty.ObjectVal(members), i + 1
	case '[':
		var elements []cty.Value
		for i = record.SkipSpace(data, i+1); data[i] != ']'; {
			if data[i] == ',' {
				i = record.SkipSpace(data, i+1)
			}
			var e cty.Value
			e, i = decodeValue(data, i)
			elements = append(elements, e)
			i = record.SkipSpace(data, i)
		}
		return cty.TupleVal(elements), i + 1
	case '"':
		end, _ := stringEnd(data, i)
		return cty.StringVal(unquote(data[i:end])), end
	case 't':
		return cty.True, i + len("true")
	case 'f':
		return cty.False, i + len("false")
	case 'n':
		return cty.NullVal(cty.DynamicPseudoType), i + len("null")
	}
	end := scalarEnd(data, i)
	return cty.NumberVal(parseBig(string(data[i:end]))), end
}

// Bounds of numbers that come from outside, so that a short text like
// 1e999999999 cannot become a gigabyte (I9).
const (
	// maxExponent10 bounds the magnitude: beyond 1e4096 a number counts as
	// infinite, below 1e-4096 as zero.
	maxExponent10 = 4096
	// maxDigits bounds the significant digits that are looked at; 512 bits,
	// the precision of HCL's numbers, hold 155.
	maxDigits = 400
)

// parseBig reads a JSON number as cty.ParseNumberVal does, within bounds.
func parseBig(text string) *big.Float {
	mantissa, exponent := text, 0
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		mantissa = text[:e]
		n, err := strconv.Atoi(text[e+1:])
		if err != nil || n > 1<<30 || n < -1<<30 {
			n = 1 << 30
			if text[e+1] == '-' {
				n = -n
			}
		}
		exponent = n
	}
	negative := strings.HasPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	exponent -= len(fraction)
	digits := strings.TrimLeft(whole+fraction, "0")
	if len(digits) > maxDigits {
		exponent += len(digits) - maxDigits
		digits = digits[:maxDigits]
	}
	sign := ""
	if negative {
		sign = "-"
	}
	switch size := exponent + len(digits); {
	case digits == "" || size < -maxExponent10:
		text = sign + "0"
	case size > maxExponent10:
		return new(big.Float).SetPrec(512).SetInf(negative)
	default:
		text = sign + digits + "e" + strconv.Itoa(exponent)
	}
	f, _, err := big.ParseFloat(text, 10, 512, big.ToNearestEven)
	if err != nil {
		panic(fmt.Sprintf("parsing the JSON number %q: %v", text, err))
	}
	return f
}

// maxText is how many significant digits a number that is not whole keeps when
// it is written, as in IEEE 754 decimal128. HCL computes with 512 bits, so that
// 0.1 + 0.2 has 154 digits; nobody wants to store them.
const maxText = 34

// numberText writes a number as plain decimal without an exponent: the
// shortest text that names it, or, if it is not whole and that has more than 34
// digits, rounded to 34.
func numberText(f *big.Float) (string, error) {
	if f.IsInf() {
		return "", errors.New("the number is infinite or beyond 1e4096 and has no JSON form")
	}
	// Text without an exponent grows with the exponent.
	if e := f.MantExp(nil); e > 8*maxExponent10 || e < -8*maxExponent10 {
		return "", errors.New("the number is too large or too small to be written")
	}
	text := f.Text('f', -1)
	if f.IsInt() || significant(text) <= maxText {
		return text, nil
	}
	rounded, _, err := big.ParseFloat(f.Text('e', maxText-1), 10, 512, big.ToNearestEven)
	if err != nil {
		return "", err
	}
	return rounded.Text('f', -1), nil
}

// significant counts the significant digits of a plain decimal.
func significant(text string) int {
	n := 0
	for i := 0; i < len(text); i++ {
		if c := text[i]; c >= '1' && c <= '9' || c == '0' && n > 0 {
			n++
		}
	}
	return n
}

// appendValue appends a cty value as JSON: compact, object members sorted by
// name, strings without HTML escapes.
func appendValue(dst []byte, v cty.Value) ([]byte, error) {
	if v.IsNull() {
		return append(dst, "null"...), nil
	}
	if !v.IsKnown() {
		return dst, errors.New("the value is not known")
	}
	switch t := v.Type(); {
	case t == cty.Bool:
		return strconv.AppendBool(dst, v.True()), nil
	case t == cty.String:
		return record.AppendString(dst, v.AsString()), nil
	case t == cty.Number:
		text, err := numberText(v.AsBigFloat())
		return append(dst, text...), err
	case t.IsObjectType() || t.IsMapType():
		return appendMembers(dst, v)
	case v.CanIterateElements():
		dst = append(dst, '[')
		start := len(dst)
		for it := v.ElementIterator(); it.Next(); {
			if len(dst) > start {
				dst = append(dst, ',')
			}
			_, e := it.Element()
			var err error
			if dst, err = appendValue(dst, e); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	default:
		return dst, fmt.Errorf("%s has no JSON form", t.FriendlyName())
	}
}

func appendMembers(dst []byte, v cty.Value) ([]byte, error) {
	dst = append(dst, '{')
	start := len(dst)
	// ElementIterator visits the attributes of an object sorted by name.
	for it := v.ElementIterator(); it.Next(); {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		k, e := it.Element()
		dst = append(record.AppendString(dst, k.AsString()), ':')
		var err error
		if dst, err = appendValue(dst, e); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
