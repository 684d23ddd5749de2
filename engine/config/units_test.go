package config

import (
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s":                    0,
		"500ms":                 500 * time.Millisecond,
		"5s":                    5 * time.Second,
		"1h30m":                 90 * time.Minute,
		"7d":                    7 * 24 * time.Hour,
		"2w1d":                  15 * 24 * time.Hour,
		"1.5h":                  90 * time.Minute,
		"0.000000001s":          1,
		"10us":                  10 * time.Microsecond,
		"10µs":                  10 * time.Microsecond,
		"9223372036854775807ns": 1<<63 - 1,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0B": 0, "1B": 1, "64KiB": 65536, "64KB": 64000, "1.5KiB": 1536, "1GB": 1e9, "8GiB": 8 << 30, "2TiB": 2 << 40, "3TB": 3e12, "1MB": 1e6, "1MiB": 1 << 20,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{"0B/s": 0, "64KiB/s": 65536, "1.5KiB/s": 1536, "1MB/s": 1e6} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"64KiB": `"KiB" is not a unit`, "64": "no unit", "64kib/s": `did you mean "KiB/s"?`, "64KiB/m": `like "64KiB/s"`, "-1B/s": "negative",
	} {
		if _, err := parseRate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

func TestUnitsRefused(t *testing.T) {
	duration := func(s string) error { _, err := parseDuration(s); return err }
	size := func(s string) error { _, err := parseSize(s); return err }
	for _, tt := range []struct {
		parse func(string) error
		text  string
		want  string
	}{
		{duration, "", "empty"},
		{duration, "5", "no unit"},
		{duration, "5 s", "white space"},
		{duration, " 5s", "white space"},
		{duration, "5s ", "white space"},
		{duration, "-5s", "negative"},
		{duration, "5S", `did you mean "s"?`},
		{duration, "5mins", `"mins" is not a unit`},
		{duration, "s", "does not start with a number"},
		{duration, "5s3", "no unit"},
		{duration, "1..5s", "does not start with a number"},
		{duration, ".5s", "does not start with a number"},
		{duration, "1e3s", "not a unit"},
		{duration, "0.5ns", "whole number"},
		{duration, "9223372036854775808ns", "too large"},
		{duration, "20000w1000000w", "too large"},
		{duration, strings.Repeat("9", 41) + "s", "does not start with a number"},
		{size, "64", "no unit"},
		{size, "64kb", `did you mean "KB"?`},
		{size, "64kib", `did you mean "KiB"?`},
		{size, "1MiB1KiB", "more than one number"},
		{size, "0.5B", "whole number"},
		{size, "8388608TiB", "too large"},
		{size, "\xff", "does not start with a number"},
	} {
		err := tt.parse(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want an error with %q", tt.text, err, tt.want)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"5s", "1h30m", "1.5GiB", "64KiB", "", "9999999999999999999TB", "1µs", "\xc2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseDuration(s); err == nil {
			if d < 0 {
				t.Errorf("%q became %v", s, d)
			}
			// Where Go's own parser knows the units, both agree but for rounding.
			if std, stdErr := time.ParseDuration(s); stdErr == nil && (d-std > 1 || std-d > 1) {
				t.Errorf("%q became %v, Go's parser says %v", s, d, std)
			}
		}
		if n, err := parseSize(s); err == nil && n < 0 {
			t.Errorf("%q became %d", s, n)
		}
	})
}
