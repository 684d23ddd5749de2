package expr

import (
	"errors"
	"fmt"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// MaxConfigKey bounds a key of the device configuration, in bytes.
const MaxConfigKey = 128

// CheckConfigKey says what is wrong with a key of the device configuration: it
// is letters, digits, "-", "_", "/" and single dots between them.
func CheckConfigKey(key string) error {
	if key == "" {
		return errors.New("a key is not empty")
	}
	if len(key) > MaxConfigKey {
		return fmt.Errorf("a key has at most %d characters, this one has %d", MaxConfigKey, len(key))
	}
	for i := range len(key) {
		switch c := key[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '/':
		case c == '.' && i > 0 && i < len(key)-1 && key[i-1] != '.':
		case c == '.':
			return fmt.Errorf("the key %q has a dot at its beginning or end, or two in a row", key)
		default:
			return fmt.Errorf("the key %q may hold letters, digits, -, _, / and single dots only", key)
		}
	}
	return nil
}

func notSet(key string) error {
	return fmt.Errorf("the device configuration has no %q; set it with 'edged config set', or give a default as the second argument", key)
}

// configFunc reads the text as what the default is.
func configFunc(w world) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "key", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType},
		Type: func(args []cty.Value) (cty.Type, error) {
			if len(args) < 2 {
				return cty.String, nil
			}
			if t := args[1].Type(); t.IsPrimitiveType() {
				return t, nil
			}
			return cty.NilType, function.NewArgErrorf(1, "a string, a number, or true or false is required")
		},
		Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
			if w.fixed {
				return cty.NilVal, function.NewArgErrorf(0, "this argument is read once at the start, and the device configuration may change at any time; config() may be used where an expression is evaluated for every record. env() takes a setting from the environment")
			}
			key := args[0].AsString()
			text, ok := w.config(key)
			switch {
			case ok:
				v, err := convert.Convert(cty.StringVal(text), want)
				if err != nil {
					return cty.NilVal, function.NewArgErrorf(0, "the device configuration has %q = %q, but as its default it must be %s", key, text, want.FriendlyName())
				}
				return v, nil
			case len(args) < 2:
				return cty.NilVal, function.NewArgError(0, notSet(key))
			}
			return args[1], nil
		},
	})
}

// callConfig is configFunc in the compiled form.
func callConfig(ev *Evaluator, n *callNode) value {
	key, fallback := n.textArg(ev, 0), value{kind: kindStr}
	if len(n.args) > 1 {
		if fallback = n.args[1].eval(ev); fallback.kind.null() || fallback.kind == kindRaw {
			return ev.fail(kindErr, n.err)
		}
	}
	if v, stop := either(key, fallback); stop {
		return v
	}
	text, ok := ev.world.config(key.text)
	switch {
	case !ok && len(n.args) < 2:
		return ev.fail(kindErr, newError(n.err.Range, "%v", notSet(key.text)))
	case !ok:
		return fallback
	case fallback.kind == kindNum:
		return toNumber(stringValue(text))
	case fallback.kind == kindBool:
		if v := toBool(stringValue(text)); v.kind == kindBool {
			return v
		}
		return value{} // HCL says what is wrong
	}
	return stringValue(nfc(text))
}
