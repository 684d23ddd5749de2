package edged

import (
	"math"
	"strconv"
)

// pow10 holds the powers of ten that a float64 holds exactly.
var pow10 = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// digits is what the text of a number says: mantissa / 10^scale.
type digits struct {
	mantissa uint64
	scale    int
	negative bool
	// exponent says that there is an e in it; long that it has more than 18 digits,
	// zeros in front left out, and the mantissa is not all of it.
	exponent, long bool
}

// readDigits reads the text of a number; ok says whether it is one.
func readDigits(b []byte) (d digits, ok bool) {
	p, count, fraction := 0, 0, false
	if d.negative = len(b) > 0 && b[0] == '-'; d.negative {
		p++
	}
	for ; p < len(b); p++ {
		c := b[p] - '0'
		if c > 9 {
			if b[p] != '.' || fraction {
				break
			}
			fraction = true
			continue
		}
		ok = true
		if count == 18 {
			d.long = true
			continue
		}
		if d.mantissa = d.mantissa*10 + uint64(c); d.mantissa != 0 {
			count++
		}
		if fraction {
			d.scale++
		}
	}
	if !ok || p == len(b) {
		return d, ok
	}
	d.exponent = true
	e, ok := readExponent(b[p:])
	d.scale -= e
	return d, ok
}

// readExponent reads e-12 and the like.
func readExponent(b []byte) (e int, ok bool) {
	if len(b) < 2 || b[0]|0x20 != 'e' {
		return 0, false
	}
	negative := b[1] == '-'
	b = b[1:]
	if negative || b[0] == '+' {
		b = b[1:]
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		e = min(e*10+int(c-'0'), 10000)
	}
	if negative {
		e = -e
	}
	return e, len(b) > 0
}

// AsFloat returns the value of a JSON number. NaN: the value is none.
func AsFloat(value []byte) float64 {
	if KindOf(value) != Number {
		return math.NaN()
	}
	d, ok := readDigits(value)
	if !ok {
		return math.NaN()
	}
	if d.long || d.mantissa>>53 != 0 || d.scale > 22 || d.scale < -22 {
		x, err := strconv.ParseFloat(string(value), 64)
		if err != nil && !math.IsInf(x, 0) {
			return math.NaN()
		}
		return x
	}
	// One correctly rounded operation on two exact numbers rounds correctly.
	x := float64(d.mantissa)
	if d.scale > 0 {
		x /= pow10[d.scale]
	} else {
		x *= pow10[-d.scale]
	}
	if d.negative {
		x = -x
	}
	return x
}

// Fixed returns x as a JSON number with at most so many decimals (0 to 9), rounded
// to the nearest, halves to even, trailing zeros and the sign of zero left out. The
// same input gives the same bytes everywhere. Nil: x is no finite number, or too
// large for its last decimal to mean anything (2^53 of them and more).
func Fixed(x float64, decimals int) []byte {
	decimals = min(max(decimals, 0), 9)
	scaled := math.RoundToEven(math.Abs(x) * pow10[decimals])
	if !(scaled < 1<<53) {
		return nil
	}
	var buf [24]byte // sign, at most 16 digits, point
	q := len(buf)
	zeros := true // at the end, behind the point
	for n, written := uint64(scaled), 0; n != 0 || written <= decimals; written++ {
		digit := byte(n % 10)
		n /= 10
		if written == decimals {
			if !zeros {
				q--
				buf[q] = '.'
			}
			zeros = false
		}
		if digit != 0 {
			zeros = false
		}
		if !zeros {
			q--
			buf[q] = '0' + digit
		}
	}
	if x < 0 && scaled != 0 {
		q--
		buf[q] = '-'
	}
	return append(make([]byte, 0, len(buf)-q), buf[q:]...)
}

// Integer returns n as a JSON number.
func Integer(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

// Sums and comparisons of numbers by their digits: 0.1 + 0.2 is 0.3.

const maxScale = 18

// decimal is a number as mantissa / 10^scale.
type decimal struct {
	mantissa int64
	scale    int
}

// shift adds a decimal. False: that takes more than 18 digits.
func (d *decimal) shift() bool {
	if d.mantissa > 99999999999999999 || d.mantissa < -99999999999999999 {
		return false
	}
	d.mantissa *= 10
	d.scale++
	return true
}

// decimalOf reads a number. False: it is none, or has more than 18 digits or
// decimals.
func decimalOf(value []byte) (d decimal, ok bool) {
	if KindOf(value) != Number {
		return d, false
	}
	read, ok := readDigits(value)
	if !ok || read.long {
		return d, false
	}
	d = decimal{int64(read.mantissa), read.scale}
	if d.mantissa == 0 {
		// The decimals that are written count, an exponent does not.
		if read.exponent {
			d.scale = 0
		}
		d.scale = min(d.scale, maxScale)
	}
	for d.scale < 0 {
		if !d.shift() {
			return d, false
		}
	}
	for d.scale > maxScale && d.mantissa%10 == 0 {
		d.mantissa /= 10
		d.scale--
	}
	if read.negative {
		d.mantissa = -d.mantissa
	}
	return d, d.scale <= maxScale
}

// align brings both to one scale. False: that takes more than 18 digits.
func align(a, b *decimal) bool {
	for a.scale < b.scale {
		if !a.shift() {
			return false
		}
	}
	for b.scale < a.scale {
		if !b.shift() {
			return false
		}
	}
	return true
}

func (d decimal) text() []byte {
	n := strconv.AppendUint(nil, magnitude(d.mantissa), 10)
	var out []byte
	if d.mantissa < 0 {
		out = append(out, '-')
	}
	if d.scale == 0 {
		return append(out, n...)
	}
	for len(n) <= d.scale {
		n = append([]byte{'0'}, n...)
	}
	point := len(n) - d.scale
	out = append(append(out, n[:point]...), '.')
	return append(out, n[point:]...)
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// AddDelta returns to plus what from became on the way to now: to + (now - from),
// exact, with as many decimals as the longest of them. Nil: one is no number, or
// more than 18 digits are needed.
func AddDelta(to, now, from []byte) []byte {
	a, aok := decimalOf(to)
	b, bok := decimalOf(now)
	c, cok := decimalOf(from)
	if !aok || !bok || !cok || !align(&a, &b) || !align(&a, &c) || !align(&a, &b) {
		return nil
	}
	// Each is below 10^18, so three of them fit.
	return decimal{a.mantissa + b.mantissa - c.mantissa, a.scale}.text()
}

// CompareNumbers compares two numbers by value: -1, 0 or 1. ok is false when one is
// no number, or more than 18 digits are needed.
func CompareNumbers(a, b []byte) (order int, ok bool) {
	x, xok := decimalOf(a)
	y, yok := decimalOf(b)
	switch {
	case !xok || !yok || !align(&x, &y):
		return 0, false
	case x.mantissa == y.mantissa:
		return 0, true
	}
	return sign(x.mantissa > y.mantissa), true
}
