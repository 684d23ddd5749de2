package engine_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edged/edged/engine/wasm/sign"
)

// TestSignedPlugins holds the way from the files: the keys of the edge block,
// the signature beside the module, and what is said when they do not match.
func TestSignedPlugins(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	module, err := os.ReadFile("testdata/evil.wasm")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.file("own.wasm", string(module))
	r.file("edged.pub", sign.PublicOf(key).String()+"\n")
	text := func(keys string) string {
		return fmt.Sprintf(`
edge {
  plugin_keys            = [%s]
  require_signed_plugins = true
}
plugin "own" { module = "own.wasm" }
plugin "dew_point" { module = "builtin:dew_point" }
pipeline "p" {
  collect "generator" "g" {
    every   = "1h"
    payload = {}
  }
  transform "own" { plugin = plugin.own }
  transform "dew_point" { plugin = plugin.dew_point }
}`, keys)
	}
	refused := func(keys string, line int, want string) {
		t.Helper()
		diags := r.refused(text(keys))
		if len(diags) != 1 || diags[0].Subject.Start.Line != line || !strings.Contains(diags[0].Detail, want) {
			t.Errorf("told %v, want line %d and %q", diags, line, want)
		}
	}
	refused(`"edged.pub"`, 6, "it is not signed")
	s, err := sign.Sign(sign.Manifest{Name: "evil", Version: "1", Kinds: []string{"transform"}}, module, key)
	if err != nil {
		t.Fatal(err)
	}
	r.file("own.wasm"+sign.Extension, string(s.Encode()))
	refused(`"`+sign.PublicOf(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))).String()+`"`, 6, "is not trusted")
	refused(`"none.pub"`, 3, "none.pub")
	refused(`"own.wasm"`, 3, "a public key begins with")
	run := r.start(false, text(`"edged.pub"`), nil)
	if st := run.Status().Plugins; len(st) != 2 || st[0].SignedBy != sign.PublicOf(key).String() || st[1].SignedBy != "" {
		t.Errorf("status %+v", st)
	}
	run.stop()
	r.append("own.wasm", "\x00")
	refused(`"edged.pub"`, 6, "the module is not the one that was signed")
	if err := os.Remove(filepath.Join(r.dir, "own.wasm")); err != nil {
		t.Fatal(err)
	}
	refused(`"edged.pub"`, 6, "no such file")
}
