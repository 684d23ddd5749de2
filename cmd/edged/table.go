package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// table lays out rows for people: the first column to the left, a column
// whose cells are all numbers to the right.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// String ends every row with a newline and no row with spaces.
func (t *table) String() string {
	all := t.rows
	if t.head != nil {
		all = append([][]string{t.head}, t.rows...)
	}
	var widths []int
	var words []bool // the column holds something that is not a number
	for i, row := range all {
		for col, cell := range row {
			if col == len(widths) {
				widths, words = append(widths, 0), append(words, false)
			}
			widths[col] = max(widths[col], utf8.RuneCountInString(cell))
			if (i > 0 || t.head == nil) && !isNumber(cell) {
				words[col] = true
			}
		}
	}
	var out strings.Builder
	for _, row := range all {
		var line strings.Builder
		for col, cell := range row {
			gap := strings.Repeat(" ", widths[col]-utf8.RuneCountInString(cell))
			if col > 0 {
				line.WriteString("  ")
			}
			if col > 0 && !words[col] {
				line.WriteString(gap + cell)
			} else {
				line.WriteString(cell + gap)
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return out.String()
}

func isNumber(cell string) bool {
	return strings.Trim(cell, "0123456789,") == ""
}

// number writes 18760 as 18,760.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

// plural writes "1 record", "18,760 records".
func plural(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// bytesize writes a size in the largest unit that leaves a whole part.
func bytesize(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		value /= 1024
		if value < 1024 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

// span writes how long something takes or lasts: "0.4 s", "12 s", "3m07s".
func span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(max(d, 0).Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// age writes how long ago at was, seen from now.
func age(now, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return span(now.Sub(at))
}

// ranges writes record numbers as "7, 12-19"; it names at most ten ranges.
func ranges(of [][2]uint64) string {
	const most = 10
	parts := make([]string, 0, most+1)
	for i, r := range of {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(of)-most))
			break
		}
		if r[0] == r[1] {
			parts = append(parts, strconv.FormatUint(r[0], 10))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r[0], r[1]))
		}
	}
	return strings.Join(parts, ", ")
}
