package expr

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// operands are one of every kind of value and of failure.
var operands = []string{
	`input.null`, `input.missing`, `input.t`, `input.n`, `input.s`, `input.number`, `input.truth`, `input.list`, `input.object`,
	`(input.missing > 1)`, `(input.missing + 1)`, `"x${input.missing}"`, `"true${input.null}"`, `tonumber(input.null)`, `(input.n + 0.2)`,
	`(input.n / 3)`, `null`, `false`, `30`, `"é"`,
}

const cornerInput = `{"null":null,"t":true,"n":0.1,"s":"text","number":"31.5","truth":"true","list":[1,"text",null],"object":{"a":{"b":2}}}`

// TestCornersAgreeWithHCL puts every kind of operand into every place.
func TestCornersAgreeWithHCL(t *testing.T) {
	forms := []string{
		`A && B`, `A || B`, `A == B`, `A != B`, `A < B`, `A >= B`, `A + B`, `A / B`, `A % B`, `!A`, `-A`, `"${A}-${B}"`, `"x${A}"`,
		`A ? 1 : B`, `A ? B : "x"`, `input.t ? A : B`, `input.missing ? A : B`, `input.null ? A : B`, `input.s ? A : B`, `"${input.missing}" ? A : B`,
		`"x${input.null}" ? A : B`, `(input.t ? A : B) && true`, `(input.t ? A : B) ? A : B`, `(input.missing ? A : B) || true`, `(input.t ? A : 1) == B`,
		`coalesce(A, B)`, `coalesce(A)`, `try(A, B)`, `can(A)`, `contains(A, B)`, `contains(["text", 0.1, null, true], A)`, `contains([A], B)`,
		`startswith(A, B)`, `endswith(A, "t")`, `lower(A)`, `upper(A)`, `trimspace(A)`, `abs(A)`, `floor(A)`, `ceil(A)`, `round(A)`, `round(A, B)`,
		`min(A, B)`, `max(A, B)`, `tonumber(A)`, `tostring(A)`, `uniform(A, B)`, `env("UNSET", A)`, `env(A)`, `fromunix(A)`,
		`{ a = A, b = B }`, `[A, B]`, `{ a = A, a = B }`, `{ "a" = { b = A } }`, `try({ a = A }, [B])`, `(A)`, `"${A}"`, `try(A, B) == A`, `can(A) || B`,
	}
	compiledCount := 0
	for _, form := range forms {
		others := operands
		if !strings.Contains(form, "B") {
			others = operands[:1]
		}
		for _, a := range operands {
			for _, b := range others {
				src := strings.NewReplacer("A", a, "B", b).Replace(strings.ReplaceAll(form, "UNSET", "unset"))
				e, diags := hclsyntax.ParseExpression([]byte(src), "corner.hcl", hcl.InitialPos)
				if diags.HasErrors() {
					t.Fatalf("%s: %v", src, diags)
				}
				p, diags := Compile(e, Input)
				if diags.HasErrors() {
					continue // can never work, and is said so
				}
				if p.Compiled() {
					compiledCount++
				}
				cornerAgrees(t, src, p)
			}
		}
	}
	if compiledCount < 5000 {
		t.Errorf("only %d were compiled", compiledCount)
	}
}

func cornerAgrees(t *testing.T, src string, p *Program) {
	t.Helper()
	plain := *p
	plain.node, plain.out, plain.wanted = nil, nil, nil
	ev, v := NewEvaluator(testHost), Value{JSON: []byte(cornerInput)}
	got, err := p.AppendJSON(ev, nil, v)
	want, wantErr := plain.AppendJSON(ev, nil, v)
	if string(got) != string(want) || (err == nil) != (wantErr == nil) {
		t.Errorf("JSON of %s\ncompiled: %s, %v\nHCL:      %s, %v", src, got, err, want, wantErr)
	}
	gotBool, err := p.Bool(ev, v)
	wantBool, wantErr := plain.Bool(ev, v)
	if gotBool != wantBool || (err == nil) != (wantErr == nil) {
		t.Errorf("Bool of %s\ncompiled: %v, %v\nHCL:      %v, %v", src, gotBool, err, wantBool, wantErr)
	}
	gotText, err := p.Text(ev, v)
	wantText, wantErr := plain.Text(ev, v)
	if gotText != wantText || (err == nil) != (wantErr == nil) {
		t.Errorf("Text of %s\ncompiled: %q, %v\nHCL:      %q, %v", src, gotText, err, wantText, wantErr)
	}
	for _, err := range []error{err, wantErr} {
		if err != nil && !strings.HasPrefix(err.Error(), "corner.hcl:1,") {
			t.Errorf("%s: the error does not say where: %v", src, err)
		}
	}
}
