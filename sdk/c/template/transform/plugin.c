/* Adds the temperature in Fahrenheit, and splits off an alarm where it freezes. */

#include "edged.h"

/* What the plugin says of itself: 'edged plugin sign' takes name and version
   from it. */
EDGED_DESCRIBE(
  "{\"name\": \"pluginname\","
  "\"version\": \"0.1.0\","
  "\"summary\": \"Adds the temperature in Fahrenheit, and splits off an alarm where it freezes\","
  "\"kinds\": [\"transform\"],"
  "\"needs\": \"payload\","
  "\"config\": { \"from\": {\"type\": \"string\", \"default\": \"temperature\", \"doc\": \"where the payload has the temperature, in degrees Celsius\"}, "
  "\"to\": {\"type\": \"string\", \"default\": \"fahrenheit\", \"doc\": \"where to put the result\"} }}")

static edged_field fields[2];
static edged_lookup lookup = {.fields = fields, .count = 2};

static void set_up(edged_config *config) {
  fields[0].path = edged_config_string(config, "from", "temperature");
  fields[1].path = edged_config_string(config, "to", "fahrenheit");
}

EDGED_CONFIGURE(set_up) /* reports unknown keys and wrong values, all at once */

static void add(const edged_record *record, edged_output *out) {
  edged_lookup_run(&lookup, record->payload);
  double celsius = edged_number(fields[0].value);
  if (celsius != celsius) { /* not a number */
    edged_error(out, EDGED_TEXT("there is no temperature"), 0);
    return;
  }
  edged_bytes fahrenheit = edged_fixed(celsius * 1.8 + 32, 2);
  if (fahrenheit.ptr == NULL) {
    edged_error(out, EDGED_TEXT("the temperature is too large"), 0);
    return;
  }
  edged_bytes payload = edged_lookup_set(&lookup, 1, fahrenheit);
  if (payload.ptr == NULL) {
    edged_error(out, EDGED_TEXT("the payload has no place for the result"), 0);
    return;
  }
  edged_payload(out, payload);
  if (celsius < 0) {
    edged_draft alarm = {.type = EDGED_TEXT("frost")};
    edged_emit(out, &alarm); /* a second record from the same source */
  }
}

EDGED_TRANSFORM(add)
