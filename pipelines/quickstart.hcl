# Six hours of real sensor readings, on their way from a device to a hub:
#
#   edged run pipelines/quickstart.hcl
#
# Pull the plug in the middle and run it again: nothing is lost, nothing is
# sent twice. `edged audit pipelines/quickstart.hcl` proves it.

edge {
  device_id = env("EDGED_DEVICE_ID", hostname())
  data_dir  = "data"
}

# The hub runs inside this process, so that there is nothing to install. A real
# one is somewhere else: urls = ["nats-leaf://hub.example.com:7422"] instead.
remote "nats" "hub" {
  embedded = true
}

# WebAssembly, in a sandbox: it reads the temperature and humidity of each
# record and adds the dew point.
plugin "dew_point" {
  module = "builtin:dew_point"
}

pipeline "motes" {
  collect "file" "motes" {
    path   = "data/sensors-multi-hop.csv"
    format = "csv"

    # Columns that are not named here are strings.
    columns = {
      reading     = "number"
      indoor      = "bool"
      humidity    = "number"
      temperature = "number"
      label       = "bool"
    }

    id        = "mote-${input.mote_id}-${input.reading}"
    device_id = "mote-${input.mote_id}"
    data_type = "sensor_reading"

    # The file carries no timestamps. The motes were read every 5 s on
    # 2010-07-10, so the time is derived: start + 5 s x reading, the start
    # (midnight UTC) in seconds since 1970.
    timestamp = fromunix(1278720000 + 5 * input.reading)

    payload = {
      temperature = input.temperature
      humidity    = input.humidity
      indoor      = input.indoor
      reading     = input.reading
      label       = input.label
    }
  }

  transform "dew_point" {
    plugin = plugin.dew_point
  }

  alert "high_temperature" {
    when     = record.payload.temperature > 30
    topic    = "alerts"
    priority = "high"

    message = {
      type      = "high_temperature"
      value     = record.payload.temperature
      device_id = record.device_id
      timestamp = record.timestamp
    }
  }

  batch {
    max_records = 500
    max_wait    = "1s"
  }

  sync {
    to = remote.nats.hub
  }
}
