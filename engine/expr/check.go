package expr

import (
	"fmt"
	"sort"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Summaries of what can be wrong with an expression.
const (
	sumVariable  = "Unknown variable"
	sumField     = "Unknown record field"
	sumFunction  = "Unknown function"
	sumArguments = "Wrong number of function arguments"
	sumOperand   = "Unsuitable operand"
	sumCondition = "Unsuitable condition"
	sumArgument  = "Unsuitable function argument"
	sumConstant  = "Constant expression fails"
	sumNeverTrue = "Comparison of different types"
)

// checker finds what is wrong with an expression before there is a record.
type checker struct {
	root  Root
	diags hcl.Diagnostics
}

func (c *checker) report(severity hcl.DiagnosticSeverity, at hcl.Range, summary, format string, args ...any) {
	c.diags = append(c.diags, &hcl.Diagnostic{
		Severity: severity, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at,
	})
}

func (c *checker) fail(at hcl.Range, summary, format string, args ...any) {
	c.report(hcl.DiagError, at, summary, format, args...)
}

// check reports what is wrong with e and returns what is known of its type.
func (c *checker) check(e hcl.Expression) Type {
	for _, t := range e.Variables() {
		c.variable(t)
	}
	node, ok := e.(hclsyntax.Expression)
	if !ok {
		return Any // the JSON form of HCL: only its variables can be seen
	}
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok {
			c.call(call)
		}
		return nil
	})
	if c.diags.HasErrors() {
		return Any // types of what is unknown would only repeat the error
	}
	return c.typeOf(node)
}

// variable checks one reference: its root, and the fields of a record.
func (c *checker) variable(t hcl.Traversal) {
	root := t.RootName()
	at := t.SourceRange()
	switch {
	case c.root == None:
		c.fail(at, sumVariable, "No variable may be used here; only literals and functions.")
	case root != string(c.root):
		c.fail(at, sumVariable, "Only `%s` may be used here, not %q.%s", c.root, root,
			meant(root, []string{string(c.root)}))
	case c.root == Record && len(t) > 1:
		c.recordField(t)
	}
}

var recordFields = []string{"id", "device_id", "data_type", "timestamp", "payload"}

func (c *checker) recordField(t hcl.Traversal) {
	name, at, ok := stepName(t[1])
	if !ok {
		return
	}
	for _, f := range recordFields {
		if f != name {
			continue
		}
		if name != "payload" && len(t) > 2 {
			c.fail(t[2].SourceRange(), sumField, "record.%s is a string; it has no attributes or elements.", name)
		}
		return
	}
	better := near(name, recordFields)
	if better == "" {
		better = "payload." + name
	}
	c.fail(at, sumField, "A record has id, device_id, data_type, timestamp and payload. Did you mean record.%s?", better)
}

// stepName returns the member that one step of a traversal names.
func stepName(t hcl.Traverser) (name string, at hcl.Range, ok bool) {
	switch t := t.(type) {
	case hcl.TraverseAttr:
		return t.Name, t.SrcRange, true
	case hcl.TraverseIndex:
		if key, err := convert.Convert(t.Key, cty.String); err == nil && key.IsKnown() && !key.IsNull() {
			return key.AsString(), t.SrcRange, true
		}
	}
	return "", hcl.Range{}, false
}

// call checks a function's name and count of arguments.
func (c *checker) call(call *hclsyntax.FunctionCallExpr) {
	f := functionsByName[call.Name]
	if f == nil {
		names := make([]string, len(functionList))
		for i := range functionList {
			names[i] = functionList[i].Name
		}
		c.fail(call.NameRange, sumFunction, "There is no function %q.%s", call.Name, meant(call.Name, names))
		return
	}
	n := len(call.Args)
	if call.ExpandFinal || n >= f.min && (f.max < 0 || n <= f.max) {
		return
	}
	c.fail(call.Range(), sumArguments, "It is used as %s; here it has %d %s.", f.Usage, n, plural(n, "argument"))
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// near returns the candidate that the name was probably meant to be, or "".
func near(name string, candidates []string) string {
	candidates = append([]string(nil), candidates...)
	sort.Strings(candidates)
	best, distance := "", 3
	if len(name) < 4 {
		distance = 2
	}
	for _, candidate := range candidates {
		if d := levenshtein.Distance(strings.ToLower(name), candidate, nil); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

func meant(name string, candidates []string) string {
	if best := near(name, candidates); best != "" {
		return fmt.Sprintf(" Did you mean %q?", best)
	}
	return ""
}
