# Runs the plugin on the sample records, and syncs what comes out:
#
#   edged run pipeline.hcl --until-drained
#
# The third sample has no temperature. It ends among the dead letters:
# edged dlq ls pipeline.hcl

edge {
  device_id = "edge-001"
  data_dir  = "data"
}

# A hub inside this process. A real one: urls = ["nats-leaf://hub.example.com:7422"].
remote "nats" "hub" {
  embedded = true
}

plugin "pluginname" {
  module = "pluginmodule"
  config = { from = "temperature", to = "fahrenheit" }
}

pipeline "readings" {
  collect "file" "samples" {
    path   = "testdata/records.ndjson"
    format = "ndjson"
  }

  transform "pluginname" {
    plugin = plugin.pluginname
  }

  sync {
    to = remote.nats.hub
  }
}
