//go:build toolchains

// Built with -tags toolchains where .ci/setup has run: `make test` does.

package main

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/sdk"
)

// TestNewProjectsRun goes an author's way in every language: from an empty folder
// to a plugin that is built, tested, verified, and runs in a pipeline.
func TestNewProjectsRun(t *testing.T) {
	for _, lang := range sdk.Languages() {
		for _, kind := range sdk.Kinds() {
			t.Run(lang+" "+kind, func(t *testing.T) {
				dir := t.TempDir()
				run := func(args ...string) string {
					t.Helper()
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					defer cancel()
					var stdout, stderr bytes.Buffer
					cmd := exec.CommandContext(ctx, binary, args...)
					cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
					if err := cmd.Run(); err != nil {
						t.Fatalf("edged %s: %v\n%s\n%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
					}
					return stdout.String()
				}
				run("plugin", "new", "--lang", lang, "--kind", kind, "--name", "my_plugin")
				built := run("plugin", "build")
				if !strings.Contains(built, "\nsha256  ") {
					t.Errorf("build: %s", built)
				}
				module, _, _ := strings.Cut(strings.TrimPrefix(built, "module  "), "\n")
				if tested := run("plugin", "test"); !strings.HasSuffix(tested, "All as expected.\n") {
					t.Errorf("test: %s", tested)
				}
				if verified := run("plugin", "verify", module, "--rounds", "10"); !strings.Contains(verified, " 0 failed") || !strings.Contains(verified, "my_plugin 0.1.0") {
					t.Errorf("verify: %s", verified)
				}
				run("plugin", "keygen", "my.key")
				if signed := run("plugin", "sign", module, "--key", "my.key"); !strings.Contains(signed, "my_plugin 0.1.0") {
					t.Errorf("sign: %s", signed)
				}
				if kind != sdk.Transform {
					return
				}
				if ran := run("run", "pipeline.hcl", "--until-drained"); !strings.Contains(ran, "3 records stored and 3 synced") {
					t.Errorf("run: %s", ran)
				}
			})
		}
	}
}
