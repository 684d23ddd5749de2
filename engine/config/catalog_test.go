package config_test

import (
	"strings"
	"testing"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

func TestCheckCatalog(t *testing.T) {
	if err := config.CheckCatalog(testCatalog()); err != nil {
		t.Error(err)
	}
	if err := config.CheckCatalog(config.Catalog{}); err != nil {
		t.Error(err)
	}
}

func TestCheckCatalogFindsFaults(t *testing.T) {
	sound := config.Spec{Name: "x", Summary: "It does."}
	for want, change := range map[string]func(s *config.Spec){
		"the name":               func(s *config.Spec) { s.Name = "X-1" },
		"summary is no sentence": func(s *config.Spec) { s.Summary = "it does" },
		`"a" is declared twice`:  func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A."}, {Name: "a", Doc: "A."}} },
		`"b" is declared twice`: func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "b", Doc: "A."}}
			s.Blocks = []config.Spec{{Name: "b", Summary: "B."}}
		},
		"x.b: the summary":    func(s *config.Spec) { s.Blocks = []config.Spec{{Name: "b"}} },
		"documentation is no": func(s *config.Spec) { s.Args = []config.Arg{{Name: "a"}} },
		"required argument":   func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Required: true, Default: `"x"`}} },
		"only a String, StringList or Resolvers has an Enum": func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "a", Doc: "A.", Type: config.Int, Enum: []string{"x"}}}
		},
		"Elsewhere belongs": func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "a", Doc: "A.", Elsewhere: map[string]string{"x": "It is there."}}}
		},
		"Elsewhere has a value": func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "a", Doc: "A.", Enum: []string{"x"}, Elsewhere: map[string]string{"x": "It is there."}}}
		},
		"has a Check": func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "a", Doc: "A.", Type: config.Int, Check: config.NotEmpty}}
		},
		"has a Result":   func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Result: expr.Bool}} },
		"has a Root":     func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Root: expr.Input}} },
		"Refers belongs": func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Refers: "plugin"}} },
		`"x" cannot be referred to`: func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "a", Doc: "A.", Type: config.BlockRef, Refers: "x"}}
		},
		"Min: ": func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Type: config.Duration, Min: "5"}} },
		"Max: ": func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Type: config.Size, Max: "5"}} },
		"Min is above Max": func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "a", Doc: "A.", Type: config.Int, Min: "2", Max: "1"}}
		},
		"has no bounds":              func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Min: "2"}} },
		"the default does not parse": func(s *config.Spec) { s.Args = []config.Arg{{Name: "a", Doc: "A.", Default: `"`}} },
		"the default is wrong": func(s *config.Spec) {
			s.Args = []config.Arg{{Name: "a", Doc: "A.", Type: config.Duration, Default: `"5"`}}
		},
		"Unsupported argument": func(s *config.Spec) { s.Example = "remote \"x\" \"y\" {\n  a = 1\n}\n" },
		"Unsupported block":    func(s *config.Spec) { s.Example = "x {}\n" },
		"definition required":  func(s *config.Spec) { s.Example = "x" },
		"not laid out":         func(s *config.Spec) { s.Example = "remote \"x\" \"y\"   {\n}\n" },
	} {
		t.Run(want, func(t *testing.T) {
			spec := sound
			change(&spec)
			err := config.CheckCatalog(config.Catalog{Remotes: []config.Spec{spec}})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
}
