# What syncs say of topics stands against the alerts of their pipeline.
remote "nats" "hub" {
  embedded = true
}

remote "http" "cloud" {
  url = "x"
}

pipeline "good" {
  collect "generator" "g" {
    payload = {}
  }

  alert "hot" {
    when = true
  }

  alert "door" {
    when  = true
    topic = "doors"
  }

  sync {
    to     = remote.nats.hub
    topics = ["doors"]
  }

  sync {
    to     = remote.http.cloud
    topics = ["alerts", "doors"]
  }
}

pipeline "rest" { # one remote takes every topic
  collect "generator" "g" {
    payload = {}
  }

  alert "hot" {
    when = true
  }

  sync {
    to     = remote.nats.hub
    topics = []
  }

  sync {
    to = remote.http.cloud
  }
}

pipeline "slips" {
  collect "generator" "g" {
    payload = {}
  }

  alert "hot" { # ERROR: Topic without a remote
    when = true
  }

  alert "door" {
    when  = true
    topic = "doors" # ERROR: Topic without a remote
  }

  alert "lid" {
    when  = true
    topic = "lids"
  }

  sync {
    to     = remote.nats.hub
    topics = ["lids", "door"] # ERROR: Undeclared topic
  }
}

pipeline "quiet" {
  collect "generator" "g" {
    payload = {}
  }

  sync {
    to     = remote.nats.hub
    topics = ["alerts"] # ERROR: Undeclared topic
  }
}

pipeline "empty" {
  collect "generator" "g" {
    payload = {}
  }

  alert "hot" {
    when = true
    ttl  = "100ms" # ERROR: Value out of range
  }

  sync {
    to     = remote.nats.hub
    topics = [""] # ERROR: Unsupported value
  }
}
