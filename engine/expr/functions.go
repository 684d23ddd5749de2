package expr

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/edged/edged/engine/record"
)

// Function describes one function that expressions may call. The reference
// page is written from it.
type Function struct {
	// Name is how it is called.
	Name string
	// Usage shows the arguments: "round(number, digits?)".
	Usage string
	// Summary says in one sentence what it returns.
	Summary string

	min, max int  // count of arguments; max < 0: any
	result   Type // Any when it depends on the arguments
	impure   bool // the result may differ from call to call or host to host
	impl     func(w world) function.Function
}

// world is what impure functions may ask.
type world struct {
	now       func() time.Time
	float64   func() float64
	hostname  func() (string, error)
	lookupEnv func(string) (string, bool)
	config    func(string) (string, bool)
	fixed     bool // what is evaluated stays as it is, so config may not be asked
}

func (h Host) world() world {
	w := world{now: h.Now, float64: h.Float64, hostname: h.Hostname, lookupEnv: h.LookupEnv, config: h.Config}
	if w.now == nil {
		w.now = time.Now
	}
	if w.float64 == nil {
		w.float64 = rand.Float64
	}
	if w.hostname == nil {
		w.hostname = os.Hostname
	}
	if w.lookupEnv == nil {
		w.lookupEnv = os.LookupEnv
	}
	if w.config == nil {
		w.config = func(string) (string, bool) { return "", false }
	}
	return w
}

func plain(f function.Function) func(world) function.Function {
	return func(world) function.Function { return f }
}

// Functions lists every function, by name.
func Functions() []Function { return append([]Function(nil), functionList...) }

// functionList is the one list of functions: checks, evaluation and the
// reference page come from it.
var functionList = []Function{
	{Name: "abs", Usage: "abs(number)", Summary: "The number without its sign.", min: 1, max: 1, result: Number, impl: plain(stdlib.AbsoluteFunc)},
	{Name: "can", Usage: "can(expression)", Summary: "Whether the expression evaluates without an error.", min: 1, max: 1, result: Bool, impl: plain(tryfunc.CanFunc)},
	{Name: "ceil", Usage: "ceil(number)", Summary: "The smallest whole number that is not less.", min: 1, max: 1, result: Number, impl: plain(stdlib.CeilFunc)},
	{Name: "coalesce", Usage: "coalesce(value, ...)", Summary: "The first argument that is not null.", min: 1, max: -1, impl: plain(stdlib.CoalesceFunc)},
	{Name: "concat", Usage: "concat(list, ...)", Summary: "One list with the elements of all.", min: 1, max: -1, impl: plain(stdlib.ConcatFunc)},
	{Name: "config", Usage: "config(key, default?)", Summary: "What `edged config set` has set on this device, as it is now: text or, when the default is one, a number or a truth value; the default, or an error without one, when it is not set.", min: 1, max: 2, impure: true, impl: configFunc},
	{Name: "contains", Usage: "contains(list or string, value)", Summary: "Whether the list has an element equal to the value, or the string has the value as a part.", min: 2, max: 2, result: Bool, impl: plain(containsFunc)},
	{Name: "endswith", Usage: "endswith(string, suffix)", Summary: "Whether the string ends with the suffix.", min: 2, max: 2, result: Bool, impl: plain(textTest("suffix", strings.HasSuffix))},
	{Name: "env", Usage: "env(name, default?)", Summary: "The environment variable's text; the default, or an error without one, when it is not set.", min: 1, max: 2, result: String, impure: true, impl: envFunc},
	{Name: "floor", Usage: "floor(number)", Summary: "The greatest whole number that is not more.", min: 1, max: 1, result: Number, impl: plain(stdlib.FloorFunc)},
	{Name: "format", Usage: "format(format, value, ...)", Summary: "The values written as the format says, with verbs like %s, %d and %.2f.", min: 1, max: -1, result: String, impl: plain(stdlib.FormatFunc)},
	{Name: "formatdate", Usage: "formatdate(format, time)", Summary: "The RFC 3339 time in another form, such as \"YYYY-MM-DD\".", min: 2, max: 2, result: String, impl: plain(stdlib.FormatDateFunc)},
	{Name: "fromunix", Usage: "fromunix(seconds)", Summary: "The RFC 3339 time so many seconds after 1970; the fraction counts to the nanosecond.", min: 1, max: 1, result: String, impl: plain(fromUnixFunc)},
	{Name: "hostname", Usage: "hostname()", Summary: "The name of the machine.", result: String, impure: true, impl: hostnameFunc},
	{Name: "join", Usage: "join(separator, list)", Summary: "The list's strings as one, with the separator between them.", min: 2, max: -1, result: String, impl: plain(stdlib.JoinFunc)},
	{Name: "jsondecode", Usage: "jsondecode(string)", Summary: "The value that the JSON text stands for.", min: 1, max: 1, impl: plain(jsonDecodeFunc)},
	{Name: "jsonencode", Usage: "jsonencode(value)", Summary: "The value as JSON text.", min: 1, max: 1, result: String, impl: plain(jsonEncodeFunc)},
	{Name: "keys", Usage: "keys(object)", Summary: "The names of the object's members, sorted.", min: 1, max: 1, impl: plain(stdlib.KeysFunc)},
	{Name: "length", Usage: "length(value)", Summary: "The number of characters, elements or members.", min: 1, max: 1, result: Number, impl: plain(lengthFunc)},
	{Name: "lower", Usage: "lower(string)", Summary: "The string in lower case.", min: 1, max: 1, result: String, impl: plain(stdlib.LowerFunc)},
	{Name: "max", Usage: "max(number, ...)", Summary: "The greatest of the numbers.", min: 1, max: -1, result: Number, impl: plain(stdlib.MaxFunc)},
	{Name: "merge", Usage: "merge(object, ...)", Summary: "One object with the members of all; the last wins.", min: 1, max: -1, impl: plain(stdlib.MergeFunc)},
	{Name: "min", Usage: "min(number, ...)", Summary: "The least of the numbers.", min: 1, max: -1, result: Number, impl: plain(stdlib.MinFunc)},
	{Name: "now", Usage: "now()", Summary: "The current time in RFC 3339, UTC; the same for the whole expression.", result: String, impure: true, impl: nowFunc},
	{Name: "replace", Usage: "replace(string, part, with)", Summary: "The string with every occurrence of the part replaced.", min: 3, max: 3, result: String, impl: plain(stdlib.ReplaceFunc)},
	{Name: "round", Usage: "round(number, digits?)", Summary: "The number rounded, half away from zero, to so many decimal places (0 to 18; default 0).", min: 1, max: 2, result: Number, impl: plain(roundFunc)},
	{Name: "split", Usage: "split(separator, string)", Summary: "The list of parts between the separators.", min: 2, max: 2, impl: plain(stdlib.SplitFunc)},
	{Name: "startswith", Usage: "startswith(string, prefix)", Summary: "Whether the string starts with the prefix.", min: 2, max: 2, result: Bool, impl: plain(textTest("prefix", strings.HasPrefix))},
	{Name: "substr", Usage: "substr(string, offset, length)", Summary: "A part of the string, counted in characters; length -1 goes to the end.", min: 3, max: 3, result: String, impl: plain(stdlib.SubstrFunc)},
	{Name: "timeadd", Usage: "timeadd(time, duration)", Summary: "The RFC 3339 time moved by a duration like \"-1h30m\".", min: 2, max: 2, result: String, impl: plain(stdlib.TimeAddFunc)},
	{Name: "tobool", Usage: "tobool(value)", Summary: "The value as true or false.", min: 1, max: 1, result: Bool, impl: plain(stdlib.MakeToFunc(cty.Bool))},
	{Name: "tonumber", Usage: "tonumber(value)", Summary: "The value as a number.", min: 1, max: 1, result: Number, impl: plain(stdlib.MakeToFunc(cty.Number))},
	{Name: "tostring", Usage: "tostring(value)", Summary: "The value as a string.", min: 1, max: 1, result: String, impl: plain(stdlib.MakeToFunc(cty.String))},
	{Name: "trimspace", Usage: "trimspace(string)", Summary: "The string without white space at its ends.", min: 1, max: 1, result: String, impl: plain(stdlib.TrimSpaceFunc)},
	{Name: "try", Usage: "try(expression, ...)", Summary: "The first expression that evaluates without an error.", min: 1, max: -1, impl: plain(tryfunc.TryFunc)},
	{Name: "uniform", Usage: "uniform(low, high)", Summary: "A random number, evenly spread from low up to high.", min: 2, max: 2, result: Number, impure: true, impl: uniformFunc},
	{Name: "upper", Usage: "upper(string)", Summary: "The string in upper case.", min: 1, max: 1, result: String, impl: plain(stdlib.UpperFunc)},
	{Name: "values", Usage: "values(object)", Summary: "The object's values, in the order of their names.", min: 1, max: 1, impl: plain(stdlib.ValuesFunc)},
}

// functionsByName indexes functionList.
var functionsByName = func() map[string]*Function {
	m := make(map[string]*Function, len(functionList))
	for i := range functionList {
		m[functionList[i].Name] = &functionList[i]
	}
	return m
}()

// functionsFor returns every function as HCL wants it.
func functionsFor(w world) map[string]function.Function {
	m := make(map[string]function.Function, len(functionList))
	for i := range functionList {
		m[functionList[i].Name] = functionList[i].impl(w)
	}
	return m
}

var stringParam = function.Parameter{Name: "string", Type: cty.String}

func textTest(second string, test func(s, t string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam, {Name: second, Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(test(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

var containsFunc = function.New(&function.Spec{
	Params: []function.Parameter{
		{Name: "in", Type: cty.DynamicPseudoType},
		{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true},
	},
	Type: func(args []cty.Value) (cty.Type, error) {
		switch t := args[0].Type(); {
		case t == cty.String:
			if args[1].IsNull() {
				return cty.NilType, function.NewArgErrorf(1, "argument must not be null")
			}
			if args[1].Type() != cty.String {
				return cty.NilType, function.NewArgErrorf(1, "a string is required to look for in a string")
			}
		case t.IsTupleType() || t.IsListType() || t.IsSetType():
		default:
			return cty.NilType, function.NewArgErrorf(0, "a list or a string is required")
		}
		return cty.Bool, nil
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if args[0].Type() == cty.String {
			return cty.BoolVal(strings.Contains(args[0].AsString(), args[1].AsString())), nil
		}
		for it := args[0].ElementIterator(); it.Next(); {
			_, e := it.Element()
			if eq := e.Equals(args[1]); eq.IsKnown() && eq.True() {
				return cty.True, nil
			}
		}
		return cty.False, nil
	},
})

func envFunc(w world) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if text, ok := w.lookupEnv(name); ok {
				return cty.StringVal(text), nil
			}
			if len(args) > 1 {
				return args[1], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "the environment variable %s is not set; set it, or give a default as the second argument", name)
		},
	})
}

func hostnameFunc(w world) function.Function {
	return function.New(&function.Spec{
		Type: function.StaticReturnType(cty.String),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			name, err := w.hostname()
			if err != nil {
				return cty.NilVal, fmt.Errorf("asking for the host name: %w", err)
			}
			return cty.StringVal(name), nil
		},
	})
}

func nowFunc(w world) function.Function {
	return function.New(&function.Spec{
		Type: function.StaticReturnType(cty.String),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			return cty.StringVal(string(record.AppendTime(nil, w.now()))), nil
		},
	})
}

// appendUniform appends a number with a short decimal text: the float64 between
// low and high in its shortest decimal form.
func appendUniform(dst []byte, low, high, r float64) []byte {
	return strconv.AppendFloat(dst, low+(high-low)*r, 'f', -1, 64)
}

func uniformFunc(w world) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "low", Type: cty.Number}, {Name: "high", Type: cty.Number}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			low, _ := args[0].AsBigFloat().Float64()
			high, _ := args[1].AsBigFloat().Float64()
			return cty.ParseNumberVal(string(appendUniform(nil, low, high, w.float64())))
		},
	})
}

var roundFunc = function.New(&function.Spec{
	Params:   []function.Parameter{{Name: "number", Type: cty.Number}},
	VarParam: &function.Parameter{Name: "digits", Type: cty.Number},
	Type:     function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		digits := 0
		switch {
		case len(args) > 2:
			return cty.NilVal, function.NewArgErrorf(2, "round takes a number and the count of digits")
		case len(args) == 2:
			n, acc := args[1].AsBigFloat().Int64()
			if acc != big.Exact || n < 0 || n > maxRoundDigits {
				return cty.NilVal, function.NewArgErrorf(1, "a whole number from 0 to %d is required", maxRoundDigits)
			}
			digits = int(n)
		}
		text, err := numberText(args[0].AsBigFloat())
		if err != nil {
			return cty.NilVal, err
		}
		return cty.ParseNumberVal(roundText(text, digits))
	},
})

// maxRoundDigits bounds the second argument of round.
const maxRoundDigits = 18

// roundText rounds a plain decimal, half away from zero. Zero loses its sign.
func roundText(text string, digits int) string {
	point := strings.IndexByte(text, '.')
	if text == "-0" {
		return "0"
	}
	if point < 0 || len(text)-point-1 <= digits {
		return text
	}
	up := text[point+1+digits] >= '5'
	kept := []byte(text[:point+1+digits])
	if up {
		for i := len(kept) - 1; ; i-- {
			if i < 0 || kept[i] == '-' {
				kept = append(kept[:i+1], append([]byte{'1'}, kept[i+1:]...)...)
				break
			}
			if kept[i] == '.' {
				continue
			}
			if kept[i] != '9' {
				kept[i]++
				break
			}
			kept[i] = '0'
		}
	}
	if s := strings.TrimSuffix(string(kept), "."); strings.Trim(s, "-0.") != "" {
		return s
	}
	return "0"
}

var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		switch t := args[0].Type(); {
		case t == cty.String:
			return stdlib.Strlen(args[0])
		case t.IsObjectType():
			return cty.NumberIntVal(int64(len(t.AttributeTypes()))), nil
		case args[0].CanIterateElements():
			return cty.NumberIntVal(int64(args[0].LengthInt())), nil
		}
		return cty.NilVal, function.NewArgErrorf(0, "a string, a list or an object is required")
	},
})

var jsonEncodeFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, err := appendValue(nil, args[0])
		return cty.StringVal(string(text)), err
	},
})

var jsonDecodeFunc = function.New(&function.Spec{
	Params: []function.Parameter{stringParam},
	Type: func(args []cty.Value) (cty.Type, error) {
		v, err := decodeJSON([]byte(args[0].AsString()))
		if err != nil {
			return cty.NilType, function.NewArgError(0, err)
		}
		return v.Type(), nil
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		return decodeJSON([]byte(args[0].AsString()))
	},
})

var fromUnixFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "seconds", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		whole, err := numberText(args[0].Multiply(cty.NumberIntVal(int64(time.Second))).AsBigFloat())
		if err != nil {
			return cty.NilVal, err
		}
		n, ok := new(big.Int).SetString(roundText(whole, 0), 10)
		if !ok {
			return cty.NilVal, errors.New("a number of seconds is required")
		}
		sec, nsec := new(big.Int).DivMod(n, big.NewInt(int64(time.Second)), new(big.Int))
		if !sec.IsInt64() || sec.Int64() < minUnix || sec.Int64() > maxUnix {
			return cty.NilVal, function.NewArgErrorf(0, "the time is outside the years 1 to 9999; is it in milliseconds? then divide by 1000")
		}
		return cty.StringVal(string(record.AppendTime(nil, time.Unix(sec.Int64(), nsec.Int64())))), nil
	},
})

// minUnix and maxUnix bound the years 1 to 9999.
const (
	minUnix = -62135596800
	maxUnix = 253402300799
)
