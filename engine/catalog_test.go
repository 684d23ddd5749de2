package engine_test

import (
	"fmt"
	"testing"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/wasm"
)

// Every declaration that pipeline files can use: defaults within their bounds,
// examples that validate, names that do not clash.
func TestTheCatalogHolds(t *testing.T) {
	if err := config.CheckCatalog(engine.Catalog()); err != nil {
		t.Error(err)
	}
}

// The bound that pipeline files have for a plugin's keys is the host's.
func TestTheBoundOfKeys(t *testing.T) {
	text := func(kv string) map[string][]byte {
		return map[string][]byte{"x.hcl": []byte(`
plugin "p" {
  module = "x.wasm"
  limits { kv = "` + kv + `" }
}
pipeline "p" {
  collect "generator" "g" {
    every   = "1h"
    payload = {}
  }
  transform "t" { plugin = plugin.p }
}`)}
	}
	if _, diags := config.Parse(text(fmt.Sprintf("%dKiB", wasm.MaxKV>>10)), engine.Catalog(), expr.Host{}); diags.HasErrors() {
		t.Error(diags)
	}
	if _, diags := config.Parse(text(fmt.Sprintf("%dKiB", wasm.MaxKV>>10+1)), engine.Catalog(), expr.Host{}); !diags.HasErrors() {
		t.Error("more than the host grants is accepted")
	}
}
