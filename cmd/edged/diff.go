package main

import (
	"bytes"
	"fmt"
	"strings"
)

// diffContext is how many unchanged lines surround a change.
const diffContext = 3

// diffLimit bounds the table that finds a shortest diff, in cells: two files of
// 4,000 lines. Above it, all between the first and the last difference counts
// as changed.
const diffLimit = 4000 * 4000

// unifiedDiff shows how a file changes, as `diff -u` would.
func unifiedDiff(name string, before, after []byte) string {
	if bytes.Equal(before, after) {
		return ""
	}
	a, b := splitLines(before), splitLines(after)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s (formatted)\n", name, name)
	spans := changedLines(a, b)
	for len(spans) > 0 {
		// Changes whose context would overlap share a hunk.
		n := 1
		for n < len(spans) && spans[n].aFrom-spans[n-1].aTo <= 2*diffContext {
			n++
		}
		writeHunk(&out, a, b, spans[:n])
		spans = spans[n:]
	}
	return out.String()
}

// lineSpan says that lines [aFrom, aTo) became lines [bFrom, bTo).
type lineSpan struct{ aFrom, aTo, bFrom, bTo int }

// changedLines returns what differs, in order.
func changedLines(a, b []string) []lineSpan {
	start, end := 0, 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		start++
	}
	for end < min(len(a), len(b))-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	whole := lineSpan{start, len(a) - end, start, len(b) - end}
	a, b = a[start:whole.aTo], b[start:whole.bTo]
	if len(a)*len(b) > diffLimit {
		return []lineSpan{whole}
	}

	spans := align(a, b)
	for i := range spans {
		s := &spans[i]
		s.aFrom, s.aTo, s.bFrom, s.bTo = s.aFrom+start, s.aTo+start, s.bFrom+start, s.bTo+start
	}
	return spans
}

// align walks a longest common subsequence of a and b and returns what lies
// between its lines.
func align(a, b []string) []lineSpan {
	common := commonLines(a, b)
	var spans []lineSpan
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j = i+1, j+1
			continue
		}
		span := lineSpan{aFrom: i, bFrom: j}
		for i < len(a) && (j == len(b) || common[i+1][j] == common[i][j]) {
			i++
		}
		for j < len(b) && common[i][j+1] == common[i][j] {
			j++
		}
		span.aTo, span.bTo = i, j
		spans = append(spans, span)
	}
	return spans
}

// commonLines tells at [i][j] how many lines a[i:] and b[j:] have in common at
// most.
func commonLines(a, b []string) [][]int32 {
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	return common
}

func writeHunk(out *strings.Builder, a, b []string, spans []lineSpan) {
	first, last := spans[0], spans[len(spans)-1]
	lead := min(diffContext, first.aFrom)
	trail := min(diffContext, len(a)-last.aTo)
	aFrom, aTo := first.aFrom-lead, last.aTo+trail
	bFrom, bTo := first.bFrom-lead, last.bTo+trail
	fmt.Fprintf(out, "@@ -%s +%s @@\n", hunkRange(aFrom, aTo), hunkRange(bFrom, bTo))

	at := aFrom
	for _, s := range spans {
		writeLines(out, ' ', a[at:s.aFrom])
		writeLines(out, '-', a[s.aFrom:s.aTo])
		writeLines(out, '+', b[s.bFrom:s.bTo])
		at = s.aTo
	}
	writeLines(out, ' ', a[at:aTo])
}

// hunkRange counts lines from 1; an empty range names the line before it.
func hunkRange(from, to int) string {
	if from == to {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

func writeLines(out *strings.Builder, mark byte, lines []string) {
	for _, line := range lines {
		out.WriteByte(mark)
		out.WriteString(line)
		if !strings.HasSuffix(line, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

func splitLines(text []byte) []string {
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
