package config

import (
	"os"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/edged/edged/engine/expr"
)

// evalContext stands in until package expr has its functions.
func evalContext(host expr.Host) *hcl.EvalContext {
	if ctx := expr.EvalContext(host); ctx != nil {
		return ctx
	}
	return &hcl.EvalContext{Functions: map[string]function.Function{
		"hostname": function.New(&function.Spec{Type: function.StaticReturnType(cty.String), Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			h, err := os.Hostname()
			return cty.StringVal(h), err
		}}),
		"env": function.New(&function.Spec{
			Params:   []function.Parameter{{Name: "name", Type: cty.String}},
			VarParam: &function.Parameter{Name: "default", Type: cty.String},
			Type:     function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				if v, ok := os.LookupEnv(args[0].AsString()); ok {
					return cty.StringVal(v), nil
				}
				if len(args) > 1 {
					return args[1], nil
				}
				return cty.StringVal(""), nil
			},
		}),
	}}
}
