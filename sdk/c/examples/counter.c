/* Numbers the records of each device, says how old they are and where. It keeps
   its numbers in kv: the pipeline grants it allow = ["clock", "config", "kv",
   "log", "metric"]. */

#include "edged.h"

static void number(const edged_record *record, edged_output *out) {
  edged_bytes key = EDGED_JOIN(EDGED_TEXT("number/"), record->device);
  if (edged_boolean(edged_get(record->payload, EDGED_TEXT("reset"))) == 1) {
    edged_kv_del(key);
    edged_count(EDGED_TEXT("resets"), 1);
    if (edged_log_enabled(EDGED_INFO)) edged_log(EDGED_INFO, EDGED_JOIN(record->device, EDGED_TEXT(" begins anew")));
    edged_pass(out);
    return;
  }
  edged_bytes last = edged_kv_get(key);
  edged_bytes next = edged_integer(last.ptr == NULL ? 1 : (int64_t)edged_number(last) + 1);
  if (!edged_kv_put(key, next, 0)) {
    edged_error(out, EDGED_TEXT("there is no room for another device"), 1);
    return;
  }
  edged_count(EDGED_TEXT("records"), 1);
  edged_bytes payload = edged_set(record->payload, EDGED_TEXT("number"), next);
  edged_bytes age = edged_integer((edged_now() - record->timestamp) / 1000000);
  payload = edged_set(payload, EDGED_TEXT("age_ms"), age);
  edged_bytes site = edged_device_config(EDGED_TEXT("site"));
  if (site.ptr != NULL) payload = edged_set(payload, EDGED_TEXT("site"), edged_quote(site));
  edged_payload(out, payload);
}

EDGED_TRANSFORM(number)
