package expr

import (
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

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

func TestSmoke(t *testing.T) {
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
