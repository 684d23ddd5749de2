package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
)

func diagnostic(summary, detail string, subject hcl.Range) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: subject.Ptr()}
}

func warning(summary, detail string, subject hcl.Range) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: summary, Detail: detail, Subject: subject.Ptr()}
}

// didYouMean is a sentence that offers the nearest of names, or nothing.
func didYouMean(given string, names []string) string {
	if best := nearest(given, names); best != "" {
		return fmt.Sprintf(" Did you mean %q?", best)
	}
	return ""
}

// nearest returns the name that given probably was meant to be, or "".
func nearest(given string, names []string) string {
	best, least := "", len(given)/3+2
	for _, name := range names {
		d := levenshtein.Distance(strings.ToLower(given), strings.ToLower(name), nil)
		if d < least && d < len(name) {
			best, least = name, d
		}
	}
	return best
}

func join(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func joinQuoted(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return join(quoted)
}

// place is a range as text that editors and terminals make a link of.
func place(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

func labelCount(labels []string) string {
	switch len(labels) {
	case 0:
		return "no label"
	case 1:
		return "one label, its " + labels[0]
	}
	return "two labels, its kind and its name"
}

func referenceForm(refers string) string {
	if refers == "remote" {
		return "remote.<kind>.<name>"
	}
	return refers + ".<name>"
}

// bounds says what Min and Max allow.
func (a *Arg) bounds() string {
	switch {
	case a.Min != "" && a.Max != "":
		return fmt.Sprintf("at least %s and at most %s", a.Min, a.Max)
	case a.Min != "":
		return "at least " + a.Min
	case a.Max != "":
		return "at most " + a.Max
	}
	return ""
}

// lowerFirst continues a sentence with another one, unless that begins with an
// abbreviation.
func lowerFirst(s string) string {
	if len(s) < 2 || s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// spaced puts a sentence after another one.
func spaced(sentence string) string {
	if sentence == "" {
		return ""
	}
	return " " + sentence
}
