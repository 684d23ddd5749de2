package expr

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// pair is a number in both worlds.
type pair struct {
	n    number
	v    cty.Value
	text string // how it came to be
}

// decimalText writes a decimal that stresses one of the limits.
func decimalText(r *rand.Rand) string {
	switch r.IntN(7) {
	case 0:
		return fmt.Sprint(r.Int64() >> r.IntN(63))
	case 1:
		return fmt.Sprintf("%d.%0*d", r.IntN(100), 1+r.IntN(18), r.Int64N(1e18)>>r.IntN(60))
	case 2:
		return fmt.Sprintf("-0.%0*d", 1+r.IntN(22), r.IntN(1000))
	case 3:
		return fmt.Sprintf("%de%d", r.IntN(100000), r.IntN(50)-25)
	case 4:
		return fmt.Sprint(r.Float64() * 1000)
	case 5:
		return fmt.Sprintf("%.2f", float64(r.IntN(200)-100)/8)
	}
	return fmt.Sprintf("%.1f", float64(r.IntN(20)-10)/10)
}

var operators = []struct {
	name string
	op   operation
	hcl  func(a, b cty.Value) (cty.Value, error)
}{
	{"+", opAdd, stdlib.Add},
	{"-", opSubtract, stdlib.Subtract},
	{"*", opMultiply, stdlib.Multiply},
	{"/", opDivide, stdlib.Divide},
	{"%", opModulo, stdlib.Modulo},
}

// checkNumber holds what is known of one number against HCL's, and tells whether
// its text is.
func checkNumber(t *testing.T, p pair) (written bool) {
	f := p.v.AsBigFloat()
	if p.n.fuzzy {
		exact, _ := f.Float64()
		if d := exact - p.n.float; d > p.n.fuzz*1.01 || d < -p.n.fuzz*1.01 {
			t.Errorf("%s is %v, not within %v of %v", p.text, exact, p.n.fuzz, p.n.float)
		}
	}
	want, err := numberText(f)
	if got, ok := p.n.appendText(nil); ok {
		written = true
		if err != nil || string(got) != want {
			t.Errorf("%s is written %s, want %s, %v", p.text, got, want, err)
		}
		if again, ok := parseNumber(want); p.n.exact() && (!ok || f.Cmp(parseBig(want)) != 0 || !again.exact()) {
			t.Errorf("%s is not the number that %s is", p.text, want)
		}
	}
	for _, places := range []int{0, 2, 18} {
		if got, ok := p.n.round(places); ok {
			rounded, _ := numberText(cty.MustParseNumberVal(roundText(want, places)).AsBigFloat())
			if text, ok := got.appendText(nil); ok && string(text) != rounded {
				t.Errorf("round(%s, %d) is %s, want %s", p.text, places, text, rounded)
			}
		}
	}
	for direction, whole := range map[int64]func(cty.Value) (cty.Value, error){-1: stdlib.Floor, 1: stdlib.Ceil} {
		v, _ := whole(p.v)
		if got, ok := p.n.whole(direction); ok {
			text, _ := got.appendText(nil)
			if want, _ := numberText(v.AsBigFloat()); string(text) != want {
				t.Errorf("%s in direction %d is %s, want %s", p.text, direction, text, want)
			}
		}
	}
	return written
}

// TestNumbersAgreeWithHCL computes at random in both worlds: wherever the
// compiled form has an answer, it is HCL's.
func TestNumbersAgreeWithHCL(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var answers, texts, asked int
	check := func(p pair) {
		if checkNumber(t, p) {
			texts++
		}
	}
	leaf := func() pair {
		for {
			text := decimalText(r)
			if n, ok := parseNumber(text); ok {
				return pair{n, cty.MustParseNumberVal(text), text}
			}
		}
	}
	for range 1500 {
		acc := leaf()
		check(acc)
		for range 1 + r.IntN(4) {
			o, b := operators[r.IntN(len(operators))], leaf()
			if r.IntN(8) == 0 {
				b = acc
			}
			asked++
			n, ok := o.op.apply(acc.n, b.n)
			if !ok {
				break
			}
			v, err := o.hcl(acc.v, b.v)
			if err != nil {
				t.Fatalf("(%s) %s %s: %v", acc.text, o.name, b.text, err)
			}
			acc = pair{n, v, "(" + acc.text + ") " + o.name + " " + b.text}
			check(acc)
			if r.IntN(8) == 0 {
				acc = pair{acc.n.negate(), acc.v.Negate(), "-(" + acc.text + ")"}
				check(acc)
			}
		}
		for _, other := range []pair{leaf(), acc, {zero, cty.Zero, "0"}} {
			sign, ok := acc.n.compare(other.n)
			if !ok {
				continue
			}
			answers++
			if want := acc.v.AsBigFloat().Cmp(other.v.AsBigFloat()); sign != want {
				t.Errorf("%s against %s is %d, want %d", acc.text, other.text, sign, want)
			}
			if equal := acc.v.Equals(other.v).True(); equal != (sign == 0) {
				t.Errorf("%s == %s is %v to HCL", acc.text, other.text, equal)
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d operations, %d comparisons answered, %d texts", asked, answers, texts)
	if answers < 3000 || texts < 2000 {
		t.Errorf("too few answers: %d comparisons, %d texts", answers, texts)
	}
}

func TestParseNumber(t *testing.T) {
	for text, ok := range map[string]bool{
		"0": true, "-0": true, "1.50": true, "1e3": true, "1E+3": true, "007": true, "9223372036854775807": true, "99999999999999999999": true,
		"": false, "-": false, ".": false, ".5": false, "5.": false, "1e": false, "1e5x": false, "+5": false, "0x10": false, "1_0": false,
		"1.2.3": false, "inf": false, "1p5": false, "12345678901234567890x": false, "1e1001": false, " 1": false, "1e400": false,
	} {
		if _, got := parseNumber(text); got != ok {
			t.Errorf("parseNumber(%q) ok is %v", text, got)
		}
	}
}
