remote "nats" "hub" {
  embedded = true
}

remote "http" "unused" {
  url = "x"
}

plugin "dew_point" {
  module = "builtin:dew_point"
}

plugin "unused" {
  module = "builtin:dew_point"
}

pipeline "p" {
  collect "generator" "g" {
    payload = {}
  }

  transform "ok" {
    plugin = plugin.dew_point
  }

  transform "misspelt" {
    plugin = plugin.dew_piont # ERROR: Undeclared plugin
  }

  transform "quoted" {
    plugin = "plugin.dew_point" # ERROR: Invalid reference
  }

  transform "other" {
    plugin = remote.nats.hub # ERROR: Invalid reference
  }

  transform "index" {
    plugin = plugin["dew_point"] # ERROR: Invalid reference
  }

  transform "bare" {
    plugin = dew_point # ERROR: Invalid reference
  }

  sync {
    to = remote.nats.hub
  }

  sync {
    to = remote.nats.hub # ERROR: Duplicate sync
  }

  sync {
    to = remote.http.hub # ERROR: Undeclared remote
  }

  sync {
    to = remote.hub # ERROR: Invalid reference
  }
}
