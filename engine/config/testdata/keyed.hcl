# What is wrong with keyed stores.
edge {
  api {
    listen = "8090" # ERROR: Unsupported value
  }
}

remote "nats" "hub" {
  urls = ["nats-leaf://a:1"]
}

remote "nats" "other" {
  urls = ["nats-leaf://b:1"]
}

pipeline "words" {
  store "keyed" {
    conflict = "latest_win" # ERROR: Unsupported value
  }
}

pipeline "forms" {
  store "keyed" {
    conflict = latest_wins # ERROR: Invalid resolver
  }
}

pipeline "empty" {
  store "keyed" {
    conflict = [] # ERROR: Invalid value
  }
}

pipeline "missing" {
  store "keyed" { # ERROR: Missing required argument
    interest = ["a>"] # ERROR: Unsupported value
  }
}

pipeline "undeclared" {
  store "keyed" {
    conflict = ["manual", plugin.none] # ERROR: Undeclared plugin
  }
}

pipeline "two" {
  store "keyed" {
    conflict = "manual"
  }

  sync {
    to    = remote.nats.hub
    every = "1s" # ERROR: Unsupported argument
  }

  sync { # ERROR: Too many remotes
    to = remote.nats.other
  }
}

pipeline "kind" {
  store "latest" { # ERROR: Unknown kind
  }
}
