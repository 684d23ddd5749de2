# Everything the language has, once.
edge {
  device_id  = env("DEVICE", "edge-001")
  data_dir   = "var/data"
  durability = "relaxed"
  max_bytes  = "1.5GiB"

  api {
    listen = "127.0.0.1:8090"
    token  = "secret"
  }
}

remote "nats" "hub" {
  urls = ["nats-leaf://hub.example.com:7422"]

  tls {
    ca = "ca.pem"
  }
}

remote "http" "cloud" {
  url = "https://${hostname()}.example.com"
}

plugin "dew_point" {
  module = "builtin:dew_point"
  sha256 = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"
  config = { list = [1, 2.50, true, null, "<&>"], a = "x" }

  allow  = ["log", "clock", "config", "kv", "metric"]

  limits {
    memory = "32MiB"
    time   = "50ms"
    fuel   = 5000000
    output = "64KB"
    log    = 10
    kv     = "256KiB"

    record_output = "32KiB"
  }
}

plugin "own" {
  module = "plugins/own.wasm"
}

pipeline "cold_chain" {
  collect "file" "motes" {
    path      = "motes.csv"
    format    = "csv"
    columns   = { mote_id = "string" }
    id        = "${input.mote_id}-${input.reading}"
    timestamp = timeadd("2010-07-10T00:00:00Z", "5s")
    payload   = { temperature = input.temperature }
  }

  collect "generator" "fridge" {
    every   = "1m30s"
    count   = 10
    seed    = null
    jitter  = 0.25
    payload = { temperature = round(uniform(20, 30), 1) }
  }

  transform "dew" {
    plugin = plugin.dew_point
  }

  transform "own" {
    plugin   = plugin.own
    on_error = "pass"
  }

  alert "hot" {
    when     = record.payload.temperature > 30
    topic    = "alerts"
    priority = "critical"
    message  = { temperature = record.payload.temperature }
    ttl      = "2h"
  }

  alert "known" {
    when  = record.data_type == "sensor_reading"
    topic = "seen"
  }

  batch {
    max_records = 50
    max_bytes   = "64KiB"
    max_wait    = "500ms"
  }

  sync {
    to     = remote.nats.hub
    every  = "10s"
    topics = ["alerts"]
  }

  sync {
    to = remote.http.cloud
  }
}

# A pipeline may stay on the device, and the name may stand elsewhere.
pipeline "motes" {
  collect "generator" "fridge" {
    payload = {}
  }
}

pipeline "settings" {
  store "keyed" {
    key      = "${record.data_type}/${record.id}"
    conflict = [plugin.own, "latest_wins"]
    interest = ["setpoint/*", "order/>"]

    data_type "order" {
      conflict  = plugin.own
      on_delete = "manual"
    }
  }

  sync {
    to = remote.nats.hub
  }
}
