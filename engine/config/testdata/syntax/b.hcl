# The remote stands in the file that could not be read, so nothing is said
# about the reference, nor about the plugin that file may use.
plugin "p" {
  module = "p.wasm"
}

pipeline "one" {
  collect "generator" "g" {
    paylod = {} # ERROR: Unsupported argument
  }

  sync {
    to = remote.nats.hub
  }
}
