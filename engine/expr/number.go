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

// compare returns the sign of a-b in HCL's numbers.
func (a number) compare(b number) (sign int, ok bool) {
	if a.fuzzy || b.fuzzy {
		fa, ea := a.approximate()
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
	case a.scale == b.scale:
		sign = compareInt(a.coef, b.coef)
	case (a.coef < 0) != (b.coef < 0) || a.coef == 0 || b.coef == 0:
		sign = compareInt(a.coef, b.coef)
	default:
		ahi, alo := bits.Mul64(magnitude(a.coef), pow10[max(b.scale, a.scale)-a.scale])
		bhi, blo := bits.Mul64(magnitude(b.coef), pow10[max(b.scale, a.scale)-b.scale])
		switch {
		case ahi != bhi:
			sign = compareInt(int64(ahi), int64(bhi))
		case alo != blo:
			sign = 1
			if alo < blo {
				sign = -1
			}
		}
		if a.coef < 0 {
			sign = -sign
		}
	}
	return sign, sign != 0 || a.near|b.near == 0
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

// negate returns -n.
func (n number) negate() number {
	n.coef, n.float = -n.coef, -n.float
	n.signless = n.signless || !n.fuzzy && n.coef == 0
	return n
}

// abs returns n without its sign; HCL makes 0 of -0.
func (n number) abs() number {
	if n.coef < 0 {
		n.coef = -n.coef
	}
	n.float = math.Abs(n.float)
	n.signless = false
	return n
}

// zero is an exact zero of either sign.
var zero = number{signless: true}

// add returns a+b.
func (a number) add(b number) (number, bool) {
	if a.fuzzy || b.fuzzy {
		return a.addFuzzy(b)
	}
	switch {
	case b.coef == 0 && a.coef == 0:
		return zero, true
	case b.coef == 0:
		return a, true // rounded before, not again
	case a.coef == 0:
		return b, true
	}
	ca, cb, scale := a.coef, b.coef, a.scale
	aligned := true
	switch {
	case a.scale < b.scale:
		scale = b.scale
		ca, aligned = times(ca, pow10[b.scale-a.scale])
	case b.scale < a.scale:
		cb, aligned = times(cb, pow10[a.scale-b.scale])
	}
	sum := ca + cb
	if !aligned || (ca < 0) == (cb < 0) && (sum < 0) != (ca < 0) || sum == math.MinInt64 {
		return a.addFuzzy(b)
	}
	n := number{coef: sum, scale: scale}
	if a.dyadic() && b.dyadic() {
		n.signless = sum == 0
		return n, true
	}
	n.near = max(a.near, b.near)
	if (ca < 0) != (cb < 0) {
		n.near++
	}
	n.near = max(n.near, 1)
	switch {
	case sum == 0:
		return number{fuzzy: true, fuzz: 1e-50}, true
	case n.near > 2:
		return a.addFuzzy(b)
	}
	return n, true
}

func (a number) addFuzzy(b number) (number, bool) {
	fa, ea := a.approximate()
	fb, eb := b.approximate()
	return fuzzyNumber(fa+fb, ea+eb+math.Abs(fa+fb)*epsilon)
}

// times returns n*m, and whether it fits.
func times(n int64, m uint64) (int64, bool) {
	hi, lo := bits.Mul64(magnitude(n), m)
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if n < 0 {
		return -int64(lo), true
	}
	return int64(lo), true
}

// shrink takes trailing zeros of the fraction away until the scale fits.
func shrink(coef int64, scale int) (int64, int) {
	for scale > 0 && coef%10 == 0 && coef != 0 {
		coef /= 10
		scale--
	}
	return coef, scale
}

// multiply returns a*b.
func (a number) multiply(b number) (number, bool) {
	if !a.fuzzy && a.coef == 0 || !b.fuzzy && b.coef == 0 {
		return zero, true
	}
	if a.fuzzy || b.fuzzy {
		return a.multiplyFuzzy(b)
	}
	coef, ok := times(a.coef, magnitude(b.coef))
	if !ok {
		return a.multiplyFuzzy(b)
	}
	if b.coef < 0 {
		coef = -coef
	}
	scale := int(a.scale) + int(b.scale)
	if scale > maxScale {
		if coef, scale = shrink(coef, scale); scale > maxScale {
			return a.multiplyFuzzy(b)
		}
	}
	n := number{coef: coef, scale: uint8(scale)}
	if !a.dyadic() || !b.dyadic() {
		n.near = max(a.near, b.near, 1)
	}
	return n, true
}

func (a number) multiplyFuzzy(b number) (number, bool) {
	fa, ea := a.approximate()
	fb, eb := b.approximate()
	return fuzzyNumber(fa*fb, math.Abs(fa)*eb+math.Abs(fb)*ea+ea*eb+math.Abs(fa*fb)*epsilon)
}

// divide returns a/b; by zero there is no answer here.
func (a number) divide(b number) (number, bool) {
	switch {
	case !b.fuzzy && b.coef == 0:
		return number{}, false
	case !a.fuzzy && a.coef == 0:
		return zero, true
	case a.fuzzy || b.fuzzy:
		return a.divideFuzzy(b)
	}
	// A divisor 2^i 5^j gives a decimal with at most max(i, j) more places.
	rest, twos, fives := magnitude(b.coef), 0, 0
	twos = bits.TrailingZeros64(rest)
	rest >>= twos
	for rest%5 == 0 {
		rest /= 5
		fives++
	}
	places := max(twos, fives)
	if rest != 1 && a.coef%b.coef == 0 {
		places, rest = 0, 1
	}
	if rest != 1 || places > maxScale {
		return a.divideFuzzy(b)
	}
	coef, ok := times(a.coef, pow10[places])
	if !ok {
		return a.divideFuzzy(b)
	}
	coef /= b.coef
	scale := int(a.scale) - int(b.scale) + places
	if scale < 0 {
		coef, ok = times(coef, pow10[-scale])
		scale = 0
	}
	if scale > maxScale {
		coef, scale = shrink(coef, scale)
	}
	if !ok || scale > maxScale {
		return a.divideFuzzy(b)
	}
	n := number{coef: coef, scale: uint8(scale)}
	if !a.dyadic() || !b.dyadic() {
		n.near = max(a.near, b.near, 1)
	}
	return n, true
}

func (a number) divideFuzzy(b number) (number, bool) {
	fa, ea := a.approximate()
	fb, eb := b.approximate()
	if math.Abs(fb) <= eb*1e3 {
		return number{}, false // the divisor may be zero
	}
	q := fa / fb
	fuzz := (ea + math.Abs(q)*eb) / (math.Abs(fb) - eb)
	return fuzzyNumber(q, fuzz*1.001+math.Abs(q)*epsilon)
}

// modulo returns the rest of a/b with the sign of a, and a if b is zero.
func (a number) modulo(b number) (number, bool) {
	if !a.dyadic() || !b.dyadic() {
		return number{}, false
	}
	if b.coef == 0 {
		return a, true
	}
	scale := max(a.scale, b.scale)
	ca, okA := times(a.coef, pow10[scale-a.scale])
	cb, okB := times(b.coef, pow10[scale-b.scale])
	if !okA || !okB {
		return number{}, false
	}
	n := number{coef: ca % cb, scale: scale}
	n.signless = n.coef == 0
	return n, true
}

// round returns n rounded to so many places, half away from zero, as the
// function round does: on the text of 34 digits, which a near decimal is.
func (n number) round(places int) (number, bool) {
	if n.fuzzy {
		return n.roundFuzzy(places)
	}
	if int(n.scale) <= places {
		if n.near == 0 || n.coef == 0 {
			return n, true
		}
		n.near = 0 // read back from its text
		return n, true
	}
	unit := int64(0)
	if cut := int(n.scale) - places; cut < maxScale {
		unit = int64(pow10[cut])
	} else {
		return number{}, false
	}
	q, r := n.coef/unit, n.coef%unit
	if r >= unit-r && r > 0 {
		q++
	} else if -r >= unit+r && r < 0 {
		q--
	}
	return number{coef: q, scale: uint8(places)}, true
}

func (n number) roundFuzzy(places int) (number, bool) {
	p := float64(pow10[places])
	f, fuzz := n.float*p, n.fuzz*p+math.Abs(n.float*p)*epsilon
	if math.Abs(f) > 1e15 {
		return number{}, false
	}
	low, high := math.Round(f-fuzz), math.Round(f+fuzz)
	// Close to a tie, or a whole number that text of 34 digits may name.
	if low != high || math.Abs(math.Abs(f-math.Trunc(f))-0.5) <= 2*fuzz {
		return number{}, false
	}
	return number{coef: int64(low), scale: uint8(places)}, true
}

// appendText appends the number as [numberText] writes it. ok is false if that
// is not known here.
func (n number) appendText(dst []byte) (_ []byte, ok bool) {
	if n.fuzzy || n.signless {
		return dst, false
	}
	coef, scale := shrink(n.coef, int(n.scale))
	if coef == 0 {
		return append(dst, '0'), true
	}
	if scale == 0 {
		return strconv.AppendInt(dst, coef, 10), true
	}
	if coef < 0 {
		dst = append(dst, '-')
	}
	whole, fraction := magnitude(coef)/pow10[scale], magnitude(coef)%pow10[scale]
	dst = append(strconv.AppendUint(dst, whole, 10), '.')
	for i := scale - 1; i > 0 && fraction < pow10[i]; i-- {
		dst = append(dst, '0')
	}
	return strconv.AppendUint(dst, fraction, 10), true
}

// whole returns the greatest whole number not above n, or the least not below.
func (n number) whole(direction int64) (number, bool) {
	if n.fuzzy {
		low, high := math.Floor(n.float-n.fuzz), math.Floor(n.float+n.fuzz)
		if low != high || math.Abs(low) > 1e15 || n.float-n.fuzz == low {
			return number{}, false
		}
		if direction > 0 {
			low++
		}
		return number{coef: int64(low)}, true
	}
	unit := pow10[n.scale]
	if unit > math.MaxInt64 {
		return number{}, false
	}
	q, r := n.coef/int64(unit), n.coef%int64(unit)
	switch {
	case r == 0 && n.near > 0:
		return number{}, false
	case r < 0 && direction < 0, r > 0 && direction > 0:
		q += direction
	}
	return number{coef: q}, true
}
