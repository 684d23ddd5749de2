package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/plugins"
	"github.com/edged/edged/sdk"
)

// TestPluginNew begins a plugin of every language and kind, without a toolchain.
func TestPluginNew(t *testing.T) {
	for _, lang := range sdk.Languages() {
		for _, kind := range sdk.Kinds() {
			t.Run(lang+" "+kind, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "My-plugin 2")
				r := edged(t, filepath.Dir(dir), "", "plugin", "new", filepath.Base(dir), "--lang", lang, "--kind", kind)
				r.wantCode(t, exitOK)
				if !strings.HasPrefix(r.stdout, kind+" my_plugin_2, in "+lang+", begun in My-plugin 2\n\nNext:\n  cd My-plugin 2\n  edged plugin build\n") {
					t.Errorf("stdout %s", r.stdout)
				}
				readme := readFile(t, filepath.Join(dir, "README.md"))
				if want := "edged plugin new --lang " + lang + " --kind " + kind + " --name my_plugin_2\n"; !strings.Contains(readme, want) {
					t.Errorf("the README has no %q", want)
				}
				if kind == sdk.Transform {
					edged(t, dir, "", "fmt", "--check", "pipeline.hcl").wantCode(t, exitOK)
					if pipeline := readFile(t, filepath.Join(dir, "pipeline.hcl")); !strings.Contains(pipeline, "my_plugin_2.wasm") || strings.Contains(pipeline, "pluginname") {
						t.Errorf("pipeline.hcl: %s", pipeline)
					}
				}
				// A second time nothing is overwritten, not even what is the same.
				before := listFiles(t, dir)
				if err := os.Remove(filepath.Join(dir, "edged", "abi.md")); err != nil {
					t.Fatal(err)
				}
				r = edged(t, dir, "", "plugin", "new", "--lang", lang, "--kind", kind)
				r.wantCode(t, exitRuntime)
				if !strings.Contains(r.stderr, "nothing was written to .: the folder has files that would be overwritten: ") {
					t.Errorf("stderr %s", r.stderr)
				}
				if after := listFiles(t, dir); len(after) != len(before)-1 {
					t.Errorf("%d files before, %d after", len(before), len(after))
				}
			})
		}
	}
}

func listFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPluginProjectUsage(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no language":      {[]string{"new"}, "needs --lang, one of: "},
		"no such language": {[]string{"new", "x", "--lang", "cobol"}, "SDKs for "},
		"no such kind":     {[]string{"new", "x", "--lang", "c", "--kind", "source"}, "there are transform, resolver"},
		"a bad name":       {[]string{"new", "x", "--lang", "c", "--name", "X"}, "lower-case letters"},
		"a nameless one":   {[]string{"new", "77", "--lang", "c"}, "makes no plugin name; give --name"},
		"nothing to build": {[]string{"build"}, "there is no plugin in .: neither edged-plugin.json"},
		"no key":           {[]string{"sign", "x.wasm"}, "edged plugin keygen"},
		"no key file":      {[]string{"sign", "x.wasm", "--key", "k"}, "--key: "},
		"a shipped one":    {[]string{"sign", "builtin:merge", "--key", "k"}, "needs no signature"},
		"keygen where":     {[]string{"keygen"}, "edged plugin keygen release.key"},
	} {
		t.Run(name, func(t *testing.T) {
			r := edged(t, dir, "", append([]string{"plugin"}, c.args...)...)
			r.wantCode(t, exitUsage)
			if r.stdout != "" || !strings.Contains(r.stderr, c.want) {
				t.Errorf("stdout %q, stderr %q, want %q", r.stdout, r.stderr, c.want)
			}
		})
	}
	if files := listFiles(t, dir); len(files) > 0 {
		t.Errorf("something was left behind: %v", files)
	}
}

// TestPluginBuildWithoutTools holds that who lacks a compiler is told what to
// install.
func TestPluginBuildWithoutTools(t *testing.T) {
	for _, lang := range sdk.Languages() {
		dir := t.TempDir()
		edged(t, dir, "", "plugin", "new", "--lang", lang, "--name", "p").wantCode(t, exitOK)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, "plugin", "build")
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + t.TempDir(), "CLANG="}
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != exitRuntime || !strings.Contains(string(out), "which is not installed here: install ") {
			t.Errorf("%s: %v\n%s", lang, err, out)
		}
	}
}

// TestPluginSign signs a module and holds the signature against what it vouches
// for.
func TestPluginSign(t *testing.T) {
	dir := t.TempDir()
	code, _ := plugins.Builtin("deadband")
	module := writeFile(t, filepath.Join(dir, "deadband.wasm"), string(code))
	plugin := func(args ...string) result {
		return edged(t, dir, "", append([]string{"plugin"}, args...)...)
	}
	for _, key := range []string{"mine", "other"} {
		plugin("keygen", key).wantCode(t, exitOK)
	}
	plugin("keygen", "mine").wantCode(t, exitRuntime)
	if info, err := os.Stat(filepath.Join(dir, "mine")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v %v", info.Mode(), err)
	}
	state := func(code int, args ...string) plugindev.SignatureState {
		t.Helper()
		r := plugin(append([]string{"inspect", "deadband.wasm", "--json"}, args...)...)
		r.wantCode(t, code)
		var report plugindev.Report
		if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
			t.Fatal(err)
		}
		return *report.Signature
	}
	if s := state(exitOK); s.State != plugindev.SignatureNone {
		t.Errorf("before: %+v", s)
	}
	plugin("sign", "deadband.wasm", "--key", "mine.pub").wantCode(t, exitUsage)
	r := plugin("sign", "deadband.wasm", "--key", "mine", "--version", "1.2.3")
	r.wantCode(t, exitOK)
	if !strings.HasPrefix(r.stdout, "signature  deadband.wasm.sig\nname       deadband 1.2.3\nkinds      transform\nmay use    kv\nsha256     ") {
		t.Errorf("stdout %s", r.stdout)
	}
	public := strings.TrimSpace(readFile(t, filepath.Join(dir, "mine.pub")))
	if s := state(exitOK); s.State != plugindev.SignatureUnchecked || s.Key != public {
		t.Errorf("without a key to trust: %+v", s)
	}
	s := state(exitOK, "--trust", "other.pub", "--trust", public)
	if s.State != plugindev.SignatureTrusted {
		t.Errorf("with its key: %+v", s)
	}
	if diff := cmp.Diff([]string{"kv"}, s.Manifest.Capabilities); diff != "" {
		t.Error(diff)
	}
	if s := state(exitPlugin, "--trust", "other.pub"); s.State != plugindev.SignatureRefused || !strings.Contains(s.Reason, "is not trusted") {
		t.Errorf("with another key: %+v", s)
	}
	// A module that was changed is refused whomever one trusts.
	other, _ := plugins.Builtin("flatten")
	writeFile(t, module, string(other))
	if s := state(exitPlugin); s.State != plugindev.SignatureRefused || !strings.Contains(s.Reason, "not the one that was signed") {
		t.Errorf("another module: %+v", s)
	}

	r = plugin("sign", "deadband.wasm", "--key", "mine", "--name", "x", "--version", "1", "--allow", "log")
	r.wantCode(t, exitOK) // flatten needs nothing; the manifest may allow more
	writeFile(t, module, string(code))
	r = plugin("sign", "deadband.wasm", "--key", "mine", "--allow", "log")
	r.wantCode(t, exitPlugin)
	if !strings.Contains(r.stderr, `needs the capability "kv", which the manifest does not have`) {
		t.Errorf("stderr %s", r.stderr)
	}
	writeFile(t, module, "no module")
	r = plugin("sign", "deadband.wasm", "--key", "mine")
	r.wantCode(t, exitPlugin)
	if !strings.Contains(r.stderr, "no edge would load this module") {
		t.Errorf("stderr %s", r.stderr)
	}
}
