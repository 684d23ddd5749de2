// What a plugin may keep and count, and what it may ask of the device. Each
// needs a grant in the pipeline file: `allow = ["kv"]`, `["config"]`, `["metric"]`.
// A module has only the imports of the functions that it uses.

import { Bytes } from "./bytes";

// @ts-ignore: decorator
@external("edged_v1", "kv_get") declare function hostGet(key: usize, keyLen: i32, buf: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("edged_v1", "kv_put") declare function hostPut(key: usize, keyLen: i32, ptr: usize, len: i32, ttl: i32): i32;
// @ts-ignore: decorator
@external("edged_v1", "kv_del") declare function hostDel(key: usize, keyLen: i32): i32;
// @ts-ignore: decorator
@external("edged_v1", "config_get") declare function hostConfig(key: usize, keyLen: i32, buf: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("edged_v1", "metric_add") declare function hostMetric(name: usize, nameLen: i32, delta: f64): i32;

const ROOM = 256; // most values fit, and need one call

/** The value of a key of this plugin in this pipeline. Null: there is none. */
export function kvGet(key: Bytes): Bytes | null {
  let out = heap.alloc(ROOM);
  let len = hostGet(key.ptr, key.len, out, ROOM);
  if (len > ROOM) {
    out = heap.alloc(len);
    len = hostGet(key.ptr, key.len, out, len);
  }
  return len < 0 ? null : new Bytes(out, len);
}

/**
 * Keeps a value, for `ttl` seconds or, with 0, for good. It becomes durable with
 * the records of the call. False: the key is empty or too long, or the quota is
 * used up.
 */
export function kvPut(key: Bytes, value: Bytes, ttl: i32 = 0): bool {
  return hostPut(key.ptr, key.len, value.ptr, value.len, ttl) == 0;
}

/** Removes a key. */
export function kvDel(key: Bytes): void { hostDel(key.ptr, key.len); }

/** A value of the device configuration (`edged config set`). Null: there is none. */
export function deviceConfig(key: string): string | null {
  const name = Bytes.of(key);
  let out = heap.alloc(ROOM);
  let len = hostConfig(name.ptr, name.len, out, ROOM);
  if (len > ROOM) {
    out = heap.alloc(len);
    len = hostConfig(name.ptr, name.len, out, len);
  }
  return len < 0 ? null : new Bytes(out, len).toString();
}

/** Adds to a counter of this plugin, which `edged status` shows. */
export function count(name: string, delta: f64 = 1): void {
  const b = Bytes.of(name);
  hostMetric(b.ptr, b.len, delta);
}
