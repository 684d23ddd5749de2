package config_test

import (
	"testing"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

func TestLoadWhole(t *testing.T) {
	src := `
edge { device_id = "e1" }
remote "nats" "hub" {
  urls = ["nats-leaf://x:7422"]
  tls { ca = "ca.pem" }
}
plugin "p" {
  module = "plugins/p.wasm"
  config = { field = "temperature", n = 0.1, list = [1, true, null] }
  limits { memory = "32MiB" }
}
pipeline "cold" {
  collect "generator" "fridge" {
    every = "5s"
    payload = { temperature = 22 }
  }
  transform "k" { plugin = plugin.p }
  alert "high" { when = record.payload.temperature > 25 }
  batch { max_records = 50 }
  sync { to = remote.nats.hub }
}
`
	cfg, diags := config.Parse(map[string][]byte{"dir/a.hcl": []byte(src)}, testCatalog(), expr.Host{})
	for _, d := range diags {
		t.Error(d)
	}
	t.Logf("%+v", cfg.Plugins[0])
	t.Logf("%s", cfg.Plugins[0].Config)
	t.Logf("%+v", cfg.Pipelines[0].Syncs)
}
