package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/expr"
)

var validWord = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// CheckCatalog reports every fault in the declarations of catalog and of the
// language around it: names, sentences, defaults and bounds that contradict
// their types, examples that do not validate. A test of whoever makes a
// catalog calls it; without faults, [Load] cannot panic because of a
// declaration.
func CheckCatalog(catalog Catalog) error {
	lang := language(catalog)
	var errs []error
	for i := range lang.Blocks {
		errs = append(errs, checkSpec(&lang.Blocks[i], lang.Blocks[i].Name)...)
		errs = append(errs, checkExamples(&lang, &lang.Blocks[i], lang.Blocks[i].Name)...)
	}
	return errors.Join(errs...)
}

func checkSpec(s *Spec, path string) []error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	if !validWord.MatchString(s.Name) {
		fault("the name %q is not lower case letters, digits and underscores", s.Name)
	}
	if !isSentence(s.Summary) {
		fault("the summary is no sentence: %q", s.Summary)
	}
	seen := map[string]bool{}
	for i := range s.Args {
		a := &s.Args[i]
		if seen[a.Name] {
			fault("%q is declared twice", a.Name)
		}
		seen[a.Name] = true
		for _, err := range checkArg(a) {
			errs = append(errs, fmt.Errorf("%s.%s: %w", path, a.Name, err))
		}
	}
	for _, nested := range [][]Spec{s.Blocks, s.Kinds} {
		for i := range nested {
			if seen[nested[i].Name] {
				fault("%q is declared twice", nested[i].Name)
			}
			seen[nested[i].Name] = true
			errs = append(errs, checkSpec(&nested[i], path+"."+nested[i].Name)...)
		}
	}
	return errs
}

func isSentence(s string) bool {
	return strings.HasSuffix(s, ".") && strings.ToUpper(s[:1]) == s[:1]
}

func checkArg(a *Arg) []error {
	var errs []error
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(!validWord.MatchString(a.Name), "the name is not lower case letters, digits and underscores")
	fault(!strings.HasSuffix(a.Doc, "."), "the documentation is no sentence: %q", a.Doc)
	fault(a.Required && a.Default != "", "a required argument has a default")
	texts := []Type{String, StringList}
	fault(len(a.Enum) > 0 && !slices.Contains(append(texts, Resolvers), a.Type), "only a String, StringList or Resolvers has an Enum")
	fault(len(a.Elsewhere) > 0 && len(a.Enum) == 0, "Elsewhere belongs to an Enum")
	fault(slices.ContainsFunc(a.Enum, func(v string) bool { return a.Elsewhere[v] != "" }), "Elsewhere has a value of the Enum")
	fault(a.Check != nil && !slices.Contains(texts, a.Type), "only a String or StringList has a Check")
	fault(a.Result != expr.Any && a.Type != Expression, "only an Expression has a Result")
	fault(a.Root != expr.None && a.Type != Expression, "only an Expression has a Root")
	fault((a.Refers != "") != (a.Type == BlockRef), "Refers belongs to a BlockRef")
	fault(a.Refers != "" && a.Refers != "plugin" && a.Refers != "remote", "%q cannot be referred to", a.Refers)
	switch a.Type {
	case Int, Float, Duration, Size, Rate:
		low, lowErr := limit(a, a.Min)
		high, highErr := limit(a, a.Max)
		fault(lowErr != nil, "Min: %w", lowErr)
		fault(highErr != nil, "Max: %w", highErr)
		fault(a.Min != "" && a.Max != "" && lowErr == nil && highErr == nil && low.Cmp(high) > 0, "Min is above Max")
	default:
		fault(a.Min != "" || a.Max != "", "a %s has no bounds", a.Type)
	}
	if a.Default == "" || len(errs) > 0 {
		return errs
	}
	if _, diags := parseDefault(a); diags.HasErrors() {
		return append(errs, fmt.Errorf("the default does not parse: %w", diags))
	}
	d := newDecoder(expr.Host{Hostname: func() (string, error) { return "host", nil }})
	d.defaultValue(a, hcl.Range{})
	fault(d.diags.HasErrors(), "the default is wrong: %w", d.diags)
	return errs
}

// checkExamples decodes each example as it would stand in its parent.
func checkExamples(parent, s *Spec, path string) []error {
	var errs []error
	specs := append([]Spec{*s}, s.Kinds...)
	for i := range specs {
		if specs[i].Example == "" {
			continue
		}
		if err := checkExample(parent, specs[i].Example); err != nil {
			errs = append(errs, fmt.Errorf("%s: the example of %q: %w", path, specs[i].Name, err))
		}
	}
	for i := range specs {
		for j := range specs[i].Blocks {
			b := &specs[i].Blocks[j]
			errs = append(errs, checkExamples(&specs[i], b, path+"."+b.Name)...)
		}
	}
	return errs
}

func checkExample(parent *Spec, example string) error {
	file, diags := parseFile([]byte(example), "example")
	if diags.HasErrors() {
		return diags
	}
	// The parent's own arguments and other blocks are not part of the example.
	around := Spec{Name: parent.Name, Blocks: append([]Spec{}, parent.Blocks...)}
	for i := range around.Blocks {
		around.Blocks[i].Required = false
	}
	d := newDecoder(expr.Host{})
	d.decode(block{spec: &around, title: "The example", body: bodyOf(file)})
	if len(d.diags) > 0 {
		return d.diags
	}
	if formatted, _ := Format([]byte(example), "example"); strings.TrimSpace(string(formatted)) != strings.TrimSpace(example) {
		return fmt.Errorf("is not laid out as Format does: %s", formatted)
	}
	return nil
}
