/*
 * Runs a plugin natively, in a unit test. A test is a C file that includes the
 * plugin and then this header:
 *
 *   #include "plugin.c"
 *   #include "edged_test.h"
 *
 *   int main(void) {
 *     EDGED_EXPECT(EDGED_TEST_CONFIGURE("{\"from\":\"t\"}"), "");
 *     EDGED_EXPECT(EDGED_TEST_TRANSFORM("{\"t\":20}"), "emit payload={\"t\":20,\"fahrenheit\":68}\n");
 *     return edged_test_failures;
 *   }
 *
 * Answers are texts, one line for each frame. A panic of the plugin ends the
 * test's process.
 */
#ifndef EDGED_TEST_H
#define EDGED_TEST_H

#ifdef __wasm__
#error "edged_test.h is for native tests"
#endif

#include <string.h>

#ifndef EDGED_TEST_TEXT
#define EDGED_TEST_TEXT (1u << 20)
#endif

/* ---- what is expected ---------------------------------------------------- */

/** How many expectations failed: what main returns. */
static int edged_test_failures;

EDGED_FN void edged_test_expect(const char *got, const char *want, const char *file, int line) {
  if (strcmp(got, want) == 0) return;
  edged_test_failures++;
  fprintf(stderr, "%s:%d: got\n%s\nwant\n%s\n", file, line, got, want);
}

/** Compares two texts, and tells where they differ. */
#define EDGED_EXPECT(got, want) edged_test_expect(got, want, __FILE__, __LINE__)

EDGED_FN __attribute__((noreturn)) void edged_test_fatal(const char *why) {
  fprintf(stderr, "%s\n", why);
  exit(1);
}

/* ---- the host ------------------------------------------------------------ */

#define EDGED_TEST_ENTRIES 64

typedef struct edged_test_entry {
  char *key, *value;
  uint32_t key_len, value_len;
  double number;
  int64_t until; /* nanoseconds; 0: for good */
} edged_test_entry;

typedef struct edged_test_table {
  edged_test_entry entries[EDGED_TEST_ENTRIES];
  uint32_t count;
} edged_test_table;

static edged_test_table edged_test_kv, edged_test_device, edged_test_metrics;

/** The time of the calls that follow, in nanoseconds since 1970. */
static int64_t edged_test_now;
/** What was logged, a line for each call: `info text`. */
static char edged_test_log[EDGED_TEST_TEXT];

EDGED_FN char *edged_test_copy(const void *from, uint32_t len) {
  char *to = malloc((size_t)len + 1);
  if (to == NULL) edged_test_fatal("out of memory");
  memcpy(to, from, len);
  to[len] = 0;
  return to;
}

/* The entry of that key; made if it is not there and `make` says so. */
EDGED_FN edged_test_entry *edged_test_entry_of(edged_test_table *t, const void *key, uint32_t len, bool make) {
  for (uint32_t i = 0; i < t->count; i++)
    if (t->entries[i].key_len == len && memcmp(t->entries[i].key, key, len) == 0) return &t->entries[i];
  if (!make) return NULL;
  if (t->count == EDGED_TEST_ENTRIES) edged_test_fatal("the test has no room for another key");
  edged_test_entry *e = &t->entries[t->count++];
  memset(e, 0, sizeof *e);
  e->key = edged_test_copy(key, len);
  e->key_len = len;
  return e;
}

EDGED_FN void edged_test_store(edged_test_entry *e, const void *value, uint32_t len) {
  free(e->value);
  e->value = edged_test_copy(value, len);
  e->value_len = len;
}

/** Sets a value of the device configuration. */
EDGED_FN void edged_test_set_device(const char *key, const char *value) {
  edged_test_store(edged_test_entry_of(&edged_test_device, key, (uint32_t)strlen(key), true), value, (uint32_t)strlen(value));
}

/** What a metric was counted up to; 0: it was not. */
EDGED_FN double edged_test_metric(const char *name) {
  edged_test_entry *e = edged_test_entry_of(&edged_test_metrics, name, (uint32_t)strlen(name), false);
  return e == NULL ? 0 : e->number;
}

EDGED_FN int32_t edged_test_give(const edged_test_entry *e, uint32_t buf, uint32_t cap) {
  if (e == NULL || e->value == NULL || (e->until != 0 && edged_test_now >= e->until)) return -1;
  if (e->value_len <= cap) memcpy(edged_at(buf), e->value, e->value_len);
  return (int32_t)e->value_len;
}

static void edged_host_log(int32_t level, uint32_t ptr, uint32_t len) {
  static const char *const names[] = {"debug", "info", "warn", "error"};
  size_t at = strlen(edged_test_log);
  snprintf(edged_test_log + at, sizeof edged_test_log - at, "%s %.*s\n", names[level & 3], (int)len, (char *)edged_at(ptr));
}

static int32_t edged_host_log_enabled(int32_t level) { return level >= 0; }
static int64_t edged_host_now_ns(void) { return edged_test_now; }

static int32_t edged_host_config_get(uint32_t key, uint32_t key_len, uint32_t buf, uint32_t cap) {
  return edged_test_give(edged_test_entry_of(&edged_test_device, edged_at(key), key_len, false), buf, cap);
}

static int32_t edged_host_kv_get(uint32_t key, uint32_t key_len, uint32_t buf, uint32_t cap) {
  return edged_test_give(edged_test_entry_of(&edged_test_kv, edged_at(key), key_len, false), buf, cap);
}

static int32_t edged_host_kv_put(uint32_t key, uint32_t key_len, uint32_t ptr, uint32_t len, int32_t ttl) {
  if (key_len == 0 || key_len > 255) return -4;
  edged_test_entry *e = edged_test_entry_of(&edged_test_kv, edged_at(key), key_len, true);
  edged_test_store(e, edged_at(ptr), len);
  e->until = ttl > 0 ? edged_test_now + ttl * INT64_C(1000000000) : 0;
  return 0;
}

static int32_t edged_host_kv_del(uint32_t key, uint32_t key_len) {
  edged_test_entry *e = edged_test_entry_of(&edged_test_kv, edged_at(key), key_len, false);
  if (e == NULL || e->value == NULL) return -1;
  free(e->value);
  e->value = NULL;
  return 0;
}

static int32_t edged_host_metric_add(uint32_t name, uint32_t name_len, double delta) {
  edged_test_entry_of(&edged_test_metrics, edged_at(name), name_len, true)->number += delta;
  return 0;
}

/* ---- calls ---------------------------------------------------------------- */

static char edged_test_answer[EDGED_TEST_TEXT];

EDGED_FN void edged_test_tell(const char *format, uint32_t len, const void *bytes) {
  size_t at = strlen(edged_test_answer);
  int n = snprintf(edged_test_answer + at, sizeof edged_test_answer - at, format, (int)len, (const char *)bytes);
  if (n < 0 || (size_t)n >= sizeof edged_test_answer - at) edged_test_fatal("the answer is longer than EDGED_TEST_TEXT");
}

EDGED_FN void edged_test_number(const char *format, int64_t n) {
  size_t at = strlen(edged_test_answer);
  snprintf(edged_test_answer + at, sizeof edged_test_answer - at, format, (long long)n);
}

/* A call that is put together in the test's own memory. */
typedef struct edged_test_call {
  uint8_t *bytes;
  uint32_t len;
} edged_test_call;

EDGED_FN uint8_t *edged_test_room(edged_test_call *c, uint32_t more) {
  c->bytes = realloc(c->bytes, c->len + more);
  if (c->bytes == NULL) edged_test_fatal("out of memory");
  memset(c->bytes + c->len, 0, more);
  c->len += more;
  return c->bytes + c->len - more;
}

EDGED_FN void edged_test_open(edged_test_call *c, uint32_t op, uint32_t count) {
  uint8_t *h = edged_test_room(c, EDGED_CALL);
  edged_put32(h, EDGED_MAGIC);
  edged_put16(h + 4, 1);
  edged_put16(h + 6, op);
  edged_put32(h + 8, count);
  if (op == 1) memcpy(h + 16, &edged_test_now, 8);
}

/* A record frame; returns where it begins. */
EDGED_FN uint8_t *edged_test_frame(edged_test_call *c, const char *id, const char *device, const char *type, const char *payload) {
  const char *parts[] = {id, device, type, payload};
  uint32_t size = EDGED_RECORD, p = EDGED_RECORD;
  for (int i = 0; i < 4; i++) size += (uint32_t)strlen(parts[i]);
  size = (size + 7) & ~7u;
  uint8_t *at = edged_test_room(c, size);
  edged_put32(at, size);
  edged_put16(at + 6, payload[strspn(payload, " \t\r\n")] == '{' ? 1 : payload[0] != 0 ? 2 : 0);
  for (int i = 0; i < 4; i++) {
    uint32_t len = (uint32_t)strlen(parts[i]);
    if (i < 3) edged_put16(at + 8 + 2 * i, len);
    else edged_put32(at + 20, len);
    memcpy(at + p, parts[i], len);
    p += len;
  }
  return at;
}

typedef uint64_t (*edged_test_function)(uint32_t, uint32_t);

/* Makes a call as the host does; none: the plugin gave up on it. */
EDGED_FN edged_bytes edged_test_run(edged_test_function f, edged_test_call *c) {
  edged_put32(c->bytes + 12, c->len);
  uint32_t inbox = edged_alloc(c->len);
  if (inbox == 0) edged_test_fatal("edged_alloc refused");
  memcpy(edged_at(inbox), c->bytes, c->len);
  free(c->bytes);
  uint64_t result = f(inbox, c->len);
  if (result == 0) return EDGED_NONE;
  return (edged_bytes){edged_at((uint32_t)(result >> 32)), (uint32_t)result};
}

/** A record to transform. What is NULL has a value all the same. */
typedef struct edged_test_record {
  const char *payload, *id, *device, *type;
  int64_t timestamp;
} edged_test_record;

EDGED_FN const char *edged_test_or(const char *s, const char *fallback) { return s == NULL ? fallback : s; }

EDGED_FN void edged_test_tell_frame(const uint8_t *at) {
  static const char *const actions[] = {"none", "emit", "pass", "drop", "error", "route"};
  static const char *const parts[] = {" id=%.*s", " device=%.*s", " type=%.*s", " payload=%.*s"};
  uint32_t action = edged_u16(at + 8), changed = edged_u32(at + 12);
  edged_test_tell("%.*s", 16, actions[action < 6 ? action : 0]);
  if (edged_u16(at + 10) != 0) edged_test_number(" %lld", edged_u16(at + 10));
  const uint8_t *p = at + EDGED_OUT;
  for (int i = 0; i < 4; i++) {
    uint32_t len = i < 3 ? edged_u16(at + 16 + 2 * i) : edged_u32(at + 28);
    if ((changed & (i < 3 ? 1u << i : 32u)) != 0) edged_test_tell(parts[i], len, p);
    else if (i == 3 && len > 0) edged_test_tell(": %.*s", len, p);
    if (i == 2 && (changed & 8) != 0) edged_test_number(" timestamp=%lld", (int64_t)edged_load64(at + 32));
    p += len;
  }
  edged_test_tell("\n%.*s", 0, "");
}

/** Transforms records; see EDGED_TEST_TRANSFORM. */
EDGED_FN const char *edged_test_transform(edged_test_function f, const edged_test_record *records, uint32_t count) {
  edged_test_call c = {0};
  edged_test_open(&c, 1, count);
  for (uint32_t i = 0; i < count; i++) {
    const edged_test_record *r = &records[i];
    uint8_t *at = edged_test_frame(&c, edged_test_or(r->id, "id"), edged_test_or(r->device, "device"),
                                   edged_test_or(r->type, "type"), r->payload);
    memcpy(at + 24, &r->timestamp, 8);
  }
  edged_test_answer[0] = 0;
  edged_bytes out = edged_test_run(f, &c);
  for (uint32_t at = 0; at < out.len; at += edged_u32(out.ptr + at)) {
    if (count > 1) edged_test_number("%lld ", edged_u32(out.ptr + at + 4));
    edged_test_tell_frame(out.ptr + at);
  }
  return edged_test_answer;
}

/** One side of a conflict. A payload that is NULL: it is deleted. */
typedef struct edged_test_version {
  const char *payload, *device, *type;
  int64_t wall;
  uint64_t counter, revision;
  bool clock_unknown;
} edged_test_version;

EDGED_FN void edged_test_side(edged_test_call *c, const edged_test_version *v) {
  uint8_t *at = edged_test_frame(c, "key", edged_test_or(v->device, "device"), edged_test_or(v->type, "type"),
                                 edged_test_or(v->payload, ""));
  edged_put16(at + 4, (v->payload == NULL ? 2u : 0) | (v->clock_unknown ? 8u : 0));
  memcpy(at + 24, &v->wall, 8);
  memcpy(at + 40, &v->counter, 8);
  memcpy(at + 48, &v->revision, 8);
}

/** Resolves a conflict; without a base it is unknown. See EDGED_TEST_RESOLVE. */
EDGED_FN const char *edged_test_resolve(edged_test_function f, const edged_test_version *base, edged_test_version local,
                                        edged_test_version remote) {
  static const char *const actions[] = {"none", "local", "remote", "merged", "delete", "manual", "error"};
  edged_test_call c = {0};
  edged_test_open(&c, 2, 1);
  edged_put32(edged_test_room(&c, EDGED_CONFLICT) + 4, base != NULL);
  if (base != NULL) edged_test_side(&c, base);
  edged_test_side(&c, &local);
  edged_test_side(&c, &remote);
  edged_put32(c.bytes + EDGED_CALL, c.len - EDGED_CALL);
  edged_test_answer[0] = 0;
  edged_bytes out = edged_test_run(f, &c);
  if (out.ptr == NULL) return edged_test_answer;
  uint32_t action = edged_u16(out.ptr + 8), len = edged_u32(out.ptr + 12);
  edged_test_tell("%.*s", 16, actions[action < 7 ? action : 0]);
  if (edged_u16(out.ptr + 10) != 0) edged_test_number(" %lld", edged_u16(out.ptr + 10));
  if (len > 0) edged_test_tell(": %.*s", len, out.ptr + EDGED_VERDICT);
  return edged_test_answer;
}

/** Configures the plugin; returns what is wrong, or "". */
EDGED_FN const char *edged_test_configure(edged_test_function f, const char *json) {
  uint32_t len = (uint32_t)strlen(json), inbox = edged_alloc(len);
  if (inbox == 0) edged_test_fatal("edged_alloc refused");
  memcpy(edged_at(inbox), json, len);
  edged_test_answer[0] = 0;
  uint64_t result = f(inbox, len);
  if (result != 0) edged_test_tell("%.*s", (uint32_t)result, edged_at((uint32_t)(result >> 32)));
  return edged_test_answer;
}

#define EDGED_TEST_CONFIGURE(json) edged_test_configure(edged_configure, json)

/**
 * Transforms one record with that payload. The answer has a line for each frame:
 * `pass`, `drop: reason`, `error 3: reason`, `emit id=… device=… type=…
 * timestamp=… payload=…` with the parts that changed.
 */
#define EDGED_TEST_TRANSFORM(json) edged_test_transform(edged_transform, &(edged_test_record){.payload = (json)}, 1)

/** Transforms several records: an array, and how many. Each line begins with the record's number. */
#define EDGED_TEST_RECORDS(records, count) edged_test_transform(edged_transform, records, count)

/** Resolves a conflict of three payloads. The answer: `local`, `merged: …`, `manual: reason`, … */
#define EDGED_TEST_RESOLVE(base, local, remote)                                                  \
  edged_test_resolve(edged_resolve, &(edged_test_version){.payload = (base)},                    \
                     (edged_test_version){.payload = (local)}, (edged_test_version){.payload = (remote)})

#endif
