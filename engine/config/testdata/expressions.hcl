pipeline "p" {
  collect "generator" "g" {
    payload = { t = record.payload.t } # ERROR: Unknown variable
  }

  collect "file" "f" {
    path = "x"
    id   = record.id # ERROR: Unknown variable
  }

  alert "variable" {
    when    = recrod.payload.t > 1 # ERROR: Unknown variable
    message = { a = upcase("x") }  # ERROR: Unknown function
  }

  alert "field" {
    when = record.temperature > 1 # ERROR: Unknown record field
  }

  alert "not_bool" {
    when = round(record.payload.t) # ERROR: Unsuitable value type
  }

  alert "huge" {
    when = record.payload.t > 1e400 # ERROR: Value out of range
  }
}
