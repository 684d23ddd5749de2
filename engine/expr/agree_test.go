package expr

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/edged/edged/engine/record"
)

// testHost is a world in which nothing changes.
var testHost = Host{
	Now:      func() time.Time { return time.Date(2026, 11, 22, 6, 15, 0, 123e6, time.UTC) },
	Float64:  func() float64 { return 0.37251 },
	Hostname: func() (string, error) { return "edge-1", nil },
	LookupEnv: func(name string) (string, bool) {
		return "from the environment", name == "SET"
	},
	Config: func(key string) (string, bool) {
		text, ok := map[string]string{"text": "e\u0301x", "number": "25.50", "big": "1e999", "true": "true", "one": "1", "c": " 5"}[key]
		return text, ok
	},
}

// generator writes random documents and expressions over them.
type generator struct {
	*rand.Rand
	root Root
	tame bool // most documents have numbers, and expressions fit them
}

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

var names = []string{"a", "b", "c", "temperature", "true", "é", "0", "x y"}

// json writes one JSON value.
func (g generator) json(depth int) string {
	n := g.IntN(14) - 4
	if depth <= 0 && n >= 8 {
		n = g.IntN(8)
	}
	switch {
	case n < 4:
		return g.jsonNumber()
	case n < 7:
		return g.pick(`""`, `"x"`, `"mote-1"`, `"31.5"`, `"-0"`, `"true"`, `"0"`, `"abc"`, `"a\u0301"`, `"é"`, "\"e\u0301\"", `"\ud83d\ude00"`,
			`"\ud800x"`, `"q\"\\\/\n\u0001"`, `"1e5"`, `"+5"`, `"Inf"`, `"\u0301"`, `" pad "`, `"<&>"`, `"12345678901234567890abc"`, `"1e999"`, `"ÀB"`)
	case n < 8:
		return g.pick("true", "false", "null", "null")
	case n < 9:
		return g.object(depth - 1)
	}
	var parts []string
	for range g.IntN(4) {
		parts = append(parts, g.json(depth-1))
	}
	return "[" + strings.Join(parts, g.pick(",", " , ")) + "]"
}

func (g generator) jsonNumber() string {
	switch g.IntN(8) {
	case 0:
		return g.pick("0", "-0", "-0.0", "0.0", "1", "-1", "30", "30.0", "3e1", "300E-1", "0.1", "0.2", "0.3", "2.675", "1e400", "-1e400", "1e-400", "1e5000", "1e-5000", "9223372036854775807", "9223372036854775808",
			"-9223372036854775808", "18446744073709551616", "0.30000000000000004", "22.371234567891234", "1.00000000000000000000000000000000000000001", "123456789012345678901234567890.5", "1e19", "1e-19", "1e-20", "1e999999999999", "0.5", "2.5", "1e18")
	case 1:
		return fmt.Sprint(g.IntN(100) - 50)
	case 2:
		return fmt.Sprint(g.Int64() >> g.IntN(63))
	case 3:
		return fmt.Sprintf("%.*f", g.IntN(6), g.Float64()*100-50)
	case 4:
		return fmt.Sprint(float64(g.IntN(1000)) / 8)
	case 5:
		return fmt.Sprint(g.Float64() * 100)
	case 6:
		return fmt.Sprintf("%d.%0*d", g.IntN(40), 1+g.IntN(3), g.IntN(10))
	}
	return fmt.Sprintf("%de%d", g.IntN(1000), g.IntN(60)-30)
}

func (g generator) object(depth int) string {
	var parts []string
	keys := g.Perm(len(names))
	if !g.tame || g.IntN(8) == 0 {
		keys = keys[:g.IntN(len(names)+1)]
	}
	if g.IntN(3) == 0 { // a member may stand twice
		keys = append(keys, g.IntN(len(names)))
	}
	for _, k := range keys {
		key := `"` + names[k] + `"`
		switch key {
		case `"é"`:
			key = g.pick(key, `"\u00e9"`, "\"e\u0301\"")
		case `"a"`:
			key = g.pick(key, key, `"\u0061"`)
		}
		value := g.json(depth)
		if g.tame && g.IntN(12) > 0 {
			value = g.tenth()
			if names[k] == "c" {
				value = g.pick(`"x"`, `"mote-1"`, `"0.3"`, "true", "false", `"e"`)
			}
		}
		parts = append(parts, g.pick("", " ", "\n")+key+g.pick(":", ": ", " : ")+value)
	}
	return "{" + strings.Join(parts, ",") + g.pick("", " ") + "}"
}

// tenth writes a number that sums meet often.
func (g generator) tenth() string {
	if g.IntN(4) == 0 {
		return fmt.Sprintf("%.2f", float64(g.IntN(40)-10)/4)
	}
	return fmt.Sprintf("%.1f", float64(g.IntN(12)-4)/10)
}

// number writes an expression that is likely a number.
func (g generator) number(depth int) string {
	if depth <= 0 || g.IntN(5) == 0 {
		if g.IntN(3) == 0 {
			return strings.TrimPrefix(g.tenth(), "-")
		}
		s := string(g.root)
		if g.root == Record {
			s += ".payload"
		}
		return s + g.pick(".a", ".b", ".temperature", `["x y"]`)
	}
	sub := func() string { return g.number(depth - 1) }
	switch g.IntN(10) {
	case 0:
		return "-(" + sub() + ")"
	case 1:
		return g.pick("round", "abs", "floor", "ceil", "tonumber") + "(" + sub() + ")"
	case 2:
		return g.pick("min", "max", "coalesce") + "(" + sub() + ", " + sub() + ")"
	case 3:
		return "round(" + sub() + ", " + g.pick("0", "1", "2") + ")"
	case 4:
		return "(" + g.cond(depth-1) + " ? " + sub() + " : " + sub() + ")"
	}
	return "(" + sub() + g.pick(" + ", " - ", " * ", " / ", " % ", " + ", " - ") + sub() + ")"
}

// path writes a traversal.
func (g generator) path() string {
	s := string(g.root)
	if g.root == Record {
		if n := g.IntN(8); n < 4 {
			return s + g.pick(".id", ".device_id", ".data_type", ".timestamp")
		}
		s += ".payload"
	}
	for i := range 1 + g.IntN(4)/3 + g.IntN(2)*g.IntN(2)*g.IntN(2) {
		switch g.IntN(8 + 8/(1+3*i)) {
		case 0:
			s += g.pick("[0]", "[1]", `["0"]`, `[-1]`, `[1.5]`, `[true]`)
		case 1:
			s += g.pick(`["x y"]`, `["é"]`, "[\"e\u0301\"]")
		default:
			s += "." + g.pick("a", "b", "c", "temperature", "a", "b", "true", "é")
		}
	}
	return s
}

func (g generator) literal() string {
	if g.IntN(3) == 0 {
		return g.pick(`"x"`, `"mote-"`, `"31.5"`, `"true"`, `"é"`, "\"e\u0301\"", `""`, "true", "false", "null")
	}
	return strings.TrimPrefix(g.pick("0", "1", "30", "0.1", "0.2", "0.3", "2.5", "10", "1000", "3", "7", "0.125", "1e400", "1e19", "2.675", "5e-1", "100", "1.8", "32", "0.000001"), "-")
}

// expr writes one expression.
func (g generator) expr(depth int) string {
	if depth <= 0 || g.IntN(6) == 0 {
		if g.IntN(5) < 3 {
			return g.path()
		}
		return g.literal()
	}
	sub := func() string { return g.expr(depth - 1) }
	if g.tame && g.IntN(3) > 0 {
		switch g.IntN(5) {
		case 0:
			return g.number(depth)
		case 1:
			return `"` + g.pick("", "x ") + "${" + g.number(depth-1) + `}"`
		case 2:
			return "{ a = " + g.number(depth-1) + ", b = " + g.cond(depth-1) + " }"
		}
		return g.cond(depth)
	}
	switch g.IntN(16) {
	case 0, 1:
		return "(" + sub() + g.pick(" < ", " <= ", " > ", " >= ") + sub() + ")"
	case 2:
		return "(" + sub() + g.pick(" == ", " != ") + sub() + ")"
	case 3, 4:
		return "(" + g.cond(depth-1) + g.pick(" && ", " || ") + g.cond(depth-1) + ")"
	case 5, 6, 7:
		return "(" + sub() + g.pick(" + ", " - ", " * ", " / ", " % ") + sub() + ")"
	case 8:
		return g.pick("!", "-") + "(" + sub() + ")"
	case 9:
		return "(" + g.cond(depth-1) + " ? " + sub() + " : " + sub() + ")"
	case 10:
		return `"` + g.pick("", "x ", "e") + "${" + sub() + "}" + g.pick("", " y", "\u0301") + g.pick("", "${"+sub()+"}") + `"`
	case 11:
		return g.pick("round", "abs", "floor", "ceil", "lower", "upper", "tonumber", "tostring", "trimspace", "can", "fromunix", "length") + "(" + sub() + ")"
	case 12:
		return g.pick("min", "max", "coalesce", "try", "startswith", "endswith", "contains", "uniform", "round") + "(" + sub() + ", " + sub() + ")"
	case 13:
		return "try(" + sub() + ", " + g.literal() + ")"
	case 14:
		return g.pick("now()", "hostname()", `env("SET")`, `env("UNSET")`, `env("UNSET", `+sub()+`)`, "uniform(-3, 3)", "config("+g.pick(`"text"`, `"number"`, `"big"`, `"true"`, `"one"`, `"c"`, `"unset"`, sub())+g.pick("", ", 30", ", true", `, "x"`, ", "+sub())+")", "round("+sub()+", "+g.pick("0", "1", "2", "5", "18", "19")+")",
			"contains(["+g.literal()+", "+g.literal()+"], "+sub()+")", "contains(["+sub()+"], "+sub()+")")
	}
	return g.pick("{ b = "+sub()+", a = "+sub()+", \"x y\" = "+sub()+" }", "[ "+sub()+", "+sub()+" ]", "{}", "{ a = "+sub()+", a = "+sub()+" }", "try({ a = "+sub()+" }, "+sub()+")", sub()+".a", "[for v in ["+sub()+"] : v]")
}

// cond writes an expression that is likely a truth value.
func (g generator) cond(depth int) string {
	if g.tame && g.IntN(5) > 0 {
		return "(" + g.number(depth-1) + g.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + g.number(depth-1) + ")"
	}
	switch g.IntN(4) {
	case 0:
		return g.expr(depth)
	case 1:
		return g.path()
	}
	return g.expr(depth-1) + g.pick(" < ", " > ", " == ", " != ") + g.expr(depth-1)
}

// tally counts what a run of the agreement saw.
type tally struct{ total, wrong, compiled, failed, bailed int }

// agree compares the compiled form with HCL on one random case.
func agree(t *testing.T, seed uint64, n *tally) {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 7)), root: Record, tame: seed%2 == 0}
	if g.IntN(2) == 0 {
		g.root = Input
	}
	src := g.expr(1 + g.IntN(4))
	e, diags := hclsyntax.ParseExpression([]byte(src), "agree.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("seed %d: %s does not parse: %v", seed, src, diags)
	}
	n.total++
	compiled, diags := Compile(e, g.root)
	if diags.HasErrors() {
		n.wrong++
		return
	}
	if compiled.Compiled() {
		n.compiled++
	}
	plain := *compiled
	plain.node, plain.out, plain.wanted = nil, nil, nil
	ev, other := NewEvaluator(testHost), NewEvaluator(testHost)
	for range 3 {
		var v Value
		if g.root == Record {
			v.Record = &record.Record{
				ID: g.pick("1", "rec-é", "e\u0301"), DeviceID: g.pick("mote-1", "31", "A"), DataType: g.pick("sensor_reading", "x"),
				Timestamp: time.Unix(1700000000, g.Int64N(1e9)), Payload: []byte(g.object(2)),
			}
		} else {
			v.JSON = []byte(g.json(3))
			if g.IntN(3) > 0 {
				v.JSON = []byte(g.object(2))
			}
		}
		report := func(what string, got, want any, err, wantErr error) {
			t.Helper()
			doc := string(v.JSON)
			if v.Record != nil {
				doc = string(v.Record.AppendJSON(nil))
			}
			t.Errorf("seed %d: %s of %s\non %s\ncompiled: %v, %v\nHCL:      %v, %v", seed, what, src, doc, got, err, want, wantErr)
		}
		prefix := []byte("kept")
		got, err := compiled.AppendJSON(ev, prefix, v)
		want, wantErr := plain.AppendJSON(other, prefix, v)
		if string(got) != string(want) || (err == nil) != (wantErr == nil) {
			report("JSON", string(got), string(want), err, wantErr)
		}
		if wantErr != nil {
			n.failed++
		}
		if ev.ctx != nil && compiled.Compiled() {
			n.bailed++
			ev.ctx = nil
		}
		gotBool, err := compiled.Bool(ev, v)
		wantBool, wantErr := plain.Bool(other, v)
		if gotBool != wantBool || (err == nil) != (wantErr == nil) {
			report("Bool", gotBool, wantBool, err, wantErr)
		}
		gotText, err := compiled.Text(ev, v)
		wantText, wantErr := plain.Text(other, v)
		if gotText != wantText || (err == nil) != (wantErr == nil) {
			report("Text", gotText, wantText, err, wantErr)
		}
	}
}

func TestCompiledAgreesWithHCL(t *testing.T) {
	var n tally
	for seed := range uint64(2500) {
		agree(t, seed, &n)
		if t.Failed() {
			break
		}
	}
	t.Logf("%+v", n)
	// A generator that only writes nonsense proves nothing.
	if n.compiled < n.total/4 || n.failed > n.total*5/2 || n.bailed > n.total {
		t.Errorf("too few expressions were worth comparing: %+v", n)
	}
}

func FuzzCompiledAgreesWithHCL(f *testing.F) {
	for seed := range uint64(16) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { agree(t, seed, new(tally)) })
}
