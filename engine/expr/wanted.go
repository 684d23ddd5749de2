package expr

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/text/unicode/norm"
)

// wanted says which members of a JSON value an expression can reach, so that
// HCL is given only those. A nil wanted is everything.
type wanted map[string]wanted

// wantedBy returns what e can reach below the variable.
func wantedBy(e hcl.Expression) wanted {
	root := wanted{}
	for _, t := range e.Variables() {
		if root = root.add(t[1:]); root == nil {
			return nil
		}
	}
	return root
}

// add returns w with what the traversal reaches.
func (w wanted) add(t hcl.Traversal) wanted {
	if w == nil || len(t) == 0 {
		return nil
	}
	name, _, ok := stepName(t[0])
	if !ok {
		return nil
	}
	name = norm.NFC.String(name)
	below, seen := w[name]
	if !seen {
		below = wanted{}
	}
	w[name] = below.add(t[1:])
	return w
}

// under returns what is wanted of a member.
func (w wanted) under(name string) (below wanted, ok bool) {
	if w == nil {
		return nil, true
	}
	below, ok = w[name]
	return below, ok
}

// readsNumbers reports whether HCL may turn a string into a number somewhere in
// e.
func readsNumbers(e hcl.Expression) bool {
	node, ok := e.(hclsyntax.Expression)
	if !ok {
		return true
	}
	found := false
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.BinaryOpExpr:
			found = found || n.Op.Impl.Params()[0].Type == cty.Number
		case *hclsyntax.UnaryOpExpr:
			found = found || n.Op == hclsyntax.OpNegate
		case *hclsyntax.IndexExpr:
			found = true
		case *hclsyntax.FunctionCallExpr:
			found = found || callReadsNumbers(n.Name)
		}
		return nil
	})
	return found
}

func callReadsNumbers(name string) bool {
	if name == "tonumber" || name == "format" {
		return true
	}
	f := pureContext.Functions[name]
	for _, p := range f.Params() {
		if p.Type == cty.Number {
			return true
		}
	}
	rest := f.VarParam()
	return rest != nil && rest.Type == cty.Number
}
