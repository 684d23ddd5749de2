package config

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

type unit struct {
	name string
	size int64
}

var durationUnits = []unit{
	{"ns", int64(time.Nanosecond)},
	{"us", int64(time.Microsecond)},
	{"µs", int64(time.Microsecond)},
	{"ms", int64(time.Millisecond)},
	{"s", int64(time.Second)},
	{"m", int64(time.Minute)},
	{"h", int64(time.Hour)},
	{"d", 24 * int64(time.Hour)},
	{"w", 7 * 24 * int64(time.Hour)},
}

var sizeUnits = []unit{
	{"B", 1},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
}

// rateUnits are the sizes, a second.
var rateUnits = func() (units []unit) {
	for _, u := range sizeUnits {
		units = append(units, unit{u.name + "/s", u.size})
	}
	return units
}()

const (
	durationAdvice = `Write a number and a unit, like "500ms", "5s", "1h30m" or "7d"; the units are ns, us, ms, s, m, h, d and w.`
	sizeAdvice     = `Write a number and a unit, like "64KiB", "1MiB" or "1GB"; the units are B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024).`
	rateAdvice     = `Write a number and a unit a second, like "64KiB/s" or "1MB/s"; the units are B/s, KB/s, MB/s, GB/s, TB/s (powers of 1000) and KiB/s, MiB/s, GiB/s, TiB/s (powers of 1024).`
)

// parseDuration reads "1h30m", with days and weeks beside Go's units. A day is
// 24 hours.
func parseDuration(s string) (time.Duration, error) {
	n, err := parseUnits(s, durationUnits, true)
	if err != nil {
		return 0, withAdvice(err, durationAdvice)
	}
	return time.Duration(n), nil
}

// ParseSize reads a size as pipeline files write it, like "64KiB", into bytes.
// It serves command line flags. The error says what to write.
func ParseSize(s string) (int64, error) { return parseSize(s) }

// parseSize reads "64KiB" into bytes.
func parseSize(s string) (int64, error) {
	n, err := parseUnits(s, sizeUnits, false)
	if err != nil {
		return 0, withAdvice(err, sizeAdvice)
	}
	return n, nil
}

// parseRate reads "64KiB/s" into bytes a second.
func parseRate(s string) (int64, error) {
	n, err := parseUnits(s, rateUnits, false)
	if err != nil {
		return 0, withAdvice(err, rateAdvice)
	}
	return n, nil
}

// withAdvice makes a sentence of err, and adds how it is written unless err
// already knows better.
func withAdvice(err error, advice string) error {
	if errors.Is(err, errMeant) {
		return err
	}
	return fmt.Errorf("%w. %s", err, advice)
}

var errMeant = errors.New("did you mean")

// parseUnits adds up numbers with units. The sum is exact or an error: 1.5KiB
// is 1536, 1.5B is refused.
func parseUnits(s string, units []unit, several bool) (int64, error) {
	total := new(big.Rat)
	rest := s
	for first := true; first || rest != ""; first = false {
		if !first && !several {
			return 0, fmt.Errorf("%q holds more than one number", s)
		}
		digits := leading(rest, func(c byte) bool { return c >= '0' && c <= '9' || c == '.' })
		value, ok := parseDecimal(digits)
		if !ok {
			return 0, badNumber(s, rest)
		}
		rest = rest[len(digits):]
		name := leading(rest, func(c byte) bool { return c != '.' && c != '-' && c != '+' && (c < '0' || c > '9') })
		rest = rest[len(name):]
		size, err := findUnit(s, name, units)
		if err != nil {
			return 0, err
		}
		total.Add(total, value.Mul(value, new(big.Rat).SetInt64(size)))
	}
	switch {
	case !total.IsInt():
		return 0, fmt.Errorf("%q is not a whole number of the smallest unit", s)
	case !total.Num().IsInt64():
		return 0, fmt.Errorf("%q is too large", s)
	}
	return total.Num().Int64(), nil
}

func badNumber(s, rest string) error {
	switch {
	case s == "":
		return errors.New("the text is empty")
	case strings.HasPrefix(s, "-"):
		return fmt.Errorf("%q is negative", s)
	case strings.HasPrefix(strings.TrimLeft(rest, "0123456789."), " "), strings.ContainsAny(s, " \t"):
		return fmt.Errorf("%q holds white space", s)
	}
	return fmt.Errorf("%q does not start with a number", rest)
}

// parseDecimal takes digits with at most one point, and not more of them than
// a 64-bit number can need.
func parseDecimal(digits string) (*big.Rat, bool) {
	if digits == "" || len(digits) > 40 || strings.Count(digits, ".") > 1 || strings.Trim(digits, ".") != digits {
		return nil, false
	}
	return new(big.Rat).SetString(digits)
}

func findUnit(s, name string, units []unit) (int64, error) {
	if name == "" {
		return 0, fmt.Errorf("%q has no unit", s)
	}
	for _, u := range units {
		if u.name == name {
			return u.size, nil
		}
	}
	if strings.TrimSpace(name) != name {
		return 0, fmt.Errorf("%q holds white space", s)
	}
	for _, u := range units {
		if strings.EqualFold(u.name, name) {
			return 0, fmt.Errorf("%q is not a unit; %w %q?", name, errMeant, u.name)
		}
	}
	return 0, fmt.Errorf("%q is not a unit", name)
}

func leading(s string, is func(c byte) bool) string {
	for i := range len(s) {
		if !is(s[i]) {
			return s[:i]
		}
	}
	return s
}
