/* A plugin that does what each record asks for, as sdk/testdata/README.md says. */

#include "edged.h"

#define T EDGED_TEXT

static edged_bytes shown(edged_bytes b) { return b.ptr == NULL ? T("null") : b; }

static edged_bytes config_of(edged_bytes json) {
  edged_config c = {.json = json};
  edged_bytes s = edged_config_string(&c, "s", "S");
  double n = edged_config_number(&c, "n", 1.5, 0, 10);
  int32_t i = edged_config_integer(&c, "i", 3, 0, 9);
  bool f = edged_config_boolean(&c, "f", true);
  edged_bytes wrong = edged_config_end(&c);
  if (wrong.ptr != NULL) return wrong;
  return EDGED_JOIN(s, T("|"), edged_shown(n), T("|"), edged_integer(i), f ? T("|true") : T("|false"));
}

static edged_bytes lists_of(edged_bytes json) {
  edged_config c = {.json = json};
  edged_list l = edged_config_strings(&c, "l"), m = edged_config_map(&c, "m"), pairs = {0};
  edged_bytes wrong = edged_config_end(&c);
  if (wrong.ptr != NULL) return wrong;
  for (uint32_t i = 0; i < m.count; i += 2) edged_push(&pairs, EDGED_JOIN(m.items[i], T("="), m.items[i + 1]));
  return EDGED_JOIN(edged_list_join(&l, ","), T("|"), edged_list_join(&pairs, ","));
}

static edged_bytes lookup_of(edged_bytes json, edged_bytes a, edged_bytes b) {
  edged_field fields[] = {{.path = a}, {.path = b}, {.path = T("x.y")}};
  edged_lookup l = {.fields = fields, .count = 3};
  bool whole = edged_lookup_run(&l, json);
  return EDGED_JOIN(whole ? T("") : T("no object: "), shown(fields[0].value), T("|"), shown(fields[1].value), T("|"),
                    shown(edged_lookup_set(&l, 0, T("0"))), T("|"), shown(edged_lookup_set(&l, 2, T("1"))));
}

static edged_bytes members_of(edged_bytes json) {
  edged_builder out = {0};
  edged_members m = edged_members_of(json);
  while (edged_next(&m)) edged_add(&out, EDGED_JOIN(edged_name(&m), T("="), m.value, T(";")));
  return edged_built(&out);
}

static edged_bytes names_of(edged_bytes json) {
  edged_list names = {0};
  edged_members m = edged_members_of(json);
  while (m.object && edged_next(&m)) edged_push(&names, edged_name(&m));
  return edged_list_join(&names, "|");
}

static edged_bytes fields_of(edged_bytes json, edged_bytes name) {
  edged_object o = edged_object_of(json);
  return EDGED_JOIN(edged_integer(o.names.count), T(" "), edged_integer(edged_object_find(&o, name)), T(" "),
                    shown(edged_object_get(&o, name)));
}

static int64_t parse(edged_bytes s) {
  bool negative = s.len > 0 && s.ptr[0] == '-';
  uint64_t n = 0;
  for (uint32_t i = negative; i < s.len; i++) n = n * 10 + (s.ptr[i] - '0');
  return (int64_t)(negative ? 0 - n : n);
}

static edged_bytes call(edged_bytes args) {
  edged_list a = {0};
  edged_members m = edged_members_of(args);
  while (edged_next(&m)) edged_push(&a, edged_string(m.value));
  while (a.count < 4) edged_push(&a, T(""));
  edged_bytes what = a.items[0], x = a.items[1], y = a.items[2], z = a.items[3];
  if (edged_is(what, "get")) return shown(edged_get(x, y));
  if (edged_is(what, "set")) return shown(edged_set(x, y, z));
  if (edged_is(what, "del")) return edged_del(x, y);
  if (edged_is(what, "kind")) return edged_integer(edged_kind_of(x));
  if (edged_is(what, "bool")) return edged_integer(edged_boolean(x));
  if (edged_is(what, "string")) return shown(edged_string(x));
  if (edged_is(what, "quote")) return edged_quote(x);
  if (edged_is(what, "number")) {
    double n = edged_number(x);
    return edged_unsigned(edged_load64(&n));
  }
  if (edged_is(what, "fixed")) return shown(edged_fixed(edged_number(x), (int)parse(y)));
  if (edged_is(what, "integer")) return edged_integer(parse(x));
  if (edged_is(what, "names")) return names_of(x);
  if (edged_is(what, "lookup")) return lookup_of(x, y, z);
  if (edged_is(what, "config")) return config_of(x);
  if (edged_is(what, "lists")) return lists_of(x);
  if (edged_is(what, "delta")) return shown(edged_add_delta(x, y, z));
  if (edged_is(what, "compare")) return edged_integer(edged_compare_numbers(x, y));
  if (edged_is(what, "same")) return edged_same(x, y) ? T("yes") : T("no");
  if (edged_is(what, "members")) return members_of(x);
  if (edged_is(what, "fields")) return fields_of(x, y);
  return EDGED_JOIN(T("what is "), what, T("?"));
}

static edged_bytes field(edged_bytes json, const char *name) { return edged_string(edged_member(json, edged_text(name))); }

static uint16_t code_of(edged_bytes json) {
  double code = edged_number(edged_member(json, T("code")));
  return code > 0 ? (uint16_t)code : 0;
}

static void obey(const edged_record *r, edged_output *out) {
  edged_bytes in = r->payload, what = field(in, "do"), to = field(in, "to");
  if (edged_is(what, "pass")) edged_pass(out);
  if (edged_is(what, "drop")) edged_drop(out, field(in, "reason"), code_of(in));
  if (edged_is(what, "error")) edged_error(out, field(in, "reason"), code_of(in));
  if (edged_is(what, "keep")) edged_pass(out);
  if (edged_is(what, "keep") || edged_is(what, "payload")) edged_payload(out, to);
  if (edged_is(what, "split")) {
    edged_members ids = edged_members_of(edged_member(in, T("ids")));
    while (edged_next(&ids)) edged_emit(out, &(edged_draft){.id = edged_string(ids.value)});
  }
  if (edged_is(what, "emit")) {
    edged_bytes time = field(in, "timestamp");
    edged_draft d = {.id = field(in, "id"), .device = field(in, "device"), .type = field(in, "type"), .payload = to};
    d.dated = time.ptr != NULL;
    if (d.dated) d.timestamp = parse(time);
    edged_emit(out, &d);
  }
  if (edged_is(what, "panic")) edged_panic("as it was asked");
  if (edged_is(what, "call")) {
    edged_bytes result = edged_quote(call(edged_member(in, T("args"))));
    edged_payload(out, EDGED_JOIN(T("{\"result\":"), result, T("}")));
  }
}

EDGED_TRANSFORM(obey)

static edged_bytes tell(edged_bytes key, const edged_version *v) {
  return EDGED_JOIN(T("{\"key\":"), edged_quote(key), T(",\"device\":"), edged_quote(v->device), T(",\"type\":"),
                    edged_quote(v->type), T(",\"wall\":"), edged_integer(v->wall), T(",\"counter\":"),
                    edged_unsigned(v->counter), T(",\"revision\":"), edged_unsigned(v->revision), T(",\"clock\":\""),
                    v->clock_unknown ? T("unknown") : v->clock_raised ? T("floor") : T("synced"), T("\",\"deleted\":"),
                    v->deleted ? T("true") : T("false"), T(",\"object\":"), v->is_object ? T("true") : T("false"),
                    T(",\"body\":"), v->deleted ? T("null") : v->payload, T("}"));
}

static void decide(const edged_conflict *c, edged_verdict *out) {
  const edged_version *local = &c->local;
  if (local->deleted || local->left_out || !local->is_object) {
    if (edged_later(local, &c->remote) > 0) edged_take_local(out);
    else edged_take_remote(out);
    return;
  }
  edged_bytes in = local->payload, what = field(in, "do");
  if (edged_is(what, "local")) edged_take_local(out);
  if (edged_is(what, "remote")) edged_take_remote(out);
  if (edged_is(what, "delete")) edged_take_none(out);
  if (edged_is(what, "merged")) edged_take_merged(out, field(in, "to"));
  if (edged_is(what, "manual")) edged_manual(out, field(in, "reason"), edged_is(field(in, "serve"), "local"));
  if (edged_is(what, "error")) edged_refuse(out, field(in, "reason"), code_of(in));
  if (edged_is(what, "tell")) {
    edged_bytes side = field(in, "side");
    const edged_version *v = edged_is(side, "local") ? local : edged_is(side, "remote") ? &c->remote : &c->base;
    edged_take_merged(out, v == &c->base && !c->has_base ? T("null") : tell(c->key, v));
  }
}

EDGED_RESOLVE(decide)
