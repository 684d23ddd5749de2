package expr

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

func TestCompileDiagnostics(t *testing.T) {
	for _, c := range []struct {
		src     string
		root    Root
		summary string
		detail  string // a part of it
		at      string // the text that the subject covers
	}{
		{`recrod.payload.a > 1`, Record, sumVariable, `Did you mean "record"?`, `recrod.payload.a`},
		{`input.a`, Record, sumVariable, "Only `record` may be used here", `input.a`},
		{`record.id`, Input, sumVariable, "Only `input` may be used here", `record.id`},
		{`record.id`, None, sumVariable, "No variable may be used here", `record.id`},
		{`record.temperature > 3`, Record, sumField, "Did you mean record.payload.temperature?", `.temperature`},
		{`record["devise_id"]`, Record, sumField, "Did you mean record.device_id?", `["devise_id"]`},
		{`record.paylod.a`, Record, sumField, "Did you mean record.payload?", `.paylod`},
		{`record.id.x`, Record, sumField, "record.id is a string", `.x`},
		{`rond(1.5)`, None, sumFunction, `Did you mean "round"?`, `rond`},
		{`frobnicate(1)`, None, sumFunction, `There is no function "frobnicate".`, `frobnicate`},
		{`round()`, None, sumArguments, "round(number, digits?); here it has 0 arguments", `round()`},
		{`env("A", "b", "c")`, None, sumArguments, "here it has 3 arguments", `env("A", "b", "c")`},
		{`config("a b")`, Record, sumArgument, "letters, digits, -, _, / and single dots only", `"a b"`},
		{`config("a..b", 1)`, Record, sumArgument, "two in a row", `"a..b"`},
		{`config("a", [1])`, Record, sumArgument, "must be a string, a number, or true or false, but it is a list", `[1]`},
		{`config("a", 5) && true`, Record, sumOperand, "must be true or false, but it is a number", `config("a", 5)`},
		{`1 + "x"`, None, sumConstant, "a number is required", `"x"`},
		{`record.payload.a + "x"`, Record, sumOperand, "an operand of arithmetic must be a number, but it is a string", `"x"`},
		{`record.payload.a < "x"`, Record, sumOperand, "Strings have no order", `"x"`},
		{`record.timestamp > "2026-01-01T00:00:00Z"`, Record, sumOperand, "record.timestamp is a string", `record.timestamp`},
		{`record.payload.a && 5`, Record, sumOperand, "must be true or false, but it is a number", `5`},
		{`!{ a = record.id }`, Record, sumOperand, "must be true or false, but it is an object", `{ a = record.id }`},
		{`-record.payload`, Record, sumOperand, "must be a number, but it is an object", `record.payload`},
		{`"x ${record.payload}"`, Record, sumOperand, "must be a string, but it is an object", `record.payload`},
		{`record.payload.a > null`, Record, sumOperand, "it is null", `null`},
		{`"abc" ? record.id : 1`, Record, sumCondition, "must be true or false", `"abc"`},
		{`record.id == "x" ? 1 : true`, Record, sumCondition, "one is a number and the other true or false", `1 : true`},
		{`abs(record.payload)`, Record, sumArgument, `the argument "num" of abs must be a number`, `record.payload`},
		{`lower([record.id])`, Record, sumArgument, "must be a string, but it is a list", `[record.id]`},
	} {
		p, diags := Compile(parse(t, c.src), c.root)
		if p != nil || len(diags) == 0 {
			t.Errorf("%s: no error", c.src)
			continue
		}
		d := diags[0]
		if d.Subject == nil {
			t.Errorf("%s: no subject", c.src)
			continue
		}
		at := string(d.Subject.SliceBytes([]byte(c.src)))
		if d.Severity != hcl.DiagError || d.Summary != c.summary || !strings.Contains(d.Detail, c.detail) || at != c.at {
			t.Errorf("%s:\n%s: %s\nat %q, want %s: …%s… at %q", c.src, d.Summary, d.Detail, at, c.summary, c.detail, c.at)
		}
	}
}

// Everything that is wrong is said at once.
func TestCompileReportsAll(t *testing.T) {
	_, diags := Compile(parse(t, `foo(record.temp) && recor.id == bar()`), Record)
	if len(diags) != 4 {
		t.Errorf("%d diagnostics, want 4: %v", len(diags), diags)
	}
}

func TestCompileAccepts(t *testing.T) {
	for _, src := range []string{
		`record.payload.a > "31.5"`, `"true" && record.payload.a`, `record.payload["a"][0].b`,
		`try(record.payload.a + "x", 1)`, `can(1 + "x")`, `[for v in record.payload.list : v.x if v.y > 2]`,
		`record.payload.list[*].x`, `record[record.payload.which]`, `max(record.payload.list...)`,
		`{ (record.id) = 1 }`, `record.payload.a == null ? null : record.payload.a`, `env("HOME", "") == ""`,
		"<<EOT\n%{ for v in record.payload.list }${v}%{ endfor }\nEOT\n",
	} {
		if _, diags := Compile(parse(t, src), Record); len(diags) > 0 {
			t.Errorf("%s: %v", src, diags)
		}
	}
}

func TestCompileWarns(t *testing.T) {
	p, diags := Compile(parse(t, `record.data_type == 5`), Record)
	if p == nil || len(diags) != 1 || diags[0].Severity != hcl.DiagWarning || diags[0].Summary != sumNeverTrue {
		t.Errorf("%v, %v", p, diags)
	}
}

func TestRequire(t *testing.T) {
	for _, c := range []struct {
		src  string
		want Type
		ok   bool
	}{
		{`"abc"`, Bool, false},
		{`"true"`, Bool, true},
		{`5`, Bool, false},
		{`null`, Bool, false},
		{`record.payload.a`, Bool, true},
		{`record.payload.a > 1`, Bool, true},
		{`record.payload.a + 1`, Bool, false},
		{`record.device_id`, Bool, true},
		{`{ a = 1 }`, Bool, false},
		{`record.payload`, Object, true},
		{`record.payload`, String, false},
		{`5`, String, true},
		{`[record.id]`, Object, false},
		{`record.id == "x" ? "a" : 5`, Number, true},
		{`round(record.payload.a)`, Number, true},
		{`"5"`, Number, true},
		{`"x"`, Number, false},
		{`try(record.payload.a, true)`, Number, true},
		{`try(1, 2)`, Bool, false},
		{`[1]`, Any, true},
	} {
		p, diags := Compile(parse(t, c.src), Record)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		got := p.Require(c.want, "when")
		if got.HasErrors() == c.ok {
			t.Errorf("%s as %s: %v", c.src, c.want, got)
		}
		if got.HasErrors() && (got[0].Subject == nil || !strings.HasPrefix(got[0].Detail, "when must be "+c.want.String())) {
			t.Errorf("%s: %v", c.src, got)
		}
	}
}

func TestFunctionsAreListed(t *testing.T) {
	last := ""
	for _, f := range Functions() {
		if f.Name <= last {
			t.Errorf("%s stands after %s", f.Name, last)
		}
		last = f.Name
		if !strings.HasPrefix(f.Usage, f.Name+"(") || !strings.HasSuffix(f.Summary, ".") {
			t.Errorf("%s: usage %q, summary %q", f.Name, f.Usage, f.Summary)
		}
	}
	for name := range compiledCalls {
		if functionsByName[name] == nil {
			t.Errorf("%s is compiled but not listed", name)
		}
	}
	if got := len(EvalContext(Host{}).Functions); got != len(Functions()) {
		t.Errorf("%d functions in the context", got)
	}
}
