package expr

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"

	"github.com/edged/edged/engine/record"
)

func parse(t testing.TB, src string) hcl.Expression {
	t.Helper()
	e, diags := hclsyntax.ParseExpression([]byte(src), "test.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("parsing %s: %v", src, diags)
	}
	return e
}

func TestAppendJSON(t *testing.T) {
	r := &record.Record{ID: "1", DeviceID: "d", DataType: "s", Timestamp: time.Unix(1, 0), Payload: []byte(`{"a":31.50, "b":[1,{"c":"x\u00e9"}], "a\u0301":"e\u0301"}`)}
	for src, want := range map[string]string{
		`record.payload.a`:                      `31.5`,
		`0.1+0.2`:                               `0.3`,
		`{x = record.payload, y = record.id}`:   `{"x":{"a":31.5,"b":[1,{"c":"xé"}],"á":"é"},"y":"1"}`,
		`round(2.675,2)`:                        `2.68`,
		`round(-9.995,2)`:                       `-10`,
		`round(99.95,1)`:                        `100`,
		`fromunix(1700000000.123)`:              `"2023-11-14T22:13:20.123Z"`,
		`try(record.payload.zz, 5)`:             `5`,
		`contains(["a","s"], record.data_type)`: `true`,
		`timeadd(record.timestamp, "1h")`:       `"1970-01-01T01:00:01Z"`,
		`length(record.payload.b)`:              `2`,
		`jsonencode(record.payload.b)`:          `"[1,{\"c\":\"xé\"}]"`,
		`1e400 > 5 ? 2/3 : 0`:                   `0.6666666666666666666666666666666667`,
	} {
		p, diags := Compile(parse(t, src), Record)
		if diags.HasErrors() {
			t.Errorf("%s: %v", src, diags)
			continue
		}
		got, err := p.AppendJSON(NewEvaluator(Host{}), nil, Value{Record: r})
		if err != nil || string(got) != want {
			t.Errorf("%s = %s, %v; want %s", src, got, err, want)
		}
	}
}

func mustParse(src string) hcl.Expression {
	e, diags := hclsyntax.ParseExpression([]byte(src), "example.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		panic(diags)
	}
	return e
}

// Files in the JSON form of HCL work too; HCL evaluates their expressions.
func TestJSONSyntax(t *testing.T) {
	file, diags := hcljson.Parse([]byte(`{"when": "${record.payload.a > 30}", "bad": "${recrod.id}"}`), "rules.json")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	attrs, _ := file.Body.JustAttributes()
	p, diags := Compile(attrs["when"].Expr, Record)
	if diags.HasErrors() || p.Compiled() {
		t.Fatalf("compiled %v, %v", p.Compiled(), diags)
	}
	got, err := p.Bool(NewEvaluator(Host{}), Value{Record: &record.Record{Payload: []byte(`{"a":31}`)}})
	if !got || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, diags := Compile(attrs["bad"].Expr, Record); !diags.HasErrors() {
		t.Error("no error")
	}
}

// What fails says where and why, and leaves what was there.
func TestErrors(t *testing.T) {
	for src, want := range map[string]string{
		`input.a.b.c`:          `test.hcl:1,10-12: input.a.b is neither an object nor a list, so it has no "c"`,
		`input.a["x y"]`:       `test.hcl:1,8-15: input.a has no "x y"`,
		`input.l[7]`:           `test.hcl:1,8-11: input.l has no "7"`,
		`input.z.b`:            `test.hcl:1,8-10: input.z is null, so it has no "b"`,
		`input.a > 1`:          `test.hcl:1,1-12: both operands must be numbers, but one is null or something else`,
		`"${input.z} is null"`: `test.hcl:1,4-11: a null cannot stand in a string`,
		`split(input.a, "x")`:  `test.hcl:1,7-14: Invalid function argument: Invalid value for "separator" parameter: string required, but have object.`,
		`config("unset")`:      `test.hcl:1,1-16: the device configuration has no "unset"; set it with 'edged config set', or give a default as the second argument`,
		`config("true", 5)`:    `test.hcl:1,9-13: Invalid function argument: Invalid value for "key" parameter: the device configuration has "true" = "true", but as its default it must be number.`,
		`env("NOT_SET")`:       `test.hcl:1,1-15: the environment variable NOT_SET is not set`,
	} {
		p, diags := Compile(parse(t, src), Input)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		got, err := p.AppendJSON(NewEvaluator(testHost), []byte("kept"), Value{JSON: []byte(`{"a":{"b":1},"l":[],"z":null}`)})
		var failure *Error
		if string(got) != "kept" || err == nil || err.Error() != want || !errors.As(err, &failure) {
			t.Errorf("%s:\n%q, %v\nwant %s", src, got, err, want)
		}
	}
}

func TestTypeAndRange(t *testing.T) {
	p, diags := Compile(parse(t, `record.payload.a > 1`), Record)
	if diags.HasErrors() || p.Type() != Bool || p.Range().String() != "test.hcl:1,1-21" {
		t.Errorf("%v, %v, %v", p.Type(), p.Range(), diags)
	}
}
