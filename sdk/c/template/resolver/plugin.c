/* Work orders: the status only moves forward, notes are united, quantities
   added up, and a person decides about the rest. */

#include "edged.h"

/* What the plugin says of itself: 'edged plugin sign' takes name and version
   from it. */
EDGED_DESCRIBE(
  "{\"name\": \"pluginname\","
  "\"version\": \"0.1.0\","
  "\"summary\": \"Merges work orders: the status only moves forward, notes are united, quantities added up\","
  "\"kinds\": [\"resolve\"],"
  "\"needs\": \"payload\"}")

#define STATUS EDGED_TEXT("status")

static const edged_field_rule rules[] = {
  {.path = EDGED_TEXT_INIT("status"), .rule = EDGED_SERVER},
  {.path = EDGED_TEXT_INIT("notes"), .rule = EDGED_UNION},
  {.path = EDGED_TEXT_INIT("quantity"), .rule = EDGED_SUM},
};
static edged_merge merge = {.rules = rules, .count = 3, .fallback = EDGED_MANUAL};

static int rank(edged_bytes payload) {
  static const char *const order[] = {"open", "started", "done"};
  edged_bytes status = edged_string(edged_get(payload, STATUS));
  for (int i = 0; i < 3; i++)
    if (edged_is(status, order[i])) return i;
  return -1;
}

static void decide(const edged_conflict *conflict, edged_verdict *verdict) {
  const edged_version *local = &conflict->local, *remote = &conflict->remote;
  if (local->deleted || remote->deleted) {
    edged_manual(verdict, EDGED_TEXT("deleted on one side"), false);
    return;
  }
  edged_bytes merged = edged_merge_run(&merge, conflict);
  if (merged.ptr == NULL) {
    edged_bytes where = edged_list_join(&merge.open, ", ");
    edged_manual(verdict, EDGED_JOIN(EDGED_TEXT("changed on both sides: "), where), false);
    return;
  }
  if (rank(local->payload) > rank(remote->payload))
    merged = edged_set(merged, STATUS, edged_get(local->payload, STATUS));
  edged_take_merged(verdict, merged);
}

EDGED_RESOLVE(decide)
