# Settings and work orders that the device and the hub both change, online or not.
#
#   edged run pipelines/keyed.hcl
#
#   curl -X PUT -d '{"temperature":22}' http://127.0.0.1:8480/keyed/settings/setpoint/greenhouse-1
#   curl http://127.0.0.1:8480/keyed/settings?prefix=work_order/
#   nats --server nats://127.0.0.1:4480 kv put EDGED_KEYED settings.setpoint.greenhouse-2 '{"temperature":17}'
#
#   edged conflicts ls --decided pipelines/keyed.hcl

edge {
  device_id = "edge-001"
  data_dir  = "data/keyed"

  api {
    listen = env("EDGED_API", "127.0.0.1:8480")
  }
}

remote "nats" "hub" {
  embedded      = true
  client_listen = env("EDGED_HUB_CLIENTS", "127.0.0.1:4480")
}

# Where both sides changed a work order, the changes are united field by field.
plugin "orders" {
  module = "builtin:merge"
  config = {
    fields = {
      notes      = "union"
      parts_used = "sum"
    }
  }
}

pipeline "settings" {
  collect "file" "seed" {
    path      = "data/settings.ndjson"
    id        = input.name
    data_type = input.kind
    payload   = input.value
  }

  store "keyed" {
    conflict = "latest_wins"

    data_type "work_order" {
      conflict = [plugin.orders, "manual"]
    }
  }

  sync {
    to = remote.nats.hub
  }
}
