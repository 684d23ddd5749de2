edge {
  device_id  = 5                # ERROR: Wrong type
  data_dir   = ["data"]         # ERROR: Wrong type
  durability = "fsnyc"          # ERROR: Unsupported value
  max_bytes  = 8589934592       # ERROR: Wrong type

  plugin_keys = ["k.pub", "ed25519:abc"] # ERROR: Unsupported value
}

remote "nats" "a" {
  urls        = "nats-leaf://a" # ERROR: Wrong type
  credentials = true            # ERROR: Wrong type
  embedded    = "true"          # ERROR: Wrong type
}

remote "nats" "b" {
  urls     = ["a", 7]           # ERROR: Wrong type
  embedded = tostring(true)
  domain   = null
}

plugin "p" {
  module = "builtin:"           # ERROR: Unsupported value
  sha256 = "abc"                # ERROR: Unsupported value
  config = 1e999999999          # ERROR: Value out of range
  allow  = ["kv", "lgo"]        # ERROR: Unsupported value

  limits {
    memory = "64kb"             # ERROR: Invalid size
    time   = "50"               # ERROR: Invalid duration
    output = "1 MiB"            # ERROR: Invalid size
  }
}

plugin "q" {
  module = "builtin:x"          # the checksum is told together with others
  sha256 = "zz23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" # ERROR: Unsupported value
  limits {
    memory = "1.0001B"          # ERROR: Invalid size
    time   = "1e3s"             # ERROR: Invalid duration
    output = "99999999999TB"    # ERROR: Invalid size
  }
}

plugin "r" {
  module = "x"
  allow  = "kv"                 # ERROR: Wrong type
  limits {
    memory = "1KiB"             # ERROR: Value out of range
    time   = "-5s"              # ERROR: Invalid duration
    output = ""                 # ERROR: Invalid size
    fuel   = 999                # ERROR: Value out of range
    log    = 0                  # ERROR: Value out of range
    kv     = "257KiB"           # ERROR: Value out of range

    record_output = 7           # ERROR: Wrong type
  }
}

pipeline "p" {
  collect "file" "f" {
    path    = env("UNSET_PATH") # ERROR: Function call failed
    format  = "CSV"             # ERROR: Unsupported value
    header  = 1                 # ERROR: Wrong type
    columns = { a = 1 }         # ERROR: Wrong type
  }

  collect "generator" "g" {
    every   = 5                 # ERROR: Wrong type
    count   = 0                 # ERROR: Value out of range
    seed    = 1.5               # ERROR: Wrong type
    jitter  = 1.5               # ERROR: Value out of range
    payload = {}
  }

  collect "generator" "h" {
    every   = env("EVERY", "2s")
    count   = env("COUNT", "12")
    seed    = 9223372036854775808 # ERROR: Value out of range
    jitter  = env("JITTER", "x")  # ERROR: Wrong type
    payload = {}
  }

  collect "file" "k" {
    path    = upper("a", "b")   # ERROR: Wrong number of function arguments
    columns = ["a"]             # ERROR: Wrong type
    format  = lowercase("CSV")  # ERROR: Unknown function
  }

  alert "a" {
    when     = true
    topic    = ""               # ERROR: Unsupported value
    priority = high             # ERROR: Not a constant
  }

  alert "b" {
    when     = true
    topic    = record.payload.x # ERROR: Not a constant
    priority = "hgih"           # ERROR: Unsupported value
  }

  batch {
    max_records = 1000          # ERROR: Value out of range
    max_wait    = "5 s"         # ERROR: Invalid duration
    max_bytes   = "1GB"         # ERROR: Value out of range
  }

  sync {
    to    = "nats.a"            # ERROR: Invalid reference
    every = "1S"                # ERROR: Invalid duration
  }
}
