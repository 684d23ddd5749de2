package expr

import (
	"math"
	"math/bits"
	"strconv"
)

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

// add returns n+b.
func (n number) add(b number) (number, bool) {
	if n.fuzzy || b.fuzzy {
		return n.addFuzzy(b)
	}
	switch {
	case b.coef == 0 && n.coef == 0:
		return zero, true
	case b.coef == 0:
		return n, true // rounded before, not again
	case n.coef == 0:
		return b, true
	}
	ca, cb, scale := n.coef, b.coef, n.scale
	aligned := true
	switch {
	case n.scale < b.scale:
		scale = b.scale
		ca, aligned = times(ca, pow10[b.scale-n.scale])
	case b.scale < n.scale:
		cb, aligned = times(cb, pow10[n.scale-b.scale])
	}
	sum := ca + cb
	if !aligned || (ca < 0) == (cb < 0) && (sum < 0) != (ca < 0) || sum == math.MinInt64 {
		return n.addFuzzy(b)
	}
	out := number{coef: sum, scale: scale}
	if n.dyadic() && b.dyadic() {
		out.signless = sum == 0
		return out, true
	}
	out.near = max(n.near, b.near)
	if (ca < 0) != (cb < 0) {
		out.near++
	}
	out.near = max(out.near, 1)
	switch {
	case sum == 0:
		return number{fuzzy: true, fuzz: 1e-50}, true
	case out.near > 2:
		return n.addFuzzy(b)
	}
	return out, true
}

func (n number) addFuzzy(b number) (number, bool) {
	fa, ea := n.approximate()
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

// multiply returns n*b.
func (n number) multiply(b number) (number, bool) {
	if !n.fuzzy && n.coef == 0 || !b.fuzzy && b.coef == 0 {
		return zero, true
	}
	if n.fuzzy || b.fuzzy {
		return n.multiplyFuzzy(b)
	}
	coef, ok := times(n.coef, magnitude(b.coef))
	if !ok {
		return n.multiplyFuzzy(b)
	}
	if b.coef < 0 {
		coef = -coef
	}
	scale := int(n.scale) + int(b.scale)
	if scale > maxScale {
		if coef, scale = shrink(coef, scale); scale > maxScale {
			return n.multiplyFuzzy(b)
		}
	}
	out := number{coef: coef, scale: uint8(scale)}
	if !n.dyadic() || !b.dyadic() {
		out.near = max(n.near, b.near, 1)
	}
	return out, true
}

func (n number) multiplyFuzzy(b number) (number, bool) {
	fa, ea := n.approximate()
	fb, eb := b.approximate()
	return fuzzyNumber(fa*fb, math.Abs(fa)*eb+math.Abs(fb)*ea+ea*eb+math.Abs(fa*fb)*epsilon)
}

// divide returns n/b; by zero there is no answer here.
func (n number) divide(b number) (number, bool) {
	switch {
	case !b.fuzzy && b.coef == 0:
		return number{}, false
	case !n.fuzzy && n.coef == 0:
		return zero, true
	case n.fuzzy || b.fuzzy:
		return n.divideFuzzy(b)
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
	if rest != 1 && n.coef%b.coef == 0 {
		places, rest = 0, 1
	}
	if rest != 1 || places > maxScale {
		return n.divideFuzzy(b)
	}
	coef, ok := times(n.coef, pow10[places])
	if !ok {
		return n.divideFuzzy(b)
	}
	coef /= b.coef
	scale := int(n.scale) - int(b.scale) + places
	if scale < 0 {
		coef, ok = times(coef, pow10[-scale])
		scale = 0
	}
	if scale > maxScale {
		coef, scale = shrink(coef, scale)
	}
	if !ok || scale > maxScale {
		return n.divideFuzzy(b)
	}
	out := number{coef: coef, scale: uint8(scale)}
	if !n.dyadic() || !b.dyadic() {
		out.near = max(n.near, b.near, 1)
	}
	return out, true
}

func (n number) divideFuzzy(b number) (number, bool) {
	fa, ea := n.approximate()
	fb, eb := b.approximate()
	if math.Abs(fb) <= eb*1e3 {
		return number{}, false // the divisor may be zero
	}
	q := fa / fb
	fuzz := (ea + math.Abs(q)*eb) / (math.Abs(fb) - eb)
	return fuzzyNumber(q, fuzz*1.001+math.Abs(q)*epsilon)
}

// modulo returns the rest of n/b with the sign of n, and n if b is zero.
func (n number) modulo(b number) (number, bool) {
	if !n.dyadic() || !b.dyadic() {
		return number{}, false
	}
	if b.coef == 0 {
		return n, true
	}
	scale := max(n.scale, b.scale)
	ca, okA := times(n.coef, pow10[scale-n.scale])
	cb, okB := times(b.coef, pow10[scale-b.scale])
	if !okA || !okB {
		return number{}, false
	}
	out := number{coef: ca % cb, scale: scale}
	out.signless = out.coef == 0
	return out, true
}

// round returns n rounded to so many places, half away from zero, as the
// function round does: on the text of 34 digits, which a near decimal is.
func (n number) round(places int) (number, bool) {
	if n.fuzzy {
		return n.roundFuzzy(places)
	}
	n.signless = false // zero loses its sign
	if int(n.scale) <= places {
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
