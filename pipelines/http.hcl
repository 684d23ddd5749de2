# Readings on their way to an HTTP API instead of a NATS hub. `edged hub` serves
# such an API, so this can be tried on one machine:
#
#   echo change-me > /tmp/token
#   edged hub --data-dir /tmp/hub --http-listen 127.0.0.1:8080 --http-token-file /tmp/token
#   edged run pipelines/http.hcl
#
# Stop the hub for a while: nothing is lost, and nothing arrives twice.

edge {
  device_id = env("EDGED_DEVICE_ID", hostname())
  data_dir  = "data"
}

remote "http" "cloud" {
  url          = env("INGEST_URL", "http://127.0.0.1:8080")
  token        = env("INGEST_TOKEN", "change-me")
  timeout      = "20s"
  compression  = "zstd"
  max_attempts = 8
}

pipeline "cold_chain" {
  collect "generator" "fridge" {
    every     = "1s"
    data_type = "sensor_reading"

    payload = {
      temperature = round(5 + uniform(-3, 4), 2)
      humidity    = round(50 + uniform(-10, 10), 1)
    }
  }

  alert "too_warm" {
    when     = record.payload.temperature > 8
    topic    = "alerts"
    priority = "high"

    message = {
      type      = "too_warm"
      value     = record.payload.temperature
      device_id = record.device_id
      timestamp = record.timestamp
    }
  }

  batch {
    max_records = 100
    max_wait    = "5s"
  }

  sync {
    to = remote.http.cloud
  }
}
