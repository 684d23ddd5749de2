package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const wrongFile = `edge {
  device_id = "d"
  data_dri  = "data"
}
`

// TestValidateWrongFile holds I10: the error names file, line and column, and
// says what to do.
func TestValidateWrongFile(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "wrong.hcl"), wrongFile)

	r := edged(t, dir, "", "validate", "wrong.hcl")
	r.wantCode(t, exitConfig)
	for _, want := range []string{"wrong.hcl:3:3", "data_dri", "data_dir", "\nedged: the configuration has "} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr has no %q:\n%s", want, r.stderr)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("validation left something behind: %v %v", entries, err)
	}

	// The commands that need the file say the same.
	for _, command := range []string{"run", "audit", "status"} {
		other := edged(t, dir, "", command, "wrong.hcl")
		other.wantCode(t, exitConfig)
		if other.stderr != r.stderr {
			t.Errorf("%s says %q, validate %q", command, other.stderr, r.stderr)
		}
	}
}

func TestValidateJSON(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "wrong.hcl"), wrongFile)
	r := edged(t, dir, "", "validate", "wrong.hcl", "--json")
	r.wantCode(t, exitConfig)
	var got validation
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	if got.Valid || got.Errors == 0 || r.stderr != "" {
		t.Fatalf("answer %+v, stderr %q", got, r.stderr)
	}
	want := positionJSON{Line: 3, Column: 3, Byte: strings.Index(wrongFile, "data_dri")}
	for _, d := range got.Diagnostics {
		if d.Range != nil && d.Range.Filename == "wrong.hcl" && d.Range.Start == want {
			if d.Severity != "error" || d.Summary == "" || !strings.Contains(d.Detail, "data_dir") {
				t.Errorf("diagnostic %+v", d)
			}
			return
		}
	}
	t.Errorf("no diagnostic at %+v: %s", want, r.stdout)
}

func TestValidateMissingFile(t *testing.T) {
	r := edged(t, t.TempDir(), "", "validate", "nowhere.hcl")
	r.wantCode(t, exitConfig)
	if !strings.Contains(r.stderr, "nowhere.hcl") {
		t.Errorf("stderr: %q", r.stderr)
	}
}

const (
	unformatted = "edge {\n    device_id=\"d\"\n  data_dir = \"x\" # here\n}\n"
	formatted   = "edge {\n  device_id = \"d\"\n  data_dir  = \"x\" # here\n}\n"
	broken      = "edge {\n"
)

func TestFmtInPlace(t *testing.T) {
	dir := t.TempDir()
	name := writeFile(t, filepath.Join(dir, "a.hcl"), unformatted)
	writeFile(t, filepath.Join(dir, "b.hcl"), formatted)
	writeFile(t, filepath.Join(dir, "c.txt"), unformatted)
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}

	check := edged(t, dir, "", "fmt", "--check", "--diff")
	check.wantCode(t, exitRuntime)
	wantDiff := `a.hcl
--- a.hcl
+++ a.hcl (formatted)
@@ -1,4 +1,4 @@
 edge {
-    device_id="d"
-  data_dir = "x" # here
+  device_id = "d"
+  data_dir  = "x" # here
 }
`
	if diff := cmp.Diff(wantDiff, check.stdout); diff != "" {
		t.Errorf("--check --diff (-want +got):\n%s", diff)
	}
	if got := readFile(t, name); got != unformatted {
		t.Fatalf("--check changed the file: %q", got)
	}

	r := edged(t, dir, "", "fmt")
	r.wantCode(t, exitOK)
	if r.stdout != "a.hcl\n" {
		t.Errorf("stdout %q, want the changed file's name", r.stdout)
	}
	if got := readFile(t, name); got != formatted {
		t.Errorf("formatted to %q, want %q", got, formatted)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v; want it kept", info.Mode(), err)
	}
	if got := readFile(t, filepath.Join(dir, "c.txt")); got != unformatted {
		t.Errorf("a file that is not HCL was formatted: %q", got)
	}

	again := edged(t, dir, "", "fmt", "--check", ".")
	again.wantCode(t, exitOK)
	if again.stdout != "" {
		t.Errorf("formatting twice changes something: %q", again.stdout)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("fmt left something behind: %v %v", entries, err)
	}
}

func TestFmtStream(t *testing.T) {
	r := edged(t, t.TempDir(), unformatted, "fmt", "-")
	r.wantCode(t, exitOK)
	if r.stdout != formatted {
		t.Errorf("stdout %q, want %q", r.stdout, formatted)
	}
	edged(t, t.TempDir(), unformatted, "fmt", "--check", "-").wantCode(t, exitRuntime)
	edged(t, t.TempDir(), formatted, "fmt", "--check", "-").wantCode(t, exitOK)
}

// TestFmtBroken holds that one broken file does not keep the others from being
// formatted.
func TestFmtBroken(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.hcl"), broken)
	good := writeFile(t, filepath.Join(dir, "b.hcl"), unformatted)
	r := edged(t, dir, "", "fmt")
	r.wantCode(t, exitConfig)
	if !strings.Contains(r.stderr, "a.hcl:") {
		t.Errorf("stderr does not name the broken file: %q", r.stderr)
	}
	if got := readFile(t, good); got != formatted {
		t.Errorf("the good file is %q", got)
	}
	if got := readFile(t, filepath.Join(dir, "a.hcl")); got != broken {
		t.Errorf("the broken file is %q", got)
	}
}

func TestFmtKeepsSymbolicLink(t *testing.T) {
	dir := t.TempDir()
	target := writeFile(t, filepath.Join(dir, "real.hcl"), unformatted)
	link := filepath.Join(dir, "link.hcl")
	if err := os.Symlink("real.hcl", link); err != nil {
		t.Fatal(err)
	}
	edged(t, dir, "", "fmt", "link.hcl").wantCode(t, exitOK)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became a file: %v %v", info, err)
	}
	if got := readFile(t, target); got != formatted {
		t.Errorf("the file behind the link is %q", got)
	}
}

func TestUnifiedDiff(t *testing.T) {
	lines := func(s ...string) []byte { return []byte(strings.Join(s, "\n") + "\n") }
	for name, c := range map[string]struct {
		before, after []byte
		want          string
	}{
		"equal": {lines("a"), lines("a"), ""},
		"two hunks": {
			lines("a", "2", "3", "4", "5", "6", "7", "8", "9", "b"),
			lines("A", "2", "3", "4", "5", "6", "7", "8", "9", "B"),
			"--- f\n+++ f (formatted)\n@@ -1,4 +1,4 @@\n-a\n+A\n 2\n 3\n 4\n@@ -7,4 +7,4 @@\n 7\n 8\n 9\n-b\n+B\n",
		},
		"one hunk": {
			lines("a", "2", "3", "b"), lines("A", "2", "3", "B"),
			"--- f\n+++ f (formatted)\n@@ -1,4 +1,4 @@\n-a\n+A\n 2\n 3\n-b\n+B\n",
		},
		"line gone": {
			lines("a", "", "", "b"), lines("a", "", "b"),
			"--- f\n+++ f (formatted)\n@@ -1,4 +1,3 @@\n a\n \n-\n b\n",
		},
		"from nothing": {
			nil, lines("a"),
			"--- f\n+++ f (formatted)\n@@ -0,0 +1,1 @@\n+a\n",
		},
		"end of file": {
			[]byte("a=1"), []byte("a = 1\n"),
			"--- f\n+++ f (formatted)\n@@ -1,1 +1,1 @@\n-a=1\n\\ No newline at end of file\n+a = 1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, unifiedDiff("f", c.before, c.after)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzUnifiedDiff applies the diff of two texts to the first and must get the
// second.
func FuzzUnifiedDiff(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\n")
	f.Add("a\n\n\nb", "a\n\nb\n")
	f.Add("", "x")
	f.Add("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\nx\n3\n4\n5\n6\n7\n8\n9\n9\n")
	f.Add("b\na\nb\na\n", "a\nb\nb\n")
	f.Fuzz(func(t *testing.T, before, after string) {
		if got := applySpans(t, splitLines([]byte(before)), splitLines([]byte(after))); got != after {
			t.Errorf("%q -> %q: the changes give %q", before, after, got)
		}
		if diff := unifiedDiff("f", []byte(before), []byte(after)); (diff == "") != (before == after) {
			t.Errorf("%q -> %q: diff %q", before, after, diff)
		}
	})
}

// applySpans rebuilds b from a and the spans between them.
func applySpans(t *testing.T, a, b []string) string {
	t.Helper()
	var out strings.Builder
	at := 0
	for _, s := range changedLines(a, b) {
		if s.aFrom < at || s.aTo < s.aFrom || s.bTo < s.bFrom {
			t.Fatalf("spans out of order: %+v", s)
		}
		out.WriteString(strings.Join(a[at:s.aFrom], "") + strings.Join(b[s.bFrom:s.bTo], ""))
		at = s.aTo
	}
	out.WriteString(strings.Join(a[at:], ""))
	return out.String()
}

// TestEmptyFolder holds that a folder without pipeline files is an error
// of the configuration, and says which folder.
func TestEmptyFolder(t *testing.T) {
	r := edged(t, t.TempDir(), "", "validate", ".")
	r.wantCode(t, exitConfig)
	if !strings.Contains(r.stderr, ".hcl") {
		t.Errorf("stderr: %q", r.stderr)
	}
}
