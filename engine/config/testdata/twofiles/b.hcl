edge {} # ERROR: Duplicate block

remote "nats" "hub" {
  embedded = true
}

pipeline "one" { # ERROR: Duplicate name
  collect "generator" "g" {
    payload = {}
  }

  transform "t" {
    plugin = plugin.p
  }
}
