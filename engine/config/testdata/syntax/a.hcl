remote "nats" "hub" {
  embedded = # ERROR: Invalid expression
}
