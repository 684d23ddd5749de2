remote "nats" "hub" {
  embedded = true
}

remote "http" "hub2" { # WARNING: Unused remote
  url = "x"
}

plugin "used" {
  module = "builtin:dew_point"
}

plugin "unused" { # WARNING: Unused plugin
  module = "builtin:dew_point"
}

pipeline "p" {
  collect "generator" "g" {
    payload = {}
  }

  transform "t" {
    plugin = plugin.used
  }

  sync {
    to = remote.nats.hub
  }
}
