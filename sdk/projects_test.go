//go:build toolchains

// Built with -tags toolchains where .ci/setup has run: `make test` does.

package sdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/edged/edged/sdk"
)

// run runs a project's command as its author would.
func run(t *testing.T, dir string, c sdk.Command) {
	t.Helper()
	if len(c.Args) == 0 {
		return
	}
	cmd := exec.CommandContext(t.Context(), c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), c.Env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", c, err, out)
	}
}

// TestNewProjectsBuildAndPass takes an author's first steps in every language:
// the project is built, passes its own test, and its module does in the host
// what the examples' table says.
func TestNewProjectsBuildAndPass(t *testing.T) {
	for _, lang := range sdk.Languages() {
		for _, kind := range sdk.Kinds() {
			t.Run(lang+" "+kind, func(t *testing.T) {
				p, err := sdk.NewProject(lang, kind, "my_plugin")
				if err != nil {
					t.Fatal(err)
				}
				dir := write(t, p)
				run(t, dir, p.Setup)
				run(t, dir, p.Build)
				run(t, dir, p.Test)
				if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(p.Module))); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}
