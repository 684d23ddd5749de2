//go:build toolchains

// Built with -tags toolchains where .ci/setup has run: `make test` does.

package sdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/edged/edged/engine/wasm"
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
// the project is built, passes its own test, and the host takes its module.
func TestNewProjectsBuildAndPass(t *testing.T) {
	// The toolchains that .ci/setup installs, whatever else there is. Debian's Rust
	// needs to be told its linker, as the project's README says.
	t.Setenv("PATH", "/usr/bin:"+os.Getenv("PATH"))
	t.Setenv("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-14")
	t.Setenv("CARGO_NET_OFFLINE", "true")
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
				code, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(p.Module)))
				if err != nil {
					t.Fatal(err)
				}
				plugin, err := load(t, wasm.Options{}, wasm.Module{Name: "my_plugin", Code: code})
				if err != nil {
					t.Fatal(err)
				}
				if plugin.Transforms() != (kind == sdk.Transform) || plugin.Resolves() != (kind == sdk.Resolver) {
					t.Errorf("the module transforms: %v, resolves: %v", plugin.Transforms(), plugin.Resolves())
				}
			})
		}
	}
}
