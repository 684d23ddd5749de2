device_id = "x" # ERROR: Unsupported argument

edge {
  devce_id = "x" # ERROR: Unsupported argument
  data_dir = "" # ERROR: Unsupported value
}

remote "nats" "hub" { # ERROR: Missing required argument
}

remote "nats" "pair" {
  urls = ["nats-leaf://a"]
  tls {
    cert = "a.pem" # ERROR: Missing required argument
  }
}

remote "nats" "block" {
  urls = []
  tls  = { ca = "x" } # ERROR: Unsupported argument
}

remote "http" "none" { # ERROR: Missing required argument
}

remote "http" "null" { # ERROR: Missing required argument
  url = null
}

plugin "p" {
  module "x" {} # ERROR: Unsupported block
}

pipeline "p" {
  when = true # ERROR: Unsupported argument

  collect "generator" "g" { # ERROR: Missing required argument
  }

  collect "file" "f" {
    path    = "x"
    columns = { a = "string" } # ERROR: Unsupported argument
  }

  batch {
    max_record = 5 # ERROR: Unsupported argument
    max_recrds = 5 # ERROR: Unsupported argument
  }

  sync { # ERROR: Missing required argument
  }
}
