package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file of testdata, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is stale (-want +got); after a look at the difference, run the test with -update:\n%s", path, diff)
	}
}

func TestWriteDiagnosticsGolden(t *testing.T) {
	files := map[string][]byte{
		"cold.hcl": []byte("# A comment.\n" +
			"edge {\n" +
			"\tdata_dir = 7 # tabs before the place\n" +
			"\tdurability = \"日本\" \n" +
			"\tmax_bytes = \"a very very long text that goes on and on, far beyond what a terminal of seventy columns can show on one line\"\n" +
			"}\n" +
			"pipeline \"p\" {\n" +
			"  alert \"\x1b[31mred\" {\n" +
			"    when = (\n" +
			"      no.such.variable\n" +
			"    )\n" +
			"    topic    = {\n" +
			"      a = \"\u202e\"\n" +
			"    }\n" +
			"    message  = \"日本語 ${" + strings.Repeat(" ", 80) + "nothing}\"\n" +
			"  }\n" +
			"}\n"),
		"more.hcl": []byte("pipeline \"q\" {\n  collect \"generator\" \"g\" {\n    payload = {}\n    \"end\n"),
	}
	for _, tt := range []struct {
		golden string
		color  bool
		width  int
	}{
		{"diagnostics.golden", false, 70},
		{"diagnostics-color.golden", true, 0},
	} {
		cfg, diags := config.Parse(files, testCatalog(), testHost())
		diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: "Without a place", Detail: "First.\nSecond."})
		var out strings.Builder
		if err := config.WriteDiagnostics(&out, diags, cfg.Files, tt.color, tt.width); err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(out.String(), "\n") {
			if n := len([]rune(line)); tt.width > 0 && n > tt.width && strings.Count(strings.TrimSpace(line), " ") > 2 && strings.HasPrefix(line, " ") {
				t.Errorf("line %d has %d characters: %q", i+1, n, line)
			}
		}
		golden(t, tt.golden, []byte(out.String()))
	}
}

// TestWriteDiagnosticsForeignPlaces hands over ranges that are not in the file.
func TestWriteDiagnosticsForeignPlaces(t *testing.T) {
	files := map[string]*hcl.File{"a.hcl": {Bytes: []byte("short")}}
	for _, r := range []hcl.Range{
		{Filename: "a.hcl", Start: hcl.Pos{Line: 9, Column: 9, Byte: 900}, End: hcl.Pos{Line: 9, Column: 9, Byte: 901}},
		{Filename: "a.hcl", Start: hcl.Pos{Line: 1, Column: 1, Byte: 4}, End: hcl.Pos{Line: 1, Column: 1, Byte: 2}},
		{Filename: "a.hcl", Start: hcl.Pos{Line: 1, Column: 1, Byte: -1}},
		{Filename: "b.hcl", Start: hcl.Pos{Line: 1, Column: 1}},
		{Filename: "a.hcl"},
	} {
		var out strings.Builder
		diags := hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Sum", Detail: "Detail.", Subject: &r, Context: &r}}
		if err := config.WriteDiagnostics(&out, diags, files, true, 1); err != nil || !strings.Contains(out.String(), "Detail.") {
			t.Errorf("%v: %q, %v", r, out.String(), err)
		}
	}
}

func TestWriteDiagnosticsReportsTheWriter(t *testing.T) {
	full := errors.New("no space")
	err := config.WriteDiagnostics(failingWriter{full}, hcl.Diagnostics{{Summary: "s"}}, nil, false, 0)
	if !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
