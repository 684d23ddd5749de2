package sdk_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmesShowTheTemplates holds that the guides show what a project begins
// with as it is. The AssemblyScript guide has its own test.
func TestReadmesShowTheTemplates(t *testing.T) {
	for lang, files := range map[string][]string{
		"c":    {"transform/plugin.c", "transform/plugin_test.c", "resolver/plugin.c"},
		"rust": {"transform/src/lib.rs", "resolver/src/lib.rs"},
		"go":   {"transform/plugin.go", "transform/plugin_test.go", "resolver/plugin.go"},
	} {
		readme, err := os.ReadFile(filepath.Join(lang, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			code, err := os.ReadFile(filepath.Join(lang, "template", file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(readme), string(code)) {
				t.Errorf("%s/README.md does not show %s as it is", lang, file)
			}
		}
	}
}
