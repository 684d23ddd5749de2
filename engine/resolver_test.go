package engine

import (
	"strings"
	"testing"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// TestOpenResolver holds how the stages get a resolver: by the name of a plugin
// block, or a strategy that comes with edged.
func TestOpenResolver(t *testing.T) {
	text := `
plugin "mine" {
  module = "builtin:merge"
}
plugin "other" {
  module = "builtin:dew_point"
}
pipeline "p" {
  collect "generator" "g" {
    every   = "1h"
    payload = {}
  }
}`
	cfg, diags := config.Parse(map[string][]byte{"test.hcl": []byte(text)}, Catalog(), expr.Host{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	e, err := Open(t.Context(), cfg, Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for name, want := range map[string]string{
		"mine": "", "builtin:latest_wins": "", "none": `no plugin block "none"`, "other": "does not export edged_resolve",
		"builtin:none": "no built-in plugin", "builtin:deadband": `capability "kv"`,
	} {
		p, err := e.openResolver(t.Context(), e.setup.Load(), name)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case want == "" && !p.Resolves():
			t.Errorf("%s: it does not resolve", name)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}
