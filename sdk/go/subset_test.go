package edged_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestSubset holds that the SDK itself, for every target, imports nothing that brings
// reflection into a module: what the README says of TinyGo stands on it.
func TestSubset(t *testing.T) {
	allowed := []string{"bytes", "errors", "math", "math/bits", "strconv", "strings", "unicode/utf8", "unsafe"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		read++
		for _, spec := range f.Imports {
			if path, err := strconv.Unquote(spec.Path.Value); err != nil || !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s; the SDK has %s alone", name, spec.Path.Value, strings.Join(allowed, ", "))
			}
		}
	}
	if read < 5 {
		t.Errorf("only %d files were read", read)
	}
}
