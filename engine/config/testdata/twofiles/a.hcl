edge {}

plugin "p" {
  module = "p.wasm"
}

pipeline "one" {
  collect "generator" "g" {
    payload = {}
  }

  sync {
    to = remote.nats.hub
  }
}
