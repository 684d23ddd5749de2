/*
 * edged plugin SDK for C. README.md is the guide; sdk/abi.md is the contract
 * beneath it. A plugin is one C file that includes this header.
 *
 * Memory: what a call allocates ends with the call. What is allocated while the
 * plugin is configured stays. Nothing is freed.
 *
 * Bytes that are not there have the address NULL; bytes of length 0 do not.
 */
#ifndef EDGED_H
#define EDGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EDGED_FN static inline __attribute__((unused))

/* ---- bytes ------------------------------------------------------------- */

/** A run of bytes. Without more said, valid until the call ends. */
typedef struct edged_bytes {
  const uint8_t *ptr;
  uint32_t len;
} edged_bytes;

/** The bytes of a string literal. */
#define EDGED_TEXT(literal) ((edged_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})
/** The same in the initializer of a static variable. */
#define EDGED_TEXT_INIT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
/** Bytes that are not there. */
#define EDGED_NONE ((edged_bytes){NULL, 0})

/** The bytes of a text that ends with a zero. */
EDGED_FN edged_bytes edged_text(const char *s) {
  uint32_t n = 0;
  while (s[n] != 0) n++;
  return (edged_bytes){(const uint8_t *)s, n};
}

EDGED_FN bool edged_same_bytes(const uint8_t *a, const uint8_t *b, uint32_t len) {
  uint32_t i = 0;
  while (i < len && a[i] == b[i]) i++; /* short: a loop beats a call */
  return i == len;
}

/** Whether both are there and equal. */
EDGED_FN bool edged_equal(edged_bytes a, edged_bytes b) {
  return a.ptr != NULL && b.ptr != NULL && a.len == b.len && edged_same_bytes(a.ptr, b.ptr, a.len);
}

/** Whether the bytes are those of a text that ends with a zero. */
EDGED_FN bool edged_is(edged_bytes b, const char *s) { return edged_equal(b, edged_text(s)); }

EDGED_FN int edged_order(edged_bytes a, edged_bytes b) {
  for (uint32_t i = 0; i < a.len && i < b.len; i++)
    if (a.ptr[i] != b.ptr[i]) return a.ptr[i] < b.ptr[i] ? -1 : 1;
  return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

/* ---- the host ---------------------------------------------------------- */

#ifdef __wasm__
#define EDGED_EXPORT(name) __attribute__((export_name(name)))
#define EDGED_HOST(name) __attribute__((import_module("edged_v1"), import_name(name))) extern
#else
#define EDGED_EXPORT(name) __attribute__((unused)) static
#define EDGED_HOST(name) __attribute__((unused)) static /* edged_test.h has them */
#endif

/* A module imports those of them that it uses, and needs a grant for each. */
EDGED_HOST("log") void edged_host_log(int32_t level, uint32_t ptr, uint32_t len);
EDGED_HOST("log_enabled") int32_t edged_host_log_enabled(int32_t level);
EDGED_HOST("now_ns") int64_t edged_host_now_ns(void);
EDGED_HOST("config_get") int32_t edged_host_config_get(uint32_t key, uint32_t key_len, uint32_t buf, uint32_t cap);
EDGED_HOST("kv_get") int32_t edged_host_kv_get(uint32_t key, uint32_t key_len, uint32_t buf, uint32_t cap);
EDGED_HOST("kv_put")
int32_t edged_host_kv_put(uint32_t key, uint32_t key_len, uint32_t ptr, uint32_t len, int32_t ttl);
EDGED_HOST("kv_del") int32_t edged_host_kv_del(uint32_t key, uint32_t key_len);
EDGED_HOST("metric_add") int32_t edged_host_metric_add(uint32_t name, uint32_t name_len, double delta);

/* Addresses of the ABI: places in linear memory, or natively in the arena. */
#ifdef __wasm__
extern uint8_t __heap_base;
EDGED_FN uint8_t *edged_at(uint32_t address) { return (uint8_t *)(uintptr_t)address; }
EDGED_FN uint32_t edged_address(const void *p) { return (uint32_t)(uintptr_t)p; }

__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_write")))
extern int32_t edged_host_fd_write(int32_t fd, const void *vectors, int32_t count, uint32_t *written);

/** Ends the call with a fault that shows this text. */
EDGED_FN __attribute__((noreturn)) void edged_panic(const char *why) {
  edged_bytes text = edged_text(why);
  uint32_t written = 0;
  edged_host_fd_write(2, &text, 1, &written);
  __builtin_trap();
}
#else
#include <stdio.h>
#include <stdlib.h>
#ifndef EDGED_ARENA
#define EDGED_ARENA (16u << 20)
#endif
static uint8_t edged_arena[EDGED_ARENA] __attribute__((aligned(16)));
EDGED_FN uint8_t *edged_at(uint32_t address) { return edged_arena + address; }
/* Texts outside the arena, like literals, are copied into it. */
EDGED_FN bool edged_inside(const void *p) {
  return (uintptr_t)p >= (uintptr_t)edged_arena && (uintptr_t)p < (uintptr_t)edged_arena + EDGED_ARENA;
}
EDGED_FN uint32_t edged_address(const void *p) { return (uint32_t)((const uint8_t *)p - edged_arena); }
EDGED_FN __attribute__((noreturn)) void edged_panic(const char *why) {
  fprintf(stderr, "the plugin panics: %s\n", why);
  abort();
}
#endif

/* ---- memory ------------------------------------------------------------ */

static uintptr_t edged_top, edged_mark; /* 0: not begun, not marked */

/* Makes the memory below `end` usable. */
EDGED_FN bool edged_reserve(uintptr_t end) {
#ifdef __wasm__
  uintptr_t have = (uintptr_t)__builtin_wasm_memory_size(0) << 16;
  if (end <= have) return true;
  uintptr_t need = (end - have + 0xffff) >> 16, half = (have >> 16) / 2;
  if (half > need && __builtin_wasm_memory_grow(0, half) != (size_t)-1) return true;
  return __builtin_wasm_memory_grow(0, need) != (size_t)-1;
#else
  return end <= (uintptr_t)edged_arena + EDGED_ARENA;
#endif
}

/* Bytes at a multiple of 8 that nobody clears; NULL: memory is full. */
EDGED_FN uint8_t *edged_try(uint32_t size) {
  if (edged_top == 0) {
#ifdef __wasm__
    edged_top = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
#else
    edged_top = (uintptr_t)edged_arena + 16;
#endif
  }
  uintptr_t at = edged_top, end = at + (((uintptr_t)size + 7) & ~(uintptr_t)7);
  if (end < at || !edged_reserve(end)) return NULL;
  edged_top = end;
  return (uint8_t *)at;
}

/** Memory for `size` bytes, at a multiple of 8, not cleared. It panics when memory is full. */
EDGED_FN void *edged_make(uint32_t size) {
  uint8_t *p = edged_try(size);
  if (p == NULL) edged_panic("out of memory");
  return p;
}

/** More room for what was made last or before: `used` bytes are kept. */
EDGED_FN void *edged_more(void *old, uint32_t used, uint32_t had, uint32_t size) {
  uintptr_t after = (uintptr_t)old + ((had + 7u) & ~7u), end = (uintptr_t)old + (((uintptr_t)size + 7) & ~(uintptr_t)7);
  if (after == edged_top && end > after && edged_reserve(end)) {
    edged_top = end;
    return old;
  }
  void *now = edged_make(size);
  __builtin_memcpy(now, old, used);
  return now;
}

/** Keeps all that is allocated now for the life of the instance. */
EDGED_FN void edged_keep(void) { edged_mark = edged_top; }

EDGED_EXPORT("edged_abi_v1") void edged_abi_v1(void) {}

EDGED_EXPORT("edged_alloc") uint32_t edged_alloc(uint32_t size) {
  if (edged_mark == 0) {
    if (edged_try(0) == NULL) return 0;
    edged_mark = edged_top;
  }
  edged_top = edged_mark;
  uint8_t *p = edged_try(size);
  return p == NULL ? 0 : edged_address(p);
}

/* What a function of the ABI returns. */
EDGED_FN uint64_t edged_result(edged_bytes b) {
#ifndef __wasm__
  if (!edged_inside(b.ptr)) {
    void *copy = edged_make(b.len);
    __builtin_memcpy(copy, b.ptr, b.len);
    b.ptr = copy;
  }
#endif
  return (uint64_t)edged_address(b.ptr) << 32 | b.len;
}

/* ---- building ---------------------------------------------------------- */

/** Bytes that are put together piece by piece. Begin with `edged_builder b = {0}`. */
typedef struct edged_builder {
  uint8_t *ptr;
  uint32_t len, room;
} edged_builder;

EDGED_FN uint8_t *edged_extend(edged_builder *b, uint32_t more) {
  if (b->len + more > b->room || b->ptr == NULL) {
    uint32_t room = b->room * 2 > b->len + more ? b->room * 2 : b->len + more;
    if (room < 64) room = 64;
    b->ptr = b->ptr == NULL ? edged_make(room) : edged_more(b->ptr, b->len, b->room, room);
    b->room = room;
  }
  uint8_t *at = b->ptr + b->len;
  b->len += more;
  return at;
}

EDGED_FN void edged_add(edged_builder *b, edged_bytes piece) {
  uint8_t *at = edged_extend(b, piece.len);
  if (piece.len > 0) __builtin_memcpy(at, piece.ptr, piece.len);
}

EDGED_FN void edged_add_text(edged_builder *b, const char *s) { edged_add(b, edged_text(s)); }

/** One byte, like a bracket. */
EDGED_FN void edged_add_byte(edged_builder *b, uint8_t c) { *edged_extend(b, 1) = c; }

/** What was put together so far; valid until the next piece. */
EDGED_FN edged_bytes edged_built(edged_builder *b) {
  edged_extend(b, 0);
  return (edged_bytes){b->ptr, b->len};
}

EDGED_FN edged_bytes edged_join(const edged_bytes *pieces, uint32_t count) {
  edged_builder b = {0};
  for (uint32_t i = 0; i < count; i++) edged_add(&b, pieces[i]);
  return edged_built(&b);
}

/** The pieces, one behind the other: EDGED_JOIN(EDGED_TEXT("a"), b, c). */
#define EDGED_JOIN(...) \
  edged_join((const edged_bytes[]){__VA_ARGS__}, sizeof((const edged_bytes[]){__VA_ARGS__}) / sizeof(edged_bytes))

/** Bytes, one after the other. Begin with `edged_list l = {0}`. */
typedef struct edged_list {
  edged_bytes *items;
  uint32_t count, room;
} edged_list;

EDGED_FN void edged_push(edged_list *l, edged_bytes item) {
  const uint32_t each = sizeof(edged_bytes);
  if (l->count == l->room) {
    uint32_t room = l->room == 0 ? 8 : l->room * 2;
    l->items = l->room == 0 ? edged_make(room * each)
                            : edged_more(l->items, l->count * each, l->room * each, room * each);
    l->room = room;
  }
  l->items[l->count++] = item;
}

EDGED_FN bool edged_listed(const edged_list *l, edged_bytes item) {
  for (uint32_t i = 0; i < l->count; i++)
    if (edged_equal(l->items[i], item)) return true;
  return false;
}

/** The items with `between` between them. */
EDGED_FN edged_bytes edged_list_join(const edged_list *l, const char *between) {
  edged_builder b = {0};
  for (uint32_t i = 0; i < l->count; i++) {
    if (i > 0) edged_add_text(&b, between);
    edged_add(&b, l->items[i]);
  }
  return edged_built(&b);
}

/* ---- JSON without a tree -----------------------------------------------
 *
 * Everything works on the bytes of a value as it stands, finds the bytes that
 * matter, and leaves all others as they are. Numbers keep their text.
 *
 * The host hands over payloads that are valid JSON, so nothing here validates;
 * but nothing reads outside the bytes it was given, whatever they hold.
 *
 * A path is a text like `a.b.0`: members, and elements of arrays by number. Of
 * members with the same name the first counts.
 */

/** What a JSON value is. */
typedef enum edged_kind {
  EDGED_MISSING, EDGED_NULL, EDGED_BOOLEAN, EDGED_NUMBER, EDGED_STRING, EDGED_ARRAY, EDGED_OBJECT,
} edged_kind;

/** Says what the value is; its first byte decides. */
EDGED_FN edged_kind edged_kind_of(edged_bytes value) {
  if (value.ptr == NULL || value.len == 0) return EDGED_MISSING;
  switch (value.ptr[0]) {
    case '"': return EDGED_STRING;
    case '{': return EDGED_OBJECT;
    case '[': return EDGED_ARRAY;
    case 't':
    case 'f': return EDGED_BOOLEAN;
    case 'n': return EDGED_NULL;
    default: return EDGED_NUMBER;
  }
}

/* Mostly there is no white space, and then there is no loop to enter. */
EDGED_FN const uint8_t *edged_skip_space(const uint8_t *p, const uint8_t *end) {
  while (p < end && *p <= 0x20 && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
  return p;
}

/* Eight bytes at a time: a byte of each result has its high bit set where the
   byte looked at has the value asked for. (The lowest such bit is exact.) */
#define EDGED_LOW UINT64_C(0x0101010101010101)
#define EDGED_HIGH UINT64_C(0x8080808080808080)

EDGED_FN uint64_t edged_load64(const void *p) {
  uint64_t word;
  __builtin_memcpy(&word, p, 8);
  return word;
}

EDGED_FN uint64_t edged_is_byte(uint64_t word, uint8_t value) {
  uint64_t x = word ^ (EDGED_LOW * value);
  return (x - EDGED_LOW) & ~x & EDGED_HIGH;
}

/* From the opening quote to after the closing one; NULL: there is none. */
EDGED_FN const uint8_t *edged_skip_string(const uint8_t *p, const uint8_t *end, bool *escaped) {
  p++;
  while (end - p >= 8) {
    uint64_t word = edged_load64(p), found = edged_is_byte(word, '"') | edged_is_byte(word, '\\');
    if (found == 0) {
      p += 8;
      continue;
    }
    p += __builtin_ctzll(found) >> 3;
    if (*p == '"') return p + 1;
    *escaped = true;
    if (end - p < 2) return NULL;
    p += 2;
  }
  while (p < end) {
    uint8_t c = *p++;
    if (c == '"') return p;
    if (c == '\\') {
      *escaped = true;
      if (p == end) return NULL;
      p++;
    }
  }
  return NULL;
}

/* From after an opening bracket to after its closing one. */
EDGED_FN const uint8_t *edged_skip_container(const uint8_t *p, const uint8_t *end) {
  uint32_t depth = 1;
  bool escaped;
  while (p < end) {
    if (end - p >= 8) {
      uint64_t word = edged_load64(p), folded = word | (EDGED_LOW * 0x20);
      uint64_t found = edged_is_byte(word, '"') | edged_is_byte(folded, '{') | edged_is_byte(folded, '}');
      if (found == 0) {
        p += 8;
        continue;
      }
      p += __builtin_ctzll(found) >> 3;
    }
    uint8_t c = *p;
    if (c == '"') {
      p = edged_skip_string(p, end, &escaped);
      if (p == NULL) return NULL;
      continue;
    }
    p++;
    c |= 0x20; /* [ and {, ] and } differ in that bit only */
    if (c == '{') depth++;
    else if (c == '}' && --depth == 0) return p;
  }
  return NULL;
}

/* From the start of a value to after it; NULL: the bytes end too early. */
EDGED_FN const uint8_t *edged_skip_value(const uint8_t *p, const uint8_t *end) {
  if (p >= end) return NULL;
  const uint8_t *start = p;
  bool escaped;
  if (*p == '"') return edged_skip_string(p, end, &escaped);
  if (*p == '{' || *p == '[') return edged_skip_container(p + 1, end);
  while (end - p >= 8) {
    uint64_t word = edged_load64(p), found = edged_is_byte(word, ',') |
      edged_is_byte(word | (EDGED_LOW * 0x20), '}') | ((word - EDGED_LOW * 0x21) & ~word & EDGED_HIGH);
    if (found != 0) {
      p += __builtin_ctzll(found) >> 3;
      return p > start ? p : NULL;
    }
    p += 8;
  }
  while (p < end && *p != ',' && (*p | 0x20) != '}' && *p > 0x20) p++;
  return p > start ? p : NULL;
}

EDGED_FN uint32_t edged_hex4(const uint8_t *p, const uint8_t *end) {
  if (end - p < 4) return UINT32_MAX;
  uint32_t n = 0;
  for (int i = 0; i < 4; i++) {
    uint32_t digit = (uint32_t)p[i] - '0', letter = (uint32_t)(p[i] | 0x20) - 'a';
    if (digit > 9) digit = letter > 5 ? 16 : letter + 10;
    if (digit > 15) return UINT32_MAX;
    n = n << 4 | digit;
  }
  return n;
}

EDGED_FN uint8_t *edged_put_rune(uint8_t *q, uint32_t c) {
  if (c < 0x80) {
    *q++ = (uint8_t)c;
    return q;
  }
  if (c >= 0x10000) {
    *q++ = (uint8_t)(0xf0 | c >> 18);
    *q++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    *q++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
  } else if (c >= 0x800) {
    *q++ = (uint8_t)(0xe0 | c >> 12);
    *q++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
  } else {
    *q++ = (uint8_t)(0xc0 | c >> 6);
  }
  *q++ = (uint8_t)(0x80 | (c & 0x3f));
  return q;
}

/* What `\u` says; lone halves of a pair become U+FFFD. Moves past it. */
EDGED_FN uint32_t edged_unicode(const uint8_t **at, const uint8_t *end) {
  uint32_t c = edged_hex4(*at, end);
  if (c == UINT32_MAX) return 0xfffd;
  *at += 4;
  if (c < 0xd800 || c >= 0xe000) return c;
  uint32_t low = UINT32_MAX;
  if (c < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') low = edged_hex4(*at + 2, end);
  if (low < 0xdc00 || low >= 0xe000) return 0xfffd;
  *at += 6;
  return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* The UTF-8 of what stands between two quotes and has escapes. */
EDGED_FN edged_bytes edged_unescape(const uint8_t *p, const uint8_t *end) {
  uint32_t len = (uint32_t)(end - p);
  uint8_t *out = edged_make(len + len / 2 + 3), *q = out; /* a broken \u says three bytes with two */
  while (p < end) {
    uint32_t c = *p++;
    if (c != '\\' || p == end) {
      *q++ = (uint8_t)c;
      continue;
    }
    c = *p++;
    switch (c) {
      case 'b': c = '\b'; break;
      case 'f': c = '\f'; break;
      case 'n': c = '\n'; break;
      case 'r': c = '\r'; break;
      case 't': c = '\t'; break;
      case 'u': c = edged_unicode(&p, end); break;
      default: *q++ = (uint8_t)c; continue;
    }
    q = edged_put_rune(q, c);
  }
  return (edged_bytes){out, (uint32_t)(q - out)};
}

/** The text of a JSON string as UTF-8. None: the value is no string. */
EDGED_FN edged_bytes edged_string(edged_bytes value) {
  if (value.ptr == NULL || value.len < 2 || value.ptr[0] != '"') return EDGED_NONE;
  for (uint32_t i = 1; i < value.len - 1; i++)
    if (value.ptr[i] == '\\') return edged_unescape(value.ptr + 1, value.ptr + value.len - 1);
  return (edged_bytes){value.ptr + 1, value.len - 2};
}

/** A text as a JSON string, quoted and escaped. */
EDGED_FN edged_bytes edged_quote(edged_bytes text) {
  uint8_t *out = edged_make(2 + 6 * text.len), *q = out;
  *q++ = '"';
  for (uint32_t i = 0; i < text.len; i++) {
    uint8_t c = text.ptr[i];
    if (c == '"' || c == '\\') *q++ = '\\';
    if (c >= 0x20) {
      *q++ = c;
      continue;
    }
    __builtin_memcpy(q, "\\u00", 4);
    q[4] = (uint8_t)('0' + (c >> 4));
    q[5] = (uint8_t)((c & 15) < 10 ? '0' + (c & 15) : 'a' - 10 + (c & 15));
    q += 6;
  }
  *q++ = '"';
  return (edged_bytes){out, (uint32_t)(q - out)};
}

/** Walks through the members of an object or the elements of an array, in order. */
typedef struct edged_members {
  const uint8_t *p, *end;
  bool object, escaped;
  /** The member's name with its quotes, as it is written; none for an element. */
  edged_bytes quoted;
  /** The member or element. */
  edged_bytes value;
} edged_members;

EDGED_FN edged_members edged_members_of(edged_bytes json) {
  edged_members m = {0};
  m.end = json.ptr + json.len;
  m.p = edged_skip_space(json.ptr, m.end);
  m.object = m.p < m.end && *m.p == '{';
  if (m.p < m.end && (*m.p == '{' || *m.p == '[')) m.p++;
  else m.p = m.end;
  return m;
}

/** Moves to the next one. False: there is none. */
EDGED_FN bool edged_next(edged_members *m) {
  const uint8_t *p = edged_skip_space(m->p, m->end), *end = m->end;
  if (p < end && *p == ',') p = edged_skip_space(p + 1, end);
  if (p >= end || (*p | 0x20) == '}') return false;
  if (m->object) {
    if (*p != '"') return false;
    const uint8_t *at = p;
    m->escaped = false;
    p = edged_skip_string(p, end, &m->escaped);
    if (p == NULL) return false;
    m->quoted = (edged_bytes){at, (uint32_t)(p - at)};
    p = edged_skip_space(p, end);
    if (p >= end || *p != ':') return false;
    p = edged_skip_space(p + 1, end);
  }
  const uint8_t *after = edged_skip_value(p, end);
  if (after == NULL) return false;
  m->value = (edged_bytes){p, (uint32_t)(after - p)};
  m->p = after;
  return true;
}

/** The member's name as UTF-8. */
EDGED_FN edged_bytes edged_name(const edged_members *m) {
  if (m->quoted.ptr == NULL) return EDGED_TEXT("");
  if (m->escaped) return edged_unescape(m->quoted.ptr + 1, m->quoted.ptr + m->quoted.len - 1);
  return (edged_bytes){m->quoted.ptr + 1, m->quoted.len - 2};
}

/* Takes the first name off a path. False: the path is at its end. */
EDGED_FN bool edged_step(edged_bytes *path, edged_bytes *name) {
  if (path->ptr == NULL) return false;
  for (uint32_t i = 0; i < path->len; i++) {
    if (path->ptr[i] != '.') continue;
    *name = (edged_bytes){path->ptr, i};
    *path = (edged_bytes){path->ptr + i + 1, path->len - i - 1};
    return true;
  }
  *name = *path;
  *path = EDGED_NONE;
  return true;
}

/* -1: the name is no number of an element. */
EDGED_FN int32_t edged_index(edged_bytes name) {
  if (name.len == 0 || name.len > 9) return -1;
  int32_t n = 0;
  for (uint32_t i = 0; i < name.len; i++) {
    if (name.ptr[i] < '0' || name.ptr[i] > '9') return -1;
    n = n * 10 + (name.ptr[i] - '0');
  }
  return n;
}

typedef struct edged_spot {
  edged_members m;
  const uint8_t *last; /* after the value before; NULL: it is the first */
  const uint8_t *closing; /* the closing bracket, when nothing was found */
} edged_spot;

/* Looks for a member, or for the element whose number `name` is. */
EDGED_FN bool edged_find(edged_spot *s, edged_bytes json, edged_bytes name) {
  s->m = edged_members_of(json);
  s->last = s->closing = NULL;
  int32_t wanted = s->m.object ? -1 : edged_index(name);
  if (!s->m.object && wanted < 0) return false;
  while (edged_next(&s->m)) {
    edged_members *m = &s->m;
    if (!m->object) {
      if (wanted-- == 0) return true;
    } else if (m->escaped ? edged_equal(edged_name(m), name)
                          : m->quoted.len == name.len + 2 && edged_same_bytes(m->quoted.ptr + 1, name.ptr, name.len)) {
      return true;
    }
    s->last = m->p;
  }
  const uint8_t *p = edged_skip_space(s->m.p, s->m.end);
  if (p < s->m.end && *p == ',') p = edged_skip_space(p + 1, s->m.end);
  if (p < s->m.end && *p == (s->m.object ? '}' : ']')) s->closing = p;
  return false;
}

/* From the first byte of the value to the end of the bytes. */
EDGED_FN edged_bytes edged_trim(edged_bytes json) {
  const uint8_t *p = edged_skip_space(json.ptr, json.ptr + json.len);
  return (edged_bytes){p, (uint32_t)(json.ptr + json.len - p)};
}

/** The value at `path`. None: there is none. */
EDGED_FN edged_bytes edged_get(edged_bytes json, edged_bytes path) {
  edged_bytes value = edged_trim(json), name;
  edged_spot s;
  while (edged_step(&path, &name)) {
    if (!edged_find(&s, value, name)) return EDGED_NONE;
    value = s.m.value;
  }
  return value;
}

/** The member of that name, dots and all. None: there is none. */
EDGED_FN edged_bytes edged_member(edged_bytes json, edged_bytes name) {
  edged_spot s;
  return edged_find(&s, json, name) ? s.m.value : EDGED_NONE;
}

/* Returns `json` with the bytes from `at` to `to` replaced. */
EDGED_FN edged_bytes edged_splice(edged_bytes json, const uint8_t *at, const uint8_t *to, edged_bytes middle) {
  uint32_t head = (uint32_t)(at - json.ptr), tail = (uint32_t)(json.ptr + json.len - to);
  uint8_t *out = edged_make(head + middle.len + tail);
  __builtin_memcpy(out, json.ptr, head);
  if (middle.len > 0) __builtin_memcpy(out + head, middle.ptr, middle.len);
  __builtin_memcpy(out + head + middle.len, to, tail);
  return (edged_bytes){out, head + middle.len + tail};
}

/* Writes the member `name` at `at`, with the objects that the rest of the path needs. */
EDGED_FN edged_bytes edged_insert(edged_bytes json, const uint8_t *at, bool comma, edged_bytes name, edged_bytes rest,
                                  edged_bytes value) {
  edged_builder b = {0};
  uint32_t depth = 0;
  if (comma) edged_add_byte(&b, ',');
  while (true) {
    edged_add(&b, edged_quote(name));
    edged_add_byte(&b, ':');
    if (!edged_step(&rest, &name)) break;
    edged_add_byte(&b, '{');
    depth++;
  }
  edged_add(&b, value);
  while (depth-- > 0) edged_add_byte(&b, '}');
  return edged_splice(json, at, at, edged_built(&b));
}

/**
 * Returns `json` with the value at `path` replaced, or added as the last member
 * of its object; objects on the way that are missing are made. No other byte
 * changes. None: something on the way is no object, or a new element would have
 * to be put into an array.
 */
EDGED_FN edged_bytes edged_set(edged_bytes json, edged_bytes path, edged_bytes value) {
  edged_bytes at = edged_trim(json), name;
  edged_spot s;
  while (edged_step(&path, &name)) {
    if (edged_find(&s, at, name)) {
      at = s.m.value;
      continue;
    }
    if (s.closing == NULL || !s.m.object) return EDGED_NONE;
    return edged_insert(json, s.last != NULL ? s.last : at.ptr + 1, s.last != NULL, name, path, value);
  }
  return edged_splice(json, at.ptr, at.ptr + at.len, value);
}

/** Returns `json` without the member or element at `path`, or `json` itself if it is not there. */
EDGED_FN edged_bytes edged_del(edged_bytes json, edged_bytes path) {
  edged_bytes value = edged_trim(json), name;
  edged_spot s = {0};
  while (edged_step(&path, &name)) {
    if (!edged_find(&s, value, name)) return json;
    value = s.m.value;
  }
  const uint8_t *from = s.m.object ? s.m.quoted.ptr : value.ptr, *to = s.m.p, *end = json.ptr + json.len;
  if (s.last != NULL) {
    from = s.last; /* with the comma before it */
  } else {
    const uint8_t *next = edged_skip_space(to, end);
    if (next < end && *next == ',') to = edged_skip_space(next + 1, end);
  }
  return edged_splice(json, from, to, EDGED_NONE);
}

/** One of the paths of a lookup, and its value in the object that was read last. */
typedef struct edged_field {
  edged_bytes path;
  /** None: it is not there. */
  edged_bytes value;
  uint32_t first; /* how long the path's first name is; filled in by the run */
} edged_field;

/**
 * Several paths, looked for in one pass: the fast way for a transform that reads
 * some fields and writes another.
 */
typedef struct edged_lookup {
  edged_field *fields;
  uint32_t count;
  edged_bytes json;
  const uint8_t *first, *last; /* after the opening brace, after the last member */
  bool closed;
} edged_lookup;

/** Looks for every path. False: the bytes are no whole object. */
EDGED_FN bool edged_lookup_run(edged_lookup *l, edged_bytes json) {
  for (uint32_t i = 0; i < l->count; i++) {
    edged_bytes path = l->fields[i].path, name = EDGED_NONE;
    edged_step(&path, &name);
    l->fields[i].value = EDGED_NONE;
    l->fields[i].first = name.len;
  }
  l->json = json;
  l->last = NULL;
  l->closed = false;
  edged_members m = edged_members_of(json);
  if (!m.object) return false;
  l->first = m.p;
  while (edged_next(&m)) {
    l->last = m.p;
    edged_bytes name = edged_name(&m);
    for (uint32_t i = 0; i < l->count; i++) {
      edged_field *f = &l->fields[i];
      edged_bytes path = f->path;
      if (f->first != name.len || f->value.ptr != NULL || !edged_same_bytes(path.ptr, name.ptr, name.len)) continue;
      if (path.len == name.len) f->value = m.value;
      else f->value = edged_get(m.value, (edged_bytes){path.ptr + name.len + 1, path.len - name.len - 1});
    }
  }
  const uint8_t *p = edged_skip_space(m.p, m.end);
  if (p < m.end && *p == ',') p = edged_skip_space(p + 1, m.end);
  return l->closed = p < m.end && *p == '}';
}

/** Does what edged_set does for the path with that number, on the object of the last run. */
EDGED_FN edged_bytes edged_lookup_set(edged_lookup *l, uint32_t i, edged_bytes value) {
  edged_bytes old = l->fields[i].value, path = l->fields[i].path, name;
  if (old.ptr != NULL) return edged_splice(l->json, old.ptr, old.ptr + old.len, value);
  if (!l->closed) return EDGED_NONE;
  edged_step(&path, &name);
  if (path.ptr != NULL) return edged_set(l->json, l->fields[i].path, value);
  return edged_insert(l->json, l->last != NULL ? l->last : l->first, l->last != NULL, name, path, value);
}

/** True or false as 1 or 0; -1: the value is neither. */
EDGED_FN int edged_boolean(edged_bytes value) {
  return edged_kind_of(value) != EDGED_BOOLEAN ? -1 : value.ptr[0] == 't';
}

/** An object's members by name. Of several with the same name the first counts. */
typedef struct edged_object {
  edged_list names, quoted, values;
  uint32_t *table; /* open addressing, index + 1 */
  uint32_t mask;
} edged_object;

/* FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
EDGED_FN uint32_t edged_hash(edged_bytes b) {
  uint32_t h = 2166136261u;
  for (uint32_t i = 0; i < b.len; i++) h = (h ^ b.ptr[i]) * 16777619u;
  return h;
}

/** The number of the member of that name, -1: there is none. */
EDGED_FN int32_t edged_object_find(const edged_object *o, edged_bytes name) {
  for (uint32_t slot = edged_hash(name) & o->mask; o->table[slot] != 0; slot = (slot + 1) & o->mask) {
    uint32_t i = o->table[slot] - 1;
    if (edged_equal(o->names.items[i], name)) return (int32_t)i;
  }
  return -1;
}

EDGED_FN edged_object edged_object_of(edged_bytes json) {
  edged_object o = {0};
  edged_members m = edged_members_of(json);
  while (edged_next(&m)) {
    edged_push(&o.names, edged_name(&m));
    edged_push(&o.quoted, m.quoted);
    edged_push(&o.values, m.value);
  }
  uint32_t size = 8;
  while (size < o.names.count * 2) size *= 2;
  o.table = edged_make(size * sizeof(uint32_t));
  __builtin_memset(o.table, 0, size * sizeof(uint32_t));
  o.mask = size - 1;
  for (uint32_t i = 0; i < o.names.count; i++) {
    if (edged_object_find(&o, o.names.items[i]) >= 0) continue;
    uint32_t slot = edged_hash(o.names.items[i]) & o.mask;
    while (o.table[slot] != 0) slot = (slot + 1) & o.mask;
    o.table[slot] = i + 1;
  }
  return o;
}

/** The value of the member of that name. None: there is none. */
EDGED_FN edged_bytes edged_object_get(const edged_object *o, edged_bytes name) {
  int32_t i = edged_object_find(o, name);
  return i < 0 ? EDGED_NONE : o->values.items[i];
}

/* Deeper values are the same if their bytes are: the stack of a module is small. */
#define EDGED_DEPTH 256

EDGED_FN bool edged_same_within(edged_bytes a, edged_bytes b, int depth) {
  if (a.ptr == NULL || b.ptr == NULL) return a.ptr == b.ptr;
  if (edged_equal(a, b)) return true;
  edged_kind kind = edged_kind_of(a);
  if (kind != edged_kind_of(b) || depth == 0) return false;
  if (kind == EDGED_STRING) return edged_equal(edged_string(a), edged_string(b));
  if (kind == EDGED_ARRAY) {
    edged_members x = edged_members_of(a), y = edged_members_of(b);
    while (edged_next(&x))
      if (!edged_next(&y) || !edged_same_within(x.value, y.value, depth - 1)) return false;
    return !edged_next(&y);
  }
  if (kind != EDGED_OBJECT) return false;
  edged_object x = edged_object_of(a), y = edged_object_of(b);
  if (x.names.count != y.names.count) return false;
  for (uint32_t i = 0; i < x.names.count; i++)
    if (!edged_same_within(x.values.items[i], edged_object_get(&y, x.names.items[i]), depth - 1)) return false;
  return true;
}

/** Whether two values say the same: white space and the order of members do not count, the text of numbers does. */
EDGED_FN bool edged_same(edged_bytes a, edged_bytes b) { return edged_same_within(a, b, EDGED_DEPTH); }

/* ---- numbers ----------------------------------------------------------- */

/* Powers of ten that a double holds exactly. */
static const double edged_pow10[] = {
  1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

#define EDGED_NAN __builtin_nan("")

/* What the text of a number says: digits * 10^exponent. */
typedef struct edged_digits {
  uint64_t digits; /* up to 19 of them */
  int32_t exponent;
  bool negative;
} edged_digits;

/* Reads `e-12` and the like at p. */
EDGED_FN bool edged_read_exponent(const uint8_t *p, const uint8_t *end, int32_t *exponent) {
  if ((*p | 0x20) != 'e' || ++p == end) return false;
  bool negative = *p == '-';
  if (negative || *p == '+') p++;
  if (p == end) return false;
  int32_t e = 0;
  for (; p < end; p++) {
    if (*p < '0' || *p > '9') return false;
    if (e < 10000) e = e * 10 + (*p - '0');
  }
  *exponent += negative ? -e : e;
  return true;
}

EDGED_FN bool edged_read_digits(edged_bytes value, edged_digits *out) {
  const uint8_t *p = value.ptr, *end = p + value.len;
  uint64_t digits = 0;
  int32_t count = 0, exponent = 0;
  bool seen = false, fraction = false;
  out->negative = *p == '-';
  if (out->negative) p++;
  for (; p < end; p++) {
    uint32_t d = (uint32_t)*p - '0';
    if (d <= 9) {
      seen = true;
      if (count < 19) {
        digits = digits * 10 + d;
        if (digits != 0) count++;
        exponent -= fraction;
      } else {
        exponent += !fraction;
      }
    } else if (*p == '.' && !fraction) {
      fraction = true;
    } else {
      break;
    }
  }
  out->digits = digits;
  out->exponent = exponent;
  return seen && (p == end || edged_read_exponent(p, end, &out->exponent));
}

/* Scales step by step: each step may round. */
EDGED_FN double edged_scale(double x, int32_t exponent) {
  if (exponent < -400) return 0;
  if (exponent > 400) return x * 1e300 * 1e300;
  for (; exponent > 22; exponent -= 22) x *= 1e22;
  for (; exponent < -22; exponent += 22) x /= 1e22;
  return exponent < 0 ? x / edged_pow10[-exponent] : x * edged_pow10[exponent];
}

/**
 * The value of a JSON number. NaN: the value is none. A number of up to 15
 * digits with an exponent within 22 is read exactly; others may be off by a few
 * units in the last place.
 */
EDGED_FN double edged_number(edged_bytes value) {
  edged_digits n;
  if (edged_kind_of(value) != EDGED_NUMBER || !edged_read_digits(value, &n)) return EDGED_NAN;
  while (n.digits >> 53 != 0 && n.digits % 10 == 0) {
    n.digits /= 10;
    n.exponent++;
  }
  /* One correctly rounded operation on two exact doubles rounds correctly. */
  double x = n.digits == 0 ? 0 : edged_scale((double)n.digits, n.exponent);
  return n.negative ? -x : x;
}

/* The nearest whole number, halves to even. */
EDGED_FN double edged_nearest(double x) {
  const double whole = 4503599627370496.0; /* 2^52: from there on there are no fractions */
  if (!(x < whole && x > -whole)) return x;
  return x < 0 ? x - whole + whole : x + whole - whole;
}

/* Writes n / 10^decimals so that it ends at `q`; returns where it begins. */
EDGED_FN uint8_t *edged_write_digits(uint64_t n, int decimals, uint8_t *q) {
  bool zeros = true; /* at the end, behind the point */
  for (int written = 0; n != 0 || written <= decimals; written++) {
    /* Most numbers fit 32 bits, whose division is much faster. */
    uint64_t rest = n >> 32 == 0 ? (uint32_t)n / 10 : n / 10;
    uint8_t digit = (uint8_t)(n - rest * 10);
    n = rest;
    if (written == decimals) {
      if (!zeros) *--q = '.';
      zeros = false;
    }
    if (digit != 0) zeros = false;
    if (!zeros) *--q = (uint8_t)('0' + digit);
  }
  return q;
}

/**
 * `x` as a JSON number with at most `decimals` decimals (0 to 9), rounded to
 * the nearest, halves to even, trailing zeros and the sign of zero left out.
 * The same input gives the same bytes everywhere. None: x is no finite number,
 * or too large for its last decimal to mean anything (2^53 of them and more).
 */
EDGED_FN edged_bytes edged_fixed(double x, int decimals) {
  if (decimals < 0) decimals = 0;
  if (decimals > 9) decimals = 9;
  double scaled = edged_nearest((x < 0 ? -x : x) * edged_pow10[decimals]);
  if (!(scaled < 9007199254740992.0)) return EDGED_NONE;
  uint8_t *end = (uint8_t *)edged_make(24) + 24; /* sign, at most 16 digits, point */
  uint8_t *q = edged_write_digits((uint64_t)scaled, decimals, end);
  if (x < 0 && scaled != 0) *--q = '-';
  return (edged_bytes){q, (uint32_t)(end - q)};
}

/** `n` as a JSON number. */
EDGED_FN edged_bytes edged_integer(int64_t n) {
  uint8_t *end = (uint8_t *)edged_make(24) + 24;
  uint8_t *q = edged_write_digits(n < 0 ? 0 - (uint64_t)n : (uint64_t)n, 0, end);
  if (n < 0) *--q = '-';
  return (edged_bytes){q, (uint32_t)(end - q)};
}

/** `n` as a JSON number. */
EDGED_FN edged_bytes edged_unsigned(uint64_t n) {
  uint8_t *end = (uint8_t *)edged_make(24) + 24, *q = edged_write_digits(n, 0, end);
  return (edged_bytes){q, (uint32_t)(end - q)};
}

/* ---- exact decimals: 0.1 + 0.2 is 0.3 ----------------------------------- */

#define EDGED_SCALE 18

/* A number as mantissa / 10^scale. */
typedef struct edged_decimal {
  int64_t mantissa;
  int32_t scale;
} edged_decimal;

EDGED_FN bool edged_shift(edged_decimal *a) {
  if (a->mantissa > INT64_C(99999999999999999) || a->mantissa < -INT64_C(99999999999999999)) return false;
  a->mantissa *= 10;
  a->scale++;
  return true;
}

/* False: no number, or one with more than 18 digits or decimals. */
EDGED_FN bool edged_decimal_of(edged_bytes value, edged_decimal *out) {
  edged_digits n;
  if (edged_kind_of(value) != EDGED_NUMBER || !edged_read_digits(value, &n)) return false;
  int32_t count = 0;
  for (uint32_t i = 0; i < value.len && (value.ptr[i] | 0x20) != 'e'; i++)
    if (value.ptr[i] >= '0' && value.ptr[i] <= '9' && (count > 0 || value.ptr[i] != '0')) count++;
  if (count > EDGED_SCALE) return false;
  edged_decimal d = {(int64_t)n.digits, -n.exponent};
  if (d.mantissa == 0) {
    /* The decimals that are written count, an exponent does not. */
    bool exponent = false;
    for (uint32_t i = 0; i < value.len; i++) exponent |= (value.ptr[i] | 0x20) == 'e';
    if (exponent) d.scale = 0;
    if (d.scale > EDGED_SCALE) d.scale = EDGED_SCALE;
  }
  while (d.scale < 0)
    if (!edged_shift(&d)) return false;
  while (d.scale > EDGED_SCALE && d.mantissa % 10 == 0) {
    d.mantissa /= 10;
    d.scale--;
  }
  if (n.negative) d.mantissa = -d.mantissa;
  *out = d;
  return d.scale <= EDGED_SCALE;
}

/* Brings both to one scale. False: that takes more than 18 digits. */
EDGED_FN bool edged_align(edged_decimal *a, edged_decimal *b) {
  while (a->scale < b->scale)
    if (!edged_shift(a)) return false;
  while (b->scale < a->scale)
    if (!edged_shift(b)) return false;
  return true;
}

EDGED_FN edged_bytes edged_decimal_text(edged_decimal a) {
  uint64_t n = a.mantissa < 0 ? 0 - (uint64_t)a.mantissa : (uint64_t)a.mantissa;
  uint8_t *end = (uint8_t *)edged_make(48) + 48, *q = end;
  for (int32_t written = 0; n != 0 || written <= a.scale; written++) {
    if (written == a.scale && written > 0) *--q = '.';
    *--q = (uint8_t)('0' + n % 10);
    n /= 10;
  }
  if (a.mantissa < 0) *--q = '-';
  return (edged_bytes){q, (uint32_t)(end - q)};
}

/**
 * `to` plus what `from` became on the way to `now`: to + (now - from), exact, with
 * as many decimals as the longest of them. None: one is no number, or more than
 * 18 digits are needed.
 */
EDGED_FN edged_bytes edged_add_delta(edged_bytes to, edged_bytes now, edged_bytes from) {
  edged_decimal a, b, c;
  if (!edged_decimal_of(to, &a) || !edged_decimal_of(now, &b) || !edged_decimal_of(from, &c)) return EDGED_NONE;
  if (!edged_align(&a, &b) || !edged_align(&a, &c) || !edged_align(&a, &b)) return EDGED_NONE;
  /* Each is below 10^18, so three of them fit. */
  return edged_decimal_text((edged_decimal){a.mantissa + b.mantissa - c.mantissa, a.scale});
}

/**
 * Compares two numbers by value: -1, 0 or 1. 2: one is no number, or more than 18
 * digits are needed.
 */
EDGED_FN int edged_compare_numbers(edged_bytes a, edged_bytes b) {
  edged_decimal x, y;
  if (!edged_decimal_of(a, &x) || !edged_decimal_of(b, &y) || !edged_align(&x, &y)) return 2;
  return x.mantissa < y.mantissa ? -1 : x.mantissa > y.mantissa;
}

/* ---- configuration ----------------------------------------------------- */

/**
 * The operator's configuration, read key by key. Every mistake is collected and
 * reported at the end, all at once.
 */
typedef struct edged_config {
  edged_bytes json;
  edged_list known, errors;
} edged_config;

/** Adds a mistake that the plugin itself found. */
EDGED_FN void edged_config_fail(edged_config *c, edged_bytes message) { edged_push(&c->errors, message); }

EDGED_FN void edged_config_wrong(edged_config *c, edged_bytes key, edged_bytes want, edged_bytes value) {
  edged_config_fail(c, EDGED_JOIN(key, EDGED_TEXT(" must be "), want, EDGED_TEXT(", not "), value));
}

EDGED_FN edged_bytes edged_config_value(edged_config *c, const char *key) {
  edged_push(&c->known, edged_text(key));
  edged_bytes value = edged_member(c->json, edged_text(key));
  return edged_kind_of(value) == EDGED_NULL ? EDGED_NONE : value;
}

/** A string that must not be empty; also a path in the payload. */
EDGED_FN edged_bytes edged_config_string(edged_config *c, const char *key, const char *fallback) {
  edged_bytes value = edged_config_value(c, key), s = edged_string(value);
  if (value.ptr == NULL) return edged_text(fallback);
  if (s.ptr != NULL && s.len > 0) return s;
  edged_config_wrong(c, edged_text(key), EDGED_TEXT("a string that is not empty"), value);
  return edged_text(fallback);
}

/* A number as it stands in a message. */
EDGED_FN edged_bytes edged_shown(double x) {
  edged_bytes text = edged_fixed(x, 9);
  if (text.ptr == NULL) return EDGED_TEXT("a very large number");
  for (uint32_t i = 0; i < text.len; i++)
    if (text.ptr[i] == '.') return text;
  return EDGED_JOIN(text, EDGED_TEXT(".0"));
}

/** A number from `low` to `high`. */
EDGED_FN double edged_config_number(edged_config *c, const char *key, double fallback, double low, double high) {
  edged_bytes value = edged_config_value(c, key);
  if (value.ptr == NULL) return fallback;
  double x = edged_number(value);
  if (x >= low && x <= high) return x;
  edged_bytes want = EDGED_JOIN(EDGED_TEXT("a number from "), edged_shown(low), EDGED_TEXT(" to "), edged_shown(high));
  edged_config_wrong(c, edged_text(key), want, value);
  return fallback;
}

/** A whole number from `low` to `high`. */
EDGED_FN int32_t edged_config_integer(edged_config *c, const char *key, int32_t fallback, int32_t low, int32_t high) {
  edged_bytes value = edged_config_value(c, key);
  if (value.ptr == NULL) return fallback;
  double x = edged_number(value);
  if (x >= low && x <= high && x == (double)(int32_t)x) return (int32_t)x;
  edged_bytes want =
    EDGED_JOIN(EDGED_TEXT("a whole number from "), edged_integer(low), EDGED_TEXT(" to "), edged_integer(high));
  edged_config_wrong(c, edged_text(key), want, value);
  return fallback;
}

/** True or false. */
EDGED_FN bool edged_config_boolean(edged_config *c, const char *key, bool fallback) {
  edged_bytes value = edged_config_value(c, key);
  if (value.ptr == NULL) return fallback;
  int b = edged_boolean(value);
  if (b >= 0) return b == 1;
  edged_config_wrong(c, edged_text(key), EDGED_TEXT("true or false"), value);
  return fallback;
}

/** A list of strings. */
EDGED_FN edged_list edged_config_strings(edged_config *c, const char *key) {
  edged_list out = {0};
  edged_bytes value = edged_config_value(c, key);
  if (value.ptr == NULL) return out;
  bool good = edged_kind_of(value) == EDGED_ARRAY;
  edged_members m = edged_members_of(value);
  while (good && edged_next(&m)) {
    edged_bytes s = edged_string(m.value);
    good = s.ptr != NULL;
    if (good) edged_push(&out, s);
  }
  if (!good) edged_config_wrong(c, edged_text(key), EDGED_TEXT("a list of strings"), value);
  return out;
}

/** An object with a string for every name: a name, its string, and so on. */
EDGED_FN edged_list edged_config_map(edged_config *c, const char *key) {
  edged_list out = {0};
  edged_bytes value = edged_config_value(c, key);
  if (value.ptr == NULL) return out;
  if (edged_kind_of(value) != EDGED_OBJECT) {
    edged_config_wrong(c, edged_text(key), EDGED_TEXT("an object with a string for every name"), value);
    return out;
  }
  edged_members m = edged_members_of(value);
  while (edged_next(&m)) {
    edged_bytes name = edged_name(&m), s = edged_string(m.value);
    if (s.ptr == NULL) {
      edged_config_wrong(c, EDGED_JOIN(edged_text(key), EDGED_TEXT("."), name), EDGED_TEXT("a string"), m.value);
      continue;
    }
    edged_push(&out, name);
    edged_push(&out, s);
  }
  return out;
}

/* Complains of keys that nobody asked for; returns what is wrong, or none. */
EDGED_FN edged_bytes edged_config_end(edged_config *c) {
  edged_members m = edged_members_of(c->json);
  while (edged_next(&m)) {
    edged_bytes name = edged_name(&m);
    if (edged_listed(&c->known, name)) continue;
    edged_bytes known = edged_list_join(&c->known, ", ");
    edged_config_fail(c, c->known.count == 0
      ? EDGED_JOIN(EDGED_TEXT("unknown key "), name, EDGED_TEXT("; there are none"))
      : EDGED_JOIN(EDGED_TEXT("unknown key "), name, EDGED_TEXT("; there are: "), known));
  }
  return c->errors.count == 0 ? EDGED_NONE : edged_list_join(&c->errors, ". ");
}

/* What edged_configure does. */
EDGED_FN uint64_t edged_configured(uint32_t ptr, uint32_t len, void (*set_up)(edged_config *)) {
  edged_config c = {.json = {edged_at(ptr), len}};
  set_up(&c);
  edged_bytes wrong = edged_config_end(&c);
  if (wrong.ptr != NULL) return edged_result(wrong);
  edged_keep();
  return 0;
}

/** Exports edged_configure: `void set_up(edged_config *)` reads what the operator wrote. */
#define EDGED_CONFIGURE(set_up)                                                                      \
  EDGED_EXPORT("edged_configure") uint64_t edged_configure(uint32_t ptr, uint32_t len) {             \
    return edged_configured(ptr, len, set_up);                                                       \
  }

/** Exports edged_describe: a literal with the JSON object that sdk/abi.md tells of. */
#define EDGED_DESCRIBE(json) \
  EDGED_EXPORT("edged_describe") uint64_t edged_describe(void) { return edged_result(EDGED_TEXT(json)); }

/* ---- frames ------------------------------------------------------------- */

#define EDGED_MAGIC 0x31474445u /* EDG1 */
#define EDGED_CALL 32
#define EDGED_RECORD 64
#define EDGED_OUT 40
#define EDGED_CONFLICT 16
#define EDGED_VERDICT 24

EDGED_FN uint16_t edged_u16(const uint8_t *p) {
  uint16_t n;
  __builtin_memcpy(&n, p, 2);
  return n;
}

EDGED_FN uint32_t edged_u32(const uint8_t *p) {
  uint32_t n;
  __builtin_memcpy(&n, p, 4);
  return n;
}

EDGED_FN void edged_put16(uint8_t *p, uint32_t n) {
  uint16_t half = (uint16_t)n;
  __builtin_memcpy(p, &half, 2);
}

EDGED_FN void edged_put32(uint8_t *p, uint32_t n) { __builtin_memcpy(p, &n, 4); }

/* The answer at hand: frames, one behind the other. */
typedef struct edged_output {
  edged_builder frames;
  uint32_t src, answers;
} edged_output;

/* Adds a frame of a cleared header and `size` bytes behind it; returns where it begins. */
EDGED_FN uint8_t *edged_frame(edged_output *out, uint32_t header, uint32_t size, uint32_t action, uint32_t code) {
  uint32_t whole = (header + size + 7) & ~7u;
  uint8_t *at = edged_extend(&out->frames, whole);
  __builtin_memset(at + whole - 8, 0, 8); /* the padding */
  __builtin_memset(at, 0, header);
  edged_put32(at, whole);
  edged_put32(at + 4, out->src);
  edged_put16(at + 8, action);
  edged_put16(at + 10, code);
  out->answers++;
  return at;
}

EDGED_FN uint8_t *edged_append(uint8_t *p, edged_bytes part) {
  if (part.len > 0) __builtin_memcpy(p, part.ptr, part.len);
  return p + part.len;
}

/* ---- transforms --------------------------------------------------------- */

/** A record as the host handed it over. It belongs to its call. */
typedef struct edged_record {
  edged_bytes id, device, type;
  /** One JSON object. */
  edged_bytes payload;
  /** Nanoseconds since 1970. */
  int64_t timestamp;
  /** When edged received it, 0: unknown. */
  int64_t received;
  /** Its number in the store, 0: it is not stored yet. */
  uint64_t seq;
  /** The time of the call, in nanoseconds since 1970. */
  int64_t call_time;
  /** The timestamp lies outside the years 1677 to 2262 and was cut. */
  bool saturated;
} edged_record;

/** A record to emit: what is there replaces what the input has. */
typedef struct edged_draft {
  edged_bytes id, device, type, payload;
  /** Nanoseconds since 1970; counts if dated. */
  int64_t timestamp;
  bool dated;
} edged_draft;

/* A record gets pass, drop or error once, or any number of emits (a split); pass
   beside emits keeps the original among them. */

/** The record goes on as it is. Nothing is copied. */
EDGED_FN void edged_pass(edged_output *out) { edged_frame(out, EDGED_OUT, 0, 2, 0); }

EDGED_FN void edged_reason(edged_output *out, uint32_t action, edged_bytes reason, uint16_t code) {
  uint8_t *at = edged_frame(out, EDGED_OUT, reason.len, action, code);
  edged_put32(at + 28, reason.len);
  edged_append(at + EDGED_OUT, reason);
}

/** The record ends here, on purpose. The reason is kept. */
EDGED_FN void edged_drop(edged_output *out, edged_bytes reason, uint16_t code) { edged_reason(out, 3, reason, code); }

/** The record cannot be processed: the pipeline decides what becomes of it. */
EDGED_FN void edged_error(edged_output *out, edged_bytes reason, uint16_t code) { edged_reason(out, 4, reason, code); }

/** The record goes on with another payload, which must be one JSON object. */
EDGED_FN void edged_payload(edged_output *out, edged_bytes json) {
  uint8_t *at = edged_frame(out, EDGED_OUT, json.len, 1, 0);
  edged_put32(at + 12, 32);
  edged_put32(at + 28, json.len);
  edged_append(at + EDGED_OUT, json);
}

/**
 * A record made from the one at hand. Call it several times to split; give
 * each an id of its own, or the host numbers them.
 */
EDGED_FN void edged_emit(edged_output *out, const edged_draft *d) {
  uint8_t *at = edged_frame(out, EDGED_OUT, d->id.len + d->device.len + d->type.len + d->payload.len, 1, 0);
  edged_put32(at + 12, (d->id.ptr != NULL ? 1u : 0) | (d->device.ptr != NULL ? 2u : 0) |
    (d->type.ptr != NULL ? 4u : 0) | (d->dated ? 8u : 0) | (d->payload.ptr != NULL ? 32u : 0));
  edged_put16(at + 16, d->id.len);
  edged_put16(at + 18, d->device.len);
  edged_put16(at + 20, d->type.len);
  edged_put32(at + 28, d->payload.len);
  if (d->dated) __builtin_memcpy(at + 32, &d->timestamp, 8);
  edged_append(edged_append(edged_append(edged_append(at + EDGED_OUT, d->id), d->device), d->type), d->payload);
}

/* Whether the bytes are a call of this version. */
EDGED_FN bool edged_is_call(const uint8_t *call, uint32_t len, uint32_t op) {
  return len >= EDGED_CALL && edged_u32(call) == EDGED_MAGIC && edged_u16(call + 4) == 1 && edged_u16(call + 6) == op;
}

EDGED_FN void edged_read_record(edged_record *r, const uint8_t *at) {
  const uint8_t *p = at + EDGED_RECORD;
  r->saturated = (edged_u16(at + 4) & 1) != 0;
  r->id = (edged_bytes){p, edged_u16(at + 8)};
  r->device = (edged_bytes){r->id.ptr + r->id.len, edged_u16(at + 10)};
  r->type = (edged_bytes){r->device.ptr + r->device.len, edged_u16(at + 12)};
  r->payload = (edged_bytes){r->type.ptr + r->type.len + edged_u32(at + 16), edged_u32(at + 20)};
  r->timestamp = (int64_t)edged_load64(at + 24);
  r->received = (int64_t)edged_load64(at + 32);
  r->seq = edged_load64(at + 40);
}

#define EDGED_NO_ANSWER EDGED_TEXT("the plugin gave no answer")

/* What edged_transform does: calls `handle` for every record. */
EDGED_FN uint64_t edged_transformed(uint32_t ptr, uint32_t len, void (*handle)(const edged_record *, edged_output *)) {
  const uint8_t *call = edged_at(ptr);
  if (!edged_is_call(call, len, 1)) return 0;
  uint32_t count = edged_u32(call + 8);
  edged_record r = {.call_time = (int64_t)edged_load64(call + 16)};
  edged_output out = {0};
  edged_extend(&out.frames, len + count * 64); /* most transforms add a little to each record */
  out.frames.len = 0;
  const uint8_t *at = call + EDGED_CALL;
  for (uint32_t i = 0; i < count; i++) {
    edged_read_record(&r, at);
    out.src = i;
    out.answers = 0;
    handle(&r, &out);
    if (out.answers == 0) edged_error(&out, EDGED_NO_ANSWER, 0);
    at += edged_u32(at);
  }
  return edged_result(edged_built(&out.frames));
}

/** Exports edged_transform: `void handle(const edged_record *, edged_output *)` answers every record. */
#define EDGED_TRANSFORM(handle)                                                                      \
  EDGED_EXPORT("edged_transform") uint64_t edged_transform(uint32_t ptr, uint32_t len) {             \
    return edged_transformed(ptr, len, handle);                                                      \
  }

/* ---- resolvers ---------------------------------------------------------- */

/** One version of a key. It belongs to its call. */
typedef struct edged_version {
  /** Who wrote it. */
  edged_bytes device;
  edged_bytes type;
  /** The JSON value; empty when it is deleted or left out. */
  edged_bytes payload;
  /** The wall time of its hybrid logical clock, in nanoseconds since 1970. */
  int64_t wall;
  /** The counter among versions with the same wall time. */
  uint64_t counter;
  /** The revision at the hub; 0: it was never there. */
  uint64_t revision;
  /** The version is a delete; it has no payload. */
  bool deleted;
  /** The clock of its writer lagged behind and was raised. */
  bool clock_raised;
  /** The clock of its writer says nothing. */
  bool clock_unknown;
  /** There is a payload, and it was not asked for: `needs` is `headers`. */
  bool left_out;
  /** The payload is one JSON object, and not another JSON value. */
  bool is_object;
} edged_version;

/** A key that was changed here and at the hub since both last agreed. */
typedef struct edged_conflict {
  edged_bytes key;
  /**
   * What both last agreed on, if has_base. Without it that is not known, and what
   * one side lacks may be new on the other. A deleted base says that the key was
   * not there.
   */
  edged_version base;
  /** What this edge has, and what the hub has. */
  edged_version local, remote;
  bool has_base;
} edged_conflict;

/** Decides the conflict at hand, once. */
typedef struct edged_output edged_verdict;

EDGED_FN void edged_decide(edged_verdict *v, uint32_t action, edged_bytes payload, uint16_t code) {
  if (v->answers > 0) edged_panic("two verdicts for one conflict");
  uint8_t *at = edged_frame(v, EDGED_VERDICT, payload.len, action, code);
  edged_put32(at + 12, payload.len);
  edged_append(at + EDGED_VERDICT, payload);
}

/** This edge's version wins. */
EDGED_FN void edged_take_local(edged_verdict *v) { edged_decide(v, 1, EDGED_NONE, 0); }
/** The hub's version wins. */
EDGED_FN void edged_take_remote(edged_verdict *v) { edged_decide(v, 2, EDGED_NONE, 0); }
/** Both sides become this JSON value. */
EDGED_FN void edged_take_merged(edged_verdict *v, edged_bytes json) { edged_decide(v, 3, json, 0); }
/** Both sides lose the key. */
EDGED_FN void edged_take_none(edged_verdict *v) { edged_decide(v, 4, EDGED_NONE, 0); }
/** A person decides; until then the hub's version is served, or this edge's. */
EDGED_FN void edged_manual(edged_verdict *v, edged_bytes reason, bool serve_local) {
  edged_decide(v, 5, reason, serve_local ? 1 : 0);
}
/** The next resolver of the chain is asked. */
EDGED_FN void edged_refuse(edged_verdict *v, edged_bytes reason, uint16_t code) { edged_decide(v, 6, reason, code); }

/**
 * Which version is later: above 0 `a`, below 0 `b`, 0 neither. By wall time, then
 * the counter, then the device; every edge finds the same. 0 also when the clock
 * of either is unknown: then only the hub's order counts.
 */
EDGED_FN int edged_later(const edged_version *a, const edged_version *b) {
  if (a->clock_unknown || b->clock_unknown) return 0;
  if (a->wall != b->wall) return a->wall > b->wall ? 1 : -1;
  if (a->counter != b->counter) return a->counter > b->counter ? 1 : -1;
  return edged_order(a->device, b->device);
}

EDGED_FN const uint8_t *edged_read_version(edged_version *v, edged_bytes *key, const uint8_t *at) {
  edged_record r;
  edged_read_record(&r, at);
  uint32_t flags = edged_u16(at + 4);
  *key = r.id;
  *v = (edged_version){
    .device = r.device, .type = r.type, .payload = r.payload, .wall = r.timestamp, .counter = r.seq,
    .revision = edged_load64(at + 48), .deleted = (flags & 2) != 0, .clock_raised = (flags & 4) != 0,
    .clock_unknown = (flags & 8) != 0, .left_out = (flags & 16) != 0, .is_object = edged_u16(at + 6) == 1,
  };
  return at + edged_u32(at);
}

/* What edged_resolve does: calls `decide` for every conflict. */
EDGED_FN uint64_t edged_resolved(uint32_t ptr, uint32_t len, void (*decide)(const edged_conflict *, edged_verdict *)) {
  const uint8_t *call = edged_at(ptr);
  if (!edged_is_call(call, len, 2)) return 0;
  uint32_t count = edged_u32(call + 8);
  edged_conflict c = {0};
  edged_verdict out = {0};
  const uint8_t *at = call + EDGED_CALL;
  for (uint32_t i = 0; i < count; i++) {
    const uint8_t *p = at + EDGED_CONFLICT;
    c.has_base = (edged_u32(at + 4) & 1) != 0;
    if (c.has_base) p = edged_read_version(&c.base, &c.key, p);
    edged_read_version(&c.remote, &c.key, edged_read_version(&c.local, &c.key, p));
    out.src = i;
    out.answers = 0;
    decide(&c, &out);
    if (out.answers == 0) edged_refuse(&out, EDGED_NO_ANSWER, 0);
    at += edged_u32(at);
  }
  return edged_result(edged_built(&out.frames));
}

/** Exports edged_resolve: `void decide(const edged_conflict *, edged_verdict *)` decides every conflict. */
#define EDGED_RESOLVE(decide)                                                                        \
  EDGED_EXPORT("edged_resolve") uint64_t edged_resolve(uint32_t ptr, uint32_t len) {                 \
    return edged_resolved(ptr, len, decide);                                                         \
  }

/* ---- merging ------------------------------------------------------------
 *
 * Three-way merge of JSON values: what only one side changed is taken, what both
 * changed alike too, but under the rule sum, where each change counts; what both
 * changed differently is settled by a rule, field by field.
 */

/** What settles a field that both sides changed differently. */
typedef enum edged_rule {
  EDGED_MANUAL, /**< a person does */
  EDGED_LATEST, /**< the later version, by its clock; the hub's when the clocks do not tell */
  EDGED_CLIENT, /**< this edge's */
  EDGED_SERVER, /**< the hub's */
  EDGED_MAX,    /**< the larger number */
  EDGED_MIN,    /**< the smaller number */
  EDGED_SUM,    /**< both changes of a number, added up; equal ones, too, are two */
  EDGED_UNION,  /**< what either side added to an array; what either removed is gone */
  EDGED_KEYED,  /**< the elements of an array are objects, matched by a member of theirs, and merged */
} edged_rule;

/** The names of rules, for messages to people. */
#define EDGED_RULE_NAMES "manual, latest, client, server, max, min, sum, union, keyed by <member>"

/** The rule of the field at a path like `lines.quantity`. Elements of keyed arrays have no name in a path. */
typedef struct edged_field_rule {
  edged_bytes path;
  edged_rule rule;
  /** Of EDGED_KEYED: the member that elements are matched by. */
  edged_bytes key;
} edged_field_rule;

/** Reads a rule as it is written. False: there is none of that name. */
EDGED_FN bool edged_parse_rule(edged_bytes s, edged_field_rule *out) {
  static const char *const names[] = {"manual", "latest", "client", "server", "max", "min", "sum", "union"};
  for (int i = 0; i < 8; i++) {
    if (!edged_is(s, names[i])) continue;
    out->rule = (edged_rule)i;
    return true;
  }
  if (s.len <= 9 || !edged_same_bytes(s.ptr, (const uint8_t *)"keyed by ", 9)) return false;
  out->rule = EDGED_KEYED;
  out->key = (edged_bytes){s.ptr + 9, s.len - 9};
  return true;
}

/** Merges conflicts by rules. */
typedef struct edged_merge {
  const edged_field_rule *rules;
  uint32_t count;
  /** Settles what has no rule of its own; one of EDGED_MANUAL to EDGED_SERVER. */
  edged_rule fallback;
  /** Where both sides changed what no rule settled, in the merge that ran last. */
  edged_list open;
  bool known, local_later;
  bool sums; /* some field is a sum */
} edged_merge;

#define EDGED_MERGE_DEPTH 64 /* below that, a value is taken or left as a whole */

EDGED_FN bool edged_has(const edged_list *all, edged_bytes one) {
  for (uint32_t i = 0; i < all->count; i++)
    if (edged_same(all->items[i], one)) return true;
  return false;
}

EDGED_FN edged_list edged_elements(edged_bytes array) {
  edged_list out = {0};
  edged_members m = edged_members_of(array);
  while (array.ptr != NULL && edged_next(&m)) edged_push(&out, m.value);
  return out;
}

/* What both have, and what either added since the base; what either removed is gone. */
EDGED_FN edged_bytes edged_union(edged_bytes base, edged_bytes local, edged_bytes remote) {
  edged_list l = edged_elements(local), r = edged_elements(remote), b = edged_elements(base), kept = {0};
  for (uint32_t i = 0; i < r.count; i++)
    if (!(edged_has(&b, r.items[i]) && !edged_has(&l, r.items[i])) && !edged_has(&kept, r.items[i]))
      edged_push(&kept, r.items[i]);
  for (uint32_t i = 0; i < l.count; i++)
    if (!edged_has(&b, l.items[i]) && !edged_has(&kept, l.items[i])) edged_push(&kept, l.items[i]);
  return EDGED_JOIN(EDGED_TEXT("["), edged_list_join(&kept, ","), EDGED_TEXT("]"));
}

/* The elements of an array by the member `key` of theirs. False: one has none, or two have the same. */
EDGED_FN bool edged_keyed(edged_bytes array, edged_bytes key, edged_object *out) {
  edged_builder b = {0};
  edged_members m = edged_members_of(array);
  edged_add_byte(&b, '{');
  while (edged_next(&m)) {
    if (edged_kind_of(m.value) != EDGED_OBJECT) return false;
    edged_bytes name = edged_member(m.value, key);
    edged_kind kind = edged_kind_of(name);
    if (kind != EDGED_STRING && kind != EDGED_NUMBER) return false;
    if (b.len > 1) edged_add_byte(&b, ',');
    /* A number and a string with the same text are one key: both name one thing. */
    if (kind == EDGED_NUMBER) name = EDGED_JOIN(EDGED_TEXT("\""), name, EDGED_TEXT("\""));
    edged_add(&b, name);
    edged_add_byte(&b, ':');
    edged_add(&b, m.value);
  }
  edged_add_byte(&b, '}');
  *out = edged_object_of(edged_built(&b));
  for (uint32_t i = 0; i < out->names.count; i++)
    if (edged_object_find(out, out->names.items[i]) != (int32_t)i) return false;
  return true;
}

/* Three values of one field; none stands for a field that is not there. */
typedef struct edged_sides {
  edged_bytes base, local, remote;
} edged_sides;

EDGED_FN edged_bytes edged_merge_value(edged_merge *m, edged_sides s, edged_bytes path, int depth);

/* Whether both sides are the same and nothing in them is left to add up. */
EDGED_FN bool edged_alike(const edged_merge *m, edged_sides s) {
  return edged_same(s.local, s.remote) && (!m->sums || !m->known || edged_same(s.base, s.remote));
}

EDGED_FN edged_bytes edged_below(edged_bytes path, edged_bytes name) {
  return path.len == 0 ? name : EDGED_JOIN(path, EDGED_TEXT("."), name);
}

EDGED_FN edged_bytes edged_merge_objects(edged_merge *m, edged_sides s, edged_bytes path, int depth) {
  edged_object l = edged_object_of(s.local), r = edged_object_of(s.remote);
  edged_object b = edged_object_of(s.base.ptr == NULL ? EDGED_TEXT("{}") : s.base);
  edged_builder out = {0};
  edged_add_byte(&out, '{');
  for (uint32_t i = 0; i < r.names.count + l.names.count; i++) {
    const edged_object *by = i < r.names.count ? &r : &l;
    uint32_t n = i < r.names.count ? i : i - r.names.count;
    edged_bytes name = by->names.items[n];
    if (edged_object_find(by, name) != (int32_t)n) continue; /* a repeated name */
    if (by == &l && edged_object_find(&r, name) >= 0) continue;
    edged_sides field = {edged_object_get(&b, name), edged_object_get(&l, name), edged_object_get(&r, name)};
    /* The name is needed only where there is something to settle. */
    edged_bytes at = edged_alike(m, field) ? path : edged_below(path, name);
    edged_bytes value = edged_merge_value(m, field, at, depth + 1);
    if (value.ptr == NULL) continue;
    if (out.len > 1) edged_add_byte(&out, ',');
    edged_add(&out, by->quoted.items[n]);
    edged_add_byte(&out, ':');
    edged_add(&out, value);
  }
  edged_add_byte(&out, '}');
  return edged_built(&out);
}

EDGED_FN edged_bytes edged_merge_element(edged_merge *m, edged_sides s, edged_bytes path, edged_bytes key, int depth) {
  bool objects = edged_kind_of(s.local) == EDGED_OBJECT && edged_kind_of(s.remote) == EDGED_OBJECT;
  if (!objects || edged_alike(m, s)) return edged_merge_value(m, s, edged_below(path, key), depth + 1);
  if (edged_kind_of(s.base) != EDGED_OBJECT) s.base = EDGED_NONE;
  return edged_merge_objects(m, s, path, depth + 1);
}

/* None: an element has no key, or two have the same. */
EDGED_FN edged_bytes edged_merge_elements(edged_merge *m, edged_sides s, edged_bytes key, edged_bytes path, int depth) {
  edged_object l, r, b;
  bool based = s.base.ptr != NULL && edged_keyed(s.base, key, &b);
  if (!edged_keyed(s.local, key, &l) || !edged_keyed(s.remote, key, &r)) return EDGED_NONE;
  edged_builder out = {0};
  edged_add_byte(&out, '[');
  for (uint32_t i = 0; i < r.names.count + l.names.count; i++) {
    bool there = i < r.names.count;
    edged_bytes name = there ? r.names.items[i] : l.names.items[i - r.names.count];
    if (!there && edged_object_find(&r, name) >= 0) continue;
    edged_sides element = {
      based ? edged_object_get(&b, name) : EDGED_NONE, edged_object_get(&l, name), edged_object_get(&r, name),
    };
    edged_bytes value = edged_merge_element(m, element, path, name, depth);
    if (value.ptr == NULL) continue;
    if (out.len > 1) edged_add_byte(&out, ',');
    edged_add(&out, value);
  }
  edged_add_byte(&out, ']');
  return edged_built(&out);
}

/* Settles a field by its rule. False: the rule does not apply. */
EDGED_FN bool edged_settle(edged_merge *m, const edged_field_rule *rule, edged_sides s, edged_bytes path, int depth,
                           edged_bytes *out) {
  bool both = s.local.ptr != NULL && s.remote.ptr != NULL;
  bool arrays = edged_kind_of(s.local) == EDGED_ARRAY && edged_kind_of(s.remote) == EDGED_ARRAY;
  edged_bytes base = edged_kind_of(s.base) == EDGED_ARRAY ? s.base : EDGED_NONE;
  int order;
  switch (rule->rule) {
    case EDGED_LATEST: *out = m->local_later ? s.local : s.remote; return true;
    case EDGED_CLIENT: *out = s.local; return true;
    case EDGED_SERVER: *out = s.remote; return true;
    case EDGED_MAX:
    case EDGED_MIN:
      if (!both || (order = edged_compare_numbers(s.local, s.remote)) == 2) return false;
      *out = (rule->rule == EDGED_MAX ? order > 0 : order < 0) ? s.local : s.remote;
      return true;
    case EDGED_SUM:
      if (!both || !m->known) return false;
      *out = edged_add_delta(s.remote, s.local, s.base.ptr == NULL ? EDGED_TEXT("0") : s.base);
      return out->ptr != NULL;
    case EDGED_UNION:
      if (arrays) *out = edged_union(base, s.local, s.remote);
      return arrays;
    case EDGED_KEYED:
      if (!arrays || depth >= EDGED_MERGE_DEPTH) return false;
      *out = edged_merge_elements(m, (edged_sides){base, s.local, s.remote}, rule->key, path, depth);
      return out->ptr != NULL;
    default: return false;
  }
}

EDGED_FN edged_bytes edged_merge_value(edged_merge *m, edged_sides s, edged_bytes path, int depth) {
  if (edged_alike(m, s)) return s.remote;
  if (m->known) {
    if (edged_same(s.base, s.remote)) return s.local;
    if (edged_same(s.base, s.local)) return s.remote;
  } else {
    /* What one side lacks may be new on the other: it is never a delete. */
    if (s.local.ptr == NULL) return s.remote;
    if (s.remote.ptr == NULL) return s.local;
  }
  edged_field_rule fallback = {.rule = m->fallback};
  const edged_field_rule *rule = NULL;
  for (uint32_t i = 0; i < m->count; i++)
    if (edged_equal(m->rules[i].path, path)) rule = &m->rules[i];
  bool objects = edged_kind_of(s.local) == EDGED_OBJECT && edged_kind_of(s.remote) == EDGED_OBJECT;
  if (rule == NULL && objects && depth < EDGED_MERGE_DEPTH) {
    if (edged_kind_of(s.base) != EDGED_OBJECT) s.base = EDGED_NONE;
    return edged_merge_objects(m, s, path, depth);
  }
  if (rule == NULL) rule = &fallback;
  bool equal = m->sums && edged_same(s.local, s.remote);
  bool twice = equal && rule->rule == EDGED_SUM && edged_kind_of(s.remote) == EDGED_NUMBER &&
               (s.base.ptr == NULL || edged_kind_of(s.base) == EDGED_NUMBER);
  edged_bytes out;
  if ((!equal || twice || rule->rule == EDGED_KEYED) && edged_settle(m, rule, s, path, depth, &out)) return out;
  if (equal && !twice) return s.remote;
  edged_push(&m->open, path.len > 0 ? path : EDGED_TEXT("the whole value"));
  return s.remote;
}

/**
 * Merges the payloads of a conflict, of which neither is deleted. None: they
 * cannot be merged without a person; `open` says where.
 */
EDGED_FN edged_bytes edged_merge_run(edged_merge *m, const edged_conflict *c) {
  m->open = (edged_list){0};
  m->known = c->has_base;
  m->local_later = edged_later(&c->local, &c->remote) > 0;
  m->sums = false;
  for (uint32_t i = 0; i < m->count; i++) m->sums = m->sums || m->rules[i].rule == EDGED_SUM;
  edged_sides s = {c->has_base && !c->base.deleted ? c->base.payload : EDGED_NONE, c->local.payload, c->remote.payload};
  edged_bytes merged = edged_merge_value(m, s, EDGED_TEXT(""), 0);
  if (m->open.count > 0) return EDGED_NONE;
  return m->sums && edged_same(merged, s.remote) ? s.remote : merged; /* as it is written there */
}

/* ---- what needs a grant ------------------------------------------------- */

/* A place of the ABI for bytes that may lie outside the arena natively. */
EDGED_FN uint32_t edged_place(edged_bytes b) { return (uint32_t)(edged_result(b) >> 32); }

/** How much a line of the log matters. */
typedef enum edged_level { EDGED_DEBUG, EDGED_INFO, EDGED_WARN, EDGED_FAILURE } edged_level;

/** `allow = ["log"]`. Whether a line of that level would be kept. Ask before building a long one. */
EDGED_FN bool edged_log_enabled(edged_level level) { return edged_host_log_enabled((int32_t)level) != 0; }

/** `allow = ["log"]`. Writes a line. The host keeps the first 2 KiB of it and 32 lines a call. */
EDGED_FN void edged_log(edged_level level, edged_bytes line) {
  edged_host_log((int32_t)level, edged_place(line), line.len);
}

/** `allow = ["clock"]`. The time of the call; a record has it, too, without a grant. */
EDGED_FN int64_t edged_now(void) { return edged_host_now_ns(); }

/* What hands data back writes it if there is room, and returns its length either way. */
EDGED_FN edged_bytes edged_fetch(edged_bytes key, int32_t (*get)(uint32_t, uint32_t, uint32_t, uint32_t)) {
  uint32_t place = edged_place(key), room = 256; /* most values fit, and need one call */
  uint8_t *out = edged_make(room);
  int32_t len = get(place, key.len, edged_address(out), room);
  if (len > (int32_t)room) {
    out = edged_make((uint32_t)len);
    len = get(place, key.len, edged_address(out), (uint32_t)len);
  }
  return len < 0 ? EDGED_NONE : (edged_bytes){out, (uint32_t)len};
}

/** `allow = ["config"]`. A value of the device configuration (`edged config set`). None: there is none. */
EDGED_FN edged_bytes edged_device_config(edged_bytes key) { return edged_fetch(key, edged_host_config_get); }

/** `allow = ["kv"]`. The value of a key of this plugin in this pipeline. None: there is none. */
EDGED_FN edged_bytes edged_kv_get(edged_bytes key) { return edged_fetch(key, edged_host_kv_get); }

/**
 * `allow = ["kv"]`. Keeps a value, for `ttl` seconds or, with 0, for good. It
 * becomes durable with the records of the call. False: the key is empty or too
 * long, or the quota is used up.
 */
EDGED_FN bool edged_kv_put(edged_bytes key, edged_bytes value, int32_t ttl) {
  return edged_host_kv_put(edged_place(key), key.len, edged_place(value), value.len, ttl) == 0;
}

/** `allow = ["kv"]`. Removes a key. */
EDGED_FN void edged_kv_del(edged_bytes key) { edged_host_kv_del(edged_place(key), key.len); }

/** `allow = ["metric"]`. Adds to a counter of this plugin, which `edged status` shows. */
EDGED_FN void edged_count(edged_bytes name, double delta) { edged_host_metric_add(edged_place(name), name.len, delta); }

#endif
