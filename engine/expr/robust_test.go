package expr

import (
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/edged/edged/engine/record"
)

// FuzzAnyBytes feeds what is no JSON, which the contract forbids, to every
// scanner: the answers are free, but nothing may panic or hang.
func FuzzAnyBytes(f *testing.F) {
	for _, seed := range []string{
		``, `{`, `{"a`, `{"a"`, `{"a":`, `{"a":"`, `{"a":"\`, `{"a":"\u12`, `{"a":[`, `{"a":[1`, `{"a":[1,`, `{"a":{"b"`, `{"a":-`, `{"a":1e`,
		`{"a":nul`, `{"a":1,,}`, `{"a" 1}`, `[`, `["x`, `"`, `"a`, `nul`, `-`, `{"a":"\ud800\u"}`, `}`, `{"a":1}x`, "{\"a\":\"\xff\"}", `{"a":{]}`,
	} {
		f.Add([]byte(seed))
	}
	var programs []*Program
	for _, src := range []string{
		`input`, `input.a`, `input.a.b`, `input.a[1]`, `input[0]`, `input.a > 1`, `"x${input.a}"`, `contains(input.a, "x")`,
		`{ v = input.a, w = input }`, `lower(input.a)`, `round(input.a, 1)`, `try(input.a.b.c, input.é)`, `input.a == input.b`,
	} {
		p, diags := Compile(parse(f, src), Input)
		if diags.HasErrors() || !p.Compiled() {
			f.Fatalf("%s: %v", src, diags)
		}
		programs = append(programs, p)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ev := NewEvaluator(testHost)
		for _, p := range programs {
			v := Value{JSON: data}
			if out, err := p.AppendJSON(ev, nil, v); err == nil && record.Valid(data) == nil && record.Valid(out) != nil {
				t.Errorf("%q became %q", data, out)
			}
			_, _ = p.Bool(ev, v)
			_, _ = p.Text(ev, v)
		}
	})
}

// What is read from JSON is what encoding/json reads.
func TestUnquoteAgreesWithEncodingJSON(t *testing.T) {
	for _, s := range []string{
		`""`, `"a"`, `"\"\\\/\b\f\n\r\t"`, `"\u0041\u00e9\u20ac"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ude00\ud83d"`, `"\ud83d\n"`,
		`"\ud83d\ud83d\ude00"`, `"\uD83D\uDE00"`, `"é\u0000"`, `"\uFFFD"`,
	} {
		var want string
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Fatal(err)
		}
		if got := unquote([]byte(s)); got != want {
			t.Errorf("%s is %q, want %q", s, got, want)
		}
	}
}

// The cty values that HCL works on are those of cty's own JSON reader.
func TestDecodeAgreesWithCty(t *testing.T) {
	for seed := range uint64(2000) {
		g := generator{Rand: rand.New(rand.NewPCG(seed, 1)), root: Input}
		doc := []byte(g.json(3))
		if text := string(doc); strings.Contains(text, "e999999") || strings.Contains(text, "e5000") || strings.Contains(text, "e-5000") {
			continue // out of our bounds
		}
		if strings.Contains(string(doc), "e\u0301\"") || strings.Contains(string(doc), `\u00e9"`) {
			continue // two spellings of one name: cty takes either, or fails
		}
		ty, err := ctyjson.ImpliedType(doc)
		if err != nil {
			continue // a member stands twice with two types
		}
		want, err := ctyjson.Unmarshal(doc, ty)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeJSON(doc)
		if err != nil {
			t.Fatal(err)
		}
		if !got.RawEquals(want) {
			t.Errorf("%s: %#v, want %#v", doc, got, want)
		}
	}
}

func TestNumbersAreBounded(t *testing.T) {
	for text, want := range map[string]string{
		"1e4096": "", "1e4097": "+Inf", "-1e999999999999999999999": "-Inf", "1e-4097": "0", "-1e-99999": "-0", "0e999999999": "0",
		strings.Repeat("9", 5000): "+Inf", "0." + strings.Repeat("0", 5000) + "1": "0",
	} {
		if got := parseBig(text).Text('g', 5); want != "" && got != want {
			t.Errorf("%.20s is %s, want %s", text, got, want)
		}
	}
	long := "3." + strings.Repeat("7", 1<<20)
	started := time.Now()
	if f, _ := parseBig(long).Float64(); f < 3.77 || f > 3.78 {
		t.Errorf("%v", f)
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("a number of 1 MiB took %v", took)
	}
	if _, err := numberText(new(big.Float).SetMantExp(big.NewFloat(1), 1<<30)); err == nil {
		t.Error("a number of 300 million digits was written")
	}
}

// HCL itself would take seconds, and a gigabyte, for some of these.
func TestStringsThatReadAsNumbersAreBounded(t *testing.T) {
	p, diags := Compile(parse(t, `input.s >= 5`), Input)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	for _, s := range []string{"1e600000000", "1E+600000000", "-1e-600000000", "1p600000000", "1.5e4097", strings.Repeat("9", 1<<20), "1e99999999999999999999"} {
		started := time.Now()
		if got, err := p.Bool(NewEvaluator(testHost), Value{JSON: []byte(`{"s":"` + s + `"}`)}); err == nil {
			t.Errorf("%.20s: %v", s, got)
		}
		if took := time.Since(started); took > time.Second {
			t.Errorf("%.20s took %v", s, took)
		}
	}
	for _, s := range []string{"", "e", "1e4096", "abc-12345", "rev-1e99999", "2026-11-22T06:15:00", "0192e3c4e99999999", "x1e99999", "E99999"} {
		if oversized(s) {
			t.Errorf("%q is refused", s)
		}
	}
}

// An id that looks like a number is refused only where it could be read as one.
func TestNumberLikeStringsAreFree(t *testing.T) {
	for src, ok := range map[string]bool{
		`split("-", input.id)`: true, `[for v in input.list : v / 3]`: true, `[for v in values(input) : can(v / 3)]`: false,
	} {
		p, diags := Compile(parse(t, src), Input)
		if diags.HasErrors() || p.Compiled() {
			t.Fatalf("%s: %v", src, diags)
		}
		if got, err := p.AppendJSON(NewEvaluator(testHost), nil, Value{JSON: []byte(`{"id":"51e98765","list":[3]}`)}); (err == nil) != ok {
			t.Errorf("%s: %s, %v", src, got, err)
		}
	}
}

func TestNumberText(t *testing.T) {
	for text, want := range map[string]string{
		"1.50": "1.5", "1e3": "1000", "-0.0": "-0", "1e-7": "0.0000001", "123456789012345678901234567890": "123456789012345678901234567890",
		"0.1234567890123456789012345678901234567890": "0.1234567890123456789012345678901235",
		"1e40": "1" + strings.Repeat("0", 40),
	} {
		if got, err := numberText(cty.MustParseNumberVal(text).AsBigFloat()); err != nil || got != want {
			t.Errorf("%s is written %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestTime(t *testing.T) {
	for src, want := range map[string]string{
		`input.at`: "2026-11-22T05:15:00.5Z", `fromunix(input.unix)`: "2023-11-14T22:13:20.25Z", `now()`: "2026-11-22T06:15:00.123Z",
		`input.unix`: "", `input.nothing`: "", `timeadd(input.at, "1h")`: "2026-11-22T06:15:00Z", `fromunix(input.unix * 1e6)`: "",
	} {
		p, diags := Compile(parse(t, src), Input)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		got, err := p.Time(NewEvaluator(testHost), Value{JSON: []byte(`{"at":"2026-11-22T06:15:00.5+01:00","unix":1700000000.25}`)})
		if (err != nil) != (want == "") || err == nil && got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s is %v, %v; want %q", src, got, err, want)
		}
	}
}
