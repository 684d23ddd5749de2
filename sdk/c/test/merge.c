/* The shipped plugin `merge`, in C: sdk/merge_test.go holds the languages together with it. */

#include "edged.h"

static edged_field_rule rules[64];
static edged_merge merge = {.rules = rules};
static bool local;

static void set_up(edged_config *config) {
  edged_list fields = edged_config_map(config, "fields");
  edged_field_rule fallback = {0};
  edged_bytes given = edged_config_string(config, "default", "manual");
  edged_bytes serve = edged_config_string(config, "serve", "server");
  if (!edged_parse_rule(given, &fallback) || fallback.rule > EDGED_SERVER)
    edged_config_fail(config, EDGED_JOIN(EDGED_TEXT("default must be manual, latest, client or server, not \""), given, EDGED_TEXT("\"")));
  if (!edged_is(serve, "client") && !edged_is(serve, "server"))
    edged_config_fail(config, EDGED_JOIN(EDGED_TEXT("serve must be client or server, not \""), serve, EDGED_TEXT("\"")));
  merge.fallback = fallback.rule;
  merge.count = 0;
  local = edged_is(serve, "client");
  for (uint32_t i = 0; i < fields.count && merge.count < 64; i += 2) {
    edged_field_rule *rule = &rules[merge.count++];
    rule->path = fields.items[i];
    if (!edged_parse_rule(fields.items[i + 1], rule))
      edged_config_fail(config, EDGED_JOIN(EDGED_TEXT("fields."), rule->path, EDGED_TEXT(" is \""), fields.items[i + 1],
                                           EDGED_TEXT("\"; rules are: " EDGED_RULE_NAMES)));
  }
}

EDGED_CONFIGURE(set_up)

static void decide(const edged_conflict *conflict, edged_verdict *verdict) {
  if (conflict->local.deleted && conflict->remote.deleted) {
    edged_take_remote(verdict);
    return;
  }
  if (conflict->local.deleted || conflict->remote.deleted) {
    edged_manual(verdict, EDGED_TEXT("deleted on one side and changed on the other"), local);
    return;
  }
  edged_bytes merged = edged_merge_run(&merge, conflict);
  if (merged.ptr == NULL)
    edged_manual(verdict, EDGED_JOIN(EDGED_TEXT("changed on both sides: "), edged_list_join(&merge.open, ", ")), local);
  else if (edged_equal(merged, conflict->remote.payload)) edged_take_remote(verdict);
  else if (edged_equal(merged, conflict->local.payload)) edged_take_local(verdict);
  else edged_take_merged(verdict, merged);
}

EDGED_RESOLVE(decide)
