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
		root, err := p.rootValue(v)
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

// rootValue builds what the variable `record` or `input` stands for, as far as
// the expression can reach into it.
func (p *Program) rootValue(v Value) (cty.Value, error) {
	d := decoder{guard: p.numbers}
	if p.root == Input {
		return d.decode(v.JSON, p.wanted)
	}
	r := v.Record
	if r == nil {
		return cty.NilVal, errors.New("there is no record to evaluate on")
	}
	payload := cty.EmptyObjectVal
	if below, ok := p.wanted.under("payload"); ok {
		var err error
		if payload, err = d.decode(r.Payload, below); err != nil {
			return cty.NilVal, fmt.Errorf("reading the payload: %w", err)
		}
	}
	return cty.ObjectVal(map[string]cty.Value{
		"id":        cty.StringVal(r.ID),
		"device_id": cty.StringVal(r.DeviceID),
		"data_type": cty.StringVal(r.DataType),
		"timestamp": cty.StringVal(string(record.AppendTime(nil, r.Timestamp))),
		"payload":   payload,
	}), nil
}

// decodeJSON turns one JSON value into cty.
func decodeJSON(data []byte) (cty.Value, error) {
	d := decoder{guard: true}
	return d.decode(data, nil)
}

// decoder turns JSON into cty: objects into object values, arrays into tuples.
// Of a member that stands twice the last wins, as in encoding/json. Numbers are
// read as HCL reads its own, see [parseBig].
type decoder struct {
	data []byte
	err  error
	// guard refuses a string that HCL could take for a number beyond our bounds:
	// HCL has none, and to compare "1e600000000" takes it seconds and hundreds of
	// megabytes (I9).
	guard bool
}

func (d *decoder) decode(data []byte, w wanted) (cty.Value, error) {
	if err := record.Valid(data); err != nil {
		return cty.NilVal, err
	}
	d.data = data
	v, _ := d.value(record.SkipSpace(data, 0), w)
	return v, d.err
}

// value reads the value at data[i] and returns the position after it.
func (d *decoder) value(i int, w wanted) (cty.Value, int) {
	switch data := d.data; data[i] {
	case '{':
		return d.object(i, w)
	case '[':
		return d.array(i)
	case '"':
		end, _ := stringEnd(data, i)
		text := unquote(data[i:end])
		if d.guard && d.err == nil && oversized(text) {
			d.err = fmt.Errorf("the string %.20q... reads as a number beyond 1e%d or of more than %d digits", text, maxExponent10, maxDigits)
		}
		return cty.StringVal(text), end
	case 't':
		return cty.True, i + len("true")
	case 'f':
		return cty.False, i + len("false")
	case 'n':
		return cty.NullVal(cty.DynamicPseudoType), i + len("null")
	default:
		end := scalarEnd(data, i)
		return cty.NumberVal(parseBig(string(data[i:end]))), end
	}
}

func (d *decoder) object(i int, w wanted) (cty.Value, int) {
	members := make(map[string]cty.Value)
	for i = record.SkipSpace(d.data, i+1); d.data[i] != '}'; {
		if d.data[i] == ',' {
			i = record.SkipSpace(d.data, i+1)
		}
		end, _ := stringEnd(d.data, i)
		name := nfc(unquote(d.data[i:end]))
		i = record.SkipSpace(d.data, record.SkipSpace(d.data, end)+1)
		if below, ok := w.under(name); ok {
			members[name], i = d.value(i, below)
		} else {
			i = valueEnd(d.data, i)
		}
		i = record.SkipSpace(d.data, i)
	}
	return cty.ObjectVal(members), i + 1
}

func (d *decoder) array(i int) (cty.Value, int) {
	var elements []cty.Value
	for i = record.SkipSpace(d.data, i+1); d.data[i] != ']'; {
		if d.data[i] == ',' {
			i = record.SkipSpace(d.data, i+1)
		}
		var e cty.Value
		e, i = d.value(i, nil)
		elements = append(elements, e)
		i = record.SkipSpace(d.data, i)
	}
	return cty.TupleVal(elements), i + 1
}

// oversized reports whether the text reads as a number that is out of bounds:
// too many digits, or an exponent of ten or two that is too great.
func oversized(text string) bool {
	i := len(text)
	for i > 0 && text[i-1] >= '0' && text[i-1] <= '9' {
		i--
	}
	exponent := text[i:]
	if i > 0 && (text[i-1] == '+' || text[i-1] == '-') {
		i--
	}
	mantissa := text
	if i > 0 && strings.IndexByte("eEpP", text[i-1]) >= 0 {
		mantissa = text[:i-1]
	} else {
		exponent = ""
	}
	if mantissa == "" || strings.Trim(mantissa, "+-.0123456789") != "" {
		return false
	}
	n, err := strconv.Atoi(exponent)
	return len(mantissa) > maxDigits || exponent != "" && (err != nil || n > maxExponent10)
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
	switch size := exponent + len(digits) - 1; {
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
