package expr

import (
	"math"
	"math/bits"
	"strconv"
)

// HCL's numbers are binary fractions of 512 bits. The compiled form does not
// compute with those. It keeps a decimal of 64 bits, or a float64 with a bound
// of its error, and answers a question only where the 512-bit number must give
// the same answer:
//
//   - A decimal d is exact when HCL's number is d rounded to 512 bits, which is
//     how HCL reads it from text. Two different decimals of 19 digits and at most
//     19 places are far enough apart to stay different, and in the same order,
//     after that rounding; and the shortest text of the rounded number is d.
//   - A sum, product or quotient is exact again when both operands are dyadic
//     (whole, or a multiple of a power of 1/2: 22.5), for 512 bits hold them, or
//     the one rounding of a quotient is the same rounding.
//   - Any other result is near: HCL's number differs from d by a relative error
//     that is counted in levels. Level 1 is below 1e-112, level 2 below 1e-72;
//     a difference of close operands, each at most 2^63 and at least 10^-19,
//     loses at most 38 digits, so it costs one level; there is no level 3. Two
//     different decimals differ by more than 1e-38, so d answers a comparison
//     unless both sides are equal; and numberText, which rounds to 34 digits,
//     writes d.
//   - What does not fit is fuzzy: a float64 with a bound of the distance to
//     HCL's number. It answers comparisons outside that bound, and round.
//
// Where there is no answer, HCL is asked (kindBail).

// number is one of the three.
type number struct {
	coef     int64   // decimal: the value is coef / 10^scale; never MinInt64
	float    float64 // fuzzy: the value
	fuzz     float64 // fuzzy: bound of the error
	scale    uint8   // decimal: 0 to maxScale
	near     uint8   // decimal: 0 exact, else the level of the error
	signless bool    // an exact zero that HCL may hold as -0, and writes so
	fuzzy    bool
}

// maxScale is the most places after the point: 10^19 is the greatest power of
// ten in 64 bits.
const maxScale = 19

var pow10 = func() (p [maxScale + 1]uint64) {
	p[0] = 1
	for i := 1; i <= maxScale; i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// pow5 holds the powers of five up to 5^19.
var pow5 = func() (p [maxScale + 1]int64) {
	p[0] = 1
	for i := 1; i <= maxScale; i++ {
		p[i] = p[i-1] * 5
	}
	return p
}()

// parseNumber reads a JSON number. ok is false for what it cannot represent;
// HCL can.
//
//nolint:gocyclo // one pass over the grammar of a number; in pieces it would be harder to follow, and slower
func parseNumber(text string) (n number, ok bool) {
	i, negative := 0, false
	if i < len(text) && text[i] == '-' {
		negative = true
		i++
	}
	var coef uint64
	start, point := i, -1
	for ; i < len(text); i++ {
		c := text[i] - '0'
		if c > 9 {
			if text[i] != '.' || point >= 0 {
				break
			}
			point = i
			continue
		}
		if coef > (math.MaxInt64-9)/10 {
			return fuzzyText(text)
		}
		coef = coef*10 + uint64(c)
	}
	digits := i - start
	scale := 0
	if point >= 0 {
		digits--
		scale = i - point - 1
	}
	if digits == 0 || scale == 0 && point >= 0 || point == start {
		return number{}, false
	}
	if i < len(text) {
		if text[i] != 'e' && text[i] != 'E' {
			return number{}, false
		}
		exponent, err := strconv.Atoi(text[i+1:])
		if err != nil || exponent > 1000 || exponent < -1000 {
			return number{}, false
		}
		scale -= exponent
	}
	for ; scale > maxScale && coef%10 == 0 && coef != 0; scale-- {
		coef /= 10
	}
	switch {
	case coef == 0:
		scale = 0
	case scale > maxScale || scale < -maxScale:
		return fuzzyText(text)
	case scale < 0:
		hi, lo := bits.Mul64(coef, pow10[-scale])
		if hi != 0 || lo > math.MaxInt64 {
			return fuzzyText(text)
		}
		coef, scale = lo, 0
	}
	n = number{coef: int64(coef), scale: uint8(scale)}
	if negative {
		n.coef = -n.coef
		n.signless = coef == 0
	}
	return n, true
}

// fuzzyText reads a JSON number too long for a decimal.
func fuzzyText(text string) (number, bool) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return number{}, false
	}
	return fuzzyNumber(f, math.Abs(f)*epsilon)
}

// epsilon bounds the relative error of one float64 operation, and then some.
const epsilon = 1.0 / (1 << 51)

// fuzzyNumber gives up where float64 loses its relative precision.
func fuzzyNumber(f, fuzz float64) (number, bool) {
	size := math.Abs(f)
	ok := size < 1e290 && (size > 1e-290 || fuzz > 1e-290) && fuzz < 1e290
	return number{float: f, fuzz: fuzz * 1.001, fuzzy: true}, ok
}

// approximate returns the value as a float64 and a bound of its error.
func (n number) approximate() (f, fuzz float64) {
	if n.fuzzy {
		return n.float, n.fuzz
	}
	f = float64(n.coef) / float64(pow10[n.scale])
	return f, math.Abs(f) * epsilon
}

// exact reports whether HCL's number is n rounded to 512 bits.
func (n number) exact() bool { return !n.fuzzy && n.near == 0 }

// dyadic reports whether HCL's number is n itself.
func (n number) dyadic() bool {
	return n.exact() && (n.scale == 0 || n.coef%pow5[n.scale] == 0)
}

// small reports whether float64 division gives the float64 nearest to HCL's
// number.
func (n number) small() bool { return n.exact() && magnitude(n.coef) < 1<<53 }

// compare returns the sign of n-b in HCL's numbers.
func (n number) compare(b number) (sign int, ok bool) {
	if n.fuzzy || b.fuzzy {
		fa, ea := n.approximate()
		fb, eb := b.approximate()
		d := fa - fb
		if math.Abs(d) <= (ea+eb)*1.001+math.Abs(d)*epsilon {
			return 0, false
		}
		if d < 0 {
			return -1, true
		}
		return 1, true
	}
	switch {
	case n.scale == b.scale:
		sign = compareInt(n.coef, b.coef)
	case (n.coef < 0) != (b.coef < 0) || n.coef == 0 || b.coef == 0:
		sign = compareInt(n.coef, b.coef)
	default:
		ahi, alo := bits.Mul64(magnitude(n.coef), pow10[max(b.scale, n.scale)-n.scale])
		bhi, blo := bits.Mul64(magnitude(b.coef), pow10[max(b.scale, n.scale)-b.scale])
		switch {
		case ahi != bhi:
			sign = compareInt(int64(ahi), int64(bhi))
		case alo != blo:
			sign = 1
			if alo < blo {
				sign = -1
			}
		}
		if n.coef < 0 {
			sign = -sign
		}
	}
	return sign, sign != 0 || n.near|b.near == 0
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return uint64(-n)
	}
	return uint64(n)
}
