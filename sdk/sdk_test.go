package sdk_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/edged/edged/sdk"
)

func TestEveryProjectIsWhole(t *testing.T) {
	for _, lang := range sdk.Languages() {
		for _, kind := range sdk.Kinds() {
			t.Run(lang+" "+kind, func(t *testing.T) {
				p, err := sdk.NewProject(lang, kind, "my_plugin")
				if err != nil {
					t.Fatal(err)
				}
				var paths []string
				for _, f := range p.Files {
					if strings.Contains(string(f.Data), "pluginname") {
						t.Errorf("%s still has the placeholder", f.Path)
					}
					paths = append(paths, f.Path)
				}
				if !slices.IsSorted(paths) || len(slices.Compact(slices.Clone(paths))) != len(paths) {
					t.Errorf("the paths are not in order, or one is there twice: %v", paths)
				}
				for _, want := range []string{"README.md", "edged/README.md", "edged/abi.md"} {
					if !slices.Contains(paths, want) {
						t.Errorf("there is no %s", want)
					}
				}
				if !strings.HasSuffix(p.Module, "my_plugin.wasm") || len(p.Build.Args) == 0 || len(p.Test.Args) == 0 {
					t.Errorf("it makes %s with %q, tested with %q", p.Module, p.Build, p.Test)
				}
			})
		}
	}
}

func TestProjectsThatAreNone(t *testing.T) {
	for _, c := range []struct{ lang, kind, name, want string }{
		{"cobol", "transform", "x", "SDKs for "},
		{"assemblyscript", "source", "x", "there are transform, resolver"},
		{"assemblyscript", "transform", "../x", "plugin name"},
		{"assemblyscript", "transform", "", "plugin name"},
		{"assemblyscript", "transform", "X", "plugin name"},
		{"assemblyscript", "transform", strings.Repeat("x", 65), "plugin name"},
	} {
		if _, err := sdk.NewProject(c.lang, c.kind, c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s %q: %v", c.lang, c.kind, c.name, err)
		}
	}
}
