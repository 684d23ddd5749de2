package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// testHost knows a name and no environment.
func testHost() expr.Host {
	return expr.Host{
		Hostname:  func() (string, error) { return "test-host", nil },
		LookupEnv: func(string) (string, bool) { return "", false },
	}
}

var expectation = regexp.MustCompile(`(ERROR|WARNING): ([^;#]+)`)

// TestFixtures loads every file and folder of testdata and compares the
// diagnostics with the comments on their lines.
func TestFixtures(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join("testdata", e.Name())
		if !e.IsDir() && filepath.Ext(path) != ".hcl" {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			cfg, diags := config.Load([]string{path}, testCatalog(), testHost())
			want := map[string][]string{}
			for name, file := range cfg.Files {
				for i, line := range strings.Split(string(file.Bytes), "\n") {
					for _, m := range expectation.FindAllStringSubmatch(line, -1) {
						at := place(name, i+1)
						want[at] = append(want[at], m[1]+": "+strings.TrimSpace(m[2]))
					}
				}
			}
			got := map[string][]string{}
			for _, d := range diags {
				at := place(d.Subject.Filename, d.Subject.Start.Line)
				got[at] = append(got[at], severity(d)+": "+d.Summary)
			}
			if diff := cmp.Diff(want, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("diagnostics (-expected +told):\n%s", diff)
			}
			checkManners(t, diags)
		})
	}
}

func place(file string, line int) string {
	return hcl.Range{Filename: file, Start: hcl.Pos{Line: line}}.String()
}

func severity(d *hcl.Diagnostic) string {
	if d.Severity == hcl.DiagWarning {
		return "WARNING"
	}
	return "ERROR"
}

// checkManners holds every diagnostic to the form that all of them share.
func checkManners(t *testing.T, diags hcl.Diagnostics) {
	t.Helper()
	var last hcl.Range
	for _, d := range diags {
		if d.Detail == "" || strings.HasSuffix(d.Summary, ".") || len(d.Summary) > 60 {
			t.Errorf("summary %q with detail %q: the summary is short and the detail not empty", d.Summary, d.Detail)
		}
		if !strings.HasSuffix(d.Detail, ".") && !strings.HasSuffix(d.Detail, "?") {
			t.Errorf("the detail is no sentence: %q", d.Detail)
		}
		if s := *d.Subject; s.Filename < last.Filename || s.Filename == last.Filename && s.Start.Byte < last.Start.Byte {
			t.Errorf("%s stands after %s", s, last)
		}
		last = *d.Subject
		if d.Context != nil && (d.Context.Start.Byte > d.Subject.Start.Byte || d.Context.End.Byte < d.Subject.End.Byte) {
			t.Errorf("%s: the context %s does not hold the subject", d.Subject, d.Context)
		}
	}
}
