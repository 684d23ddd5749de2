/* Makes readings of many kinds of sensors alike: names without spaces below the
   site's, temperatures in Celsius; and raises an alarm above a limit. */

#include "edged.h"

static edged_bytes site;
static double limit;

static void set_up(edged_config *config) {
  site = edged_config_string(config, "site", "site");
  limit = edged_config_number(config, "limit", 80, -273.15, 10000);
}

EDGED_CONFIGURE(set_up)

/* Lower case; whatever is no letter and no digit becomes one hyphen between those that are. */
static edged_bytes slug(edged_bytes name) {
  edged_builder out = {0};
  bool gap = false;
  for (uint32_t i = 0; i < name.len; i++) {
    uint8_t c = name.ptr[i];
    if (c >= 'A' && c <= 'Z') c |= 0x20;
    if (c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      if (gap && out.len > 0) edged_add_byte(&out, '-');
      edged_add_byte(&out, c);
      gap = false;
    } else {
      gap = true;
    }
  }
  return edged_built(&out);
}

/* NaN: there is no such unit. */
static double in_celsius(double value, edged_bytes unit) {
  if (edged_is(unit, "C")) return value;
  if (edged_is(unit, "F")) return (value - 32) / 1.8;
  if (edged_is(unit, "K")) return value - 273.15;
  return EDGED_NAN;
}

static void alarm_of(const edged_record *record, edged_output *out, edged_bytes sensor, edged_bytes celsius) {
  edged_draft alarm = {
    .id = EDGED_JOIN(record->id, EDGED_TEXT("/alarm")),
    .type = EDGED_TEXT("alarm"),
    .payload = EDGED_JOIN(EDGED_TEXT("{\"sensor\":"), sensor, EDGED_TEXT(",\"celsius\":"), celsius,
                          EDGED_TEXT(",\"limit\":"), edged_fixed(limit, 2), EDGED_TEXT("}")),
  };
  edged_emit(out, &alarm);
}

static void normalize(const edged_record *record, edged_output *out) {
  edged_bytes payload = record->payload;
  if (edged_is(edged_string(edged_get(payload, EDGED_TEXT("status"))), "test")) {
    edged_drop(out, EDGED_TEXT("a test reading"), 0);
    return;
  }
  edged_bytes name = slug(edged_string(edged_get(payload, EDGED_TEXT("sensor"))));
  if (name.len == 0) {
    edged_error(out, EDGED_TEXT("the sensor has no name"), 1);
    return;
  }
  edged_bytes temperature = edged_get(payload, EDGED_TEXT("values.temperature"));
  if (temperature.ptr == NULL) {
    edged_pass(out);
    return;
  }
  double value = edged_number(edged_get(temperature, EDGED_TEXT("value")));
  if (value != value) {
    edged_error(out, EDGED_TEXT("values.temperature.value is no number"), 2);
    return;
  }
  edged_bytes unit = edged_string(edged_get(temperature, EDGED_TEXT("unit")));
  double celsius = in_celsius(value, unit.ptr == NULL ? EDGED_TEXT("C") : unit);
  if (celsius != celsius) {
    edged_error(out, EDGED_JOIN(EDGED_TEXT("the unit "), unit, EDGED_TEXT(" is not C, F or K")), 3);
    return;
  }
  edged_bytes text = edged_fixed(celsius, 2);
  if (text.ptr == NULL) {
    edged_error(out, EDGED_TEXT("values.temperature.value is too large"), 2);
    return;
  }
  edged_bytes sensor = edged_quote(EDGED_JOIN(site, EDGED_TEXT("/"), name));
  edged_bytes reading = EDGED_JOIN(EDGED_TEXT("{\"value\":"), text, EDGED_TEXT(",\"unit\":\"C\"}"));
  payload = edged_set(payload, EDGED_TEXT("sensor"), sensor);
  payload = edged_set(payload, EDGED_TEXT("values.temperature"), reading);
  edged_payload(out, edged_del(payload, EDGED_TEXT("raw")));
  if (celsius > limit) alarm_of(record, out, sensor, text);
}

EDGED_TRANSFORM(normalize)
