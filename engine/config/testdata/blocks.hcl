edge {}

edge { # ERROR: Duplicate block
  data_dirr = "x" # ERROR: Unsupported argument
}

piepline "x" {} # ERROR: Unsupported block

remote "ants" "hub" {} # ERROR: Unknown kind

remote "nats" {} # ERROR: Missing label; ERROR: Missing required argument

remote "nats" "a" "b" {} # ERROR: Extra label; ERROR: Missing required argument

edge "x" {} # ERROR: Duplicate block; ERROR: Extra label

plugin "p" {
  module = "a.wasm"

  limits {}

  limits {} # ERROR: Duplicate block
}

plugin "p" { # ERROR: Duplicate name
  module = "b.wasm"
}

plugin "7up" { # ERROR: Invalid name
  module = "b.wasm"
}

remote "http" "hub.example" { # ERROR: Invalid name
  url = "x"
}

pipeline "empty" { # ERROR: Missing required block
}

pipeline "empty" { # ERROR: Duplicate name
  collect = "generator" # ERROR: Unsupported argument
}

pipeline {} # ERROR: Missing label; ERROR: Missing required block

pipeline "names" {
  collect "generator" "a" {
    payload = {}
  }

  collect "file" "a" { # ERROR: Duplicate name
    path = "x"
  }

  collect "fiel" "b" {} # ERROR: Unknown kind

  alert "a" {
    when = true
  }

  alert "a" { # ERROR: Duplicate name
    when = true
  }

  batch {}

  batch {} # ERROR: Duplicate block
}
