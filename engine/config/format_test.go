package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/edged/edged/engine/config"
)

func TestFormat(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"only blank", "\n\n", ""},
		{"alignment", "edge {\n device_id=\"x\"\n    data_dir   =   \"y\"\n}", "edge {\n  device_id = \"x\"\n  data_dir  = \"y\"\n}\n"},
		{"blank lines", "\n\na = 1\n\n\n\nb {\n\n  c = 1\n\n\n}\n\n\n", "a = 1\n\nb {\n  c = 1\n}\n"},
		{"line ends", "\xef\xbb\xbfa = 1\r\n# x\r\nb = [ \r\n\r\n1,\r\n]\r\n", "a = 1\n# x\nb = [\n  1,\n]\n"},
		{"trailing space", "a = 1   \nb {  \n  # c  \n}\t\n", "a = 1\nb {\n  # c\n}\n"},
		{"comments", "# one\n\n\n# two\nb { # three\n\n  # four\n}\n// five", "# one\n\n# two\nb { # three\n\n  # four\n}\n// five\n"},
		{"heredoc", "a = <<EOT\n\n\n x  \r\n\n\nEOT\n\n\n\nb=1\n", "a = <<EOT\n\n\n x  \r\n\n\nEOT\n\nb = 1\n"},
		{"block comment", "/* a  \n\n\n b */\na=1\n", "/* a  \n\n\n b */\na = 1\n"},
		{"one line", "b { a=1 }\n", "b { a = 1 }\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, diags := config.Format([]byte(tt.in), "x.hcl")
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkFormat(t, []byte(tt.in), got)
		})
	}
}

func TestFormatLeavesBrokenTextAlone(t *testing.T) {
	src := "edge {\n      a = \n}"
	got, diags := config.Format([]byte(src), "x.hcl")
	if string(got) != src || !diags.HasErrors() {
		t.Errorf("got %q with %v", got, diags)
	}
}

// checkFormat holds a result to what Format promises: the same tokens, and
// nothing more to do.
func checkFormat(t *testing.T, src, out []byte) {
	t.Helper()
	again, diags := config.Format(out, "x.hcl")
	if diags.HasErrors() {
		t.Fatalf("%q became %q, which does not parse: %s", src, out, diags)
	}
	if diff := cmp.Diff(string(out), string(again)); diff != "" {
		t.Errorf("%q is formatted differently the second time (-first +second):\n%s", src, diff)
	}
	if diff := cmp.Diff(significant(src), significant(out)); diff != "" {
		t.Errorf("%q: the tokens changed (-before +after):\n%s", src, diff)
	}
}

// significant lists the tokens that carry meaning.
func significant(src []byte) []string {
	tokens, _ := hclsyntax.LexConfig(src, "x.hcl", hcl.InitialPos)
	var list []string
	for _, token := range tokens {
		switch token.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenEOF, hclsyntax.TokenComment:
		default:
			list = append(list, token.Type.String()+" "+string(token.Bytes))
		}
	}
	return list
}

func FuzzFormat(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		out, diags := config.Format(src, "x.hcl")
		if !diags.HasErrors() {
			checkFormat(t, src, out)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	catalog := testCatalog()
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, diags := config.Parse(map[string][]byte{"x.hcl": src}, catalog, testHost())
		checkManners(t, diags)
		if err := config.WriteDiagnostics(nowhere{}, diags, cfg.Files, true, 60); err != nil {
			t.Error(err)
		}
	})
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func seeds(f *testing.F) [][]byte {
	f.Helper()
	list := [][]byte{
		nil,
		[]byte("\xef\xbb\xbfedge {}\r\n"),
		[]byte("edge {\n  device_id = <<-EOT\n    a ${hostname()}\n  EOT\n}\n"),
		[]byte("plugin \"p\" {\n  module = \"x\"\n  config = \"${1e999999999}\"\n}\n"),
		[]byte("edge \"\\x\" { a.b = }"),
	}
	paths, err := filepath.Glob(filepath.Join("testdata", "*.hcl"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		list = append(list, src)
	}
	return list
}

// TestShippedPipelines holds the files that people copy to the one layout.
func TestShippedPipelines(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "..", "pipelines", "*.hcl"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out, diags := config.Format(src, path)
		if diff := cmp.Diff(string(src), string(out)); diff != "" || diags.HasErrors() {
			t.Errorf("%s is not laid out as edged fmt does (-file +formatted):\n%s\n%v", path, diff, diags)
		}
	}
}
