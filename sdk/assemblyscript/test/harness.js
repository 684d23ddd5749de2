// Runs a built plugin natively in node: writes calls, reads answers. Use it in
// the unit tests of your own plugin; README.md shows how.

import { readFileSync } from "node:fs";

const HEADER = 32, RECORD = 64, OUT = 40, CONFLICT = 16, VERDICT = 24;
const ACTIONS = ["", "emit", "pass", "drop", "error", "route"];
const VERDICTS = ["", "local", "remote", "merged", "delete", "manual", "error"];
const encoder = new TextEncoder(), decoder = new TextDecoder("utf-8", { fatal: true });
const pad = (n) => (n + 7) & ~7;

/** A plugin, started and configured. Imports of edged_v1 are granted and recorded. */
export class Plugin {
  constructor(path, config) {
    this.logs = [];
    this.now = 0n;
    this.kv = new Map(); // key -> {value: text, until: ns, 0n for good}
    this.device = new Map(); // the device configuration: key -> text
    this.metrics = new Map();
    const give = (value, buf, cap) => {
      if (value === undefined) return -1;
      const b = encoder.encode(value);
      if (b.length <= cap) this.bytes(buf, b.length).set(b);
      return b.length;
    };
    const host = {
      log: (level, ptr, len) => this.logs.push({ level, text: this.text(ptr, len) }),
      log_enabled: () => 1,
      now_ns: () => this.now,
      config_get: (key, keyLen, buf, cap) => give(this.device.get(this.text(key, keyLen)), buf, cap),
      kv_get: (key, keyLen, buf, cap) => {
        const entry = this.kv.get(this.text(key, keyLen));
        return give(entry && (entry.until === 0n || this.now < entry.until) ? entry.value : undefined, buf, cap);
      },
      kv_put: (key, keyLen, ptr, len, ttl) => {
        this.kv.set(this.text(key, keyLen), { value: this.text(ptr, len), until: ttl > 0 ? this.now + BigInt(ttl) * 1_000_000_000n : 0n });
        return 0;
      },
      kv_del: (key, keyLen) => (this.kv.delete(this.text(key, keyLen)) ? 0 : -1),
      metric_add: (name, len, delta) => {
        const key = this.text(name, len);
        this.metrics.set(key, (this.metrics.get(key) ?? 0) + delta);
        return 0;
      },
    };
    this.exports = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(path)), { edged_v1: host }).exports;
    if (!this.exports.edged_abi_v1) throw new Error(`${path} does not export edged_abi_v1`);
    if (this.exports.edged_configure) {
      const error = this.string(this.exports.edged_configure, encoder.encode(JSON.stringify(config ?? {})));
      if (error !== null) throw new Error(error);
    }
  }

  bytes(ptr, len) { return new Uint8Array(this.exports.memory.buffer, ptr >>> 0, len >>> 0); }
  text(ptr, len) { return decoder.decode(this.bytes(ptr, len)); }

  /** Calls a function (ptr, len) -> ptr<<32|len; returns a copy of what it returned, null for 0. */
  call(f, input) {
    const ptr = this.exports.edged_alloc(input.length);
    if (ptr === 0) throw new Error(`edged_alloc refused ${input.length} bytes`);
    if (ptr % 8 !== 0) throw new Error(`edged_alloc returned ${ptr}, which is not a multiple of 8`);
    this.bytes(ptr, input.length).set(input);
    const result = BigInt.asUintN(64, f(ptr, input.length));
    return result === 0n ? null : this.bytes(Number(result >> 32n), Number(result & 0xffffffffn)).slice();
  }

  string(f, input) {
    const out = this.call(f, input);
    return out === null ? null : decoder.decode(out);
  }

  /** Transforms records {id, device, type, timestamp (ns), payload (text or value)}; returns the frames of the answer. */
  transform(records, now = 0n) {
    this.now = now;
    const out = this.call(this.exports.edged_transform, encodeCall(records, now));
    if (out === null) throw new Error("edged_transform gave up on the call");
    return decodeFrames(out);
  }

  /**
   * Resolves conflicts {key, base, local, remote}, each version {device, type, wall (ns), counter, revision, clock
   * ("synced", "floor", "unknown"), deleted, payload (text or value)}; returns the verdicts.
   */
  resolve(conflicts) {
    this.now = 0n;
    const out = this.call(this.exports.edged_resolve, encodeConflicts(conflicts));
    if (out === null) throw new Error("edged_resolve gave up on the call");
    return decodeVerdicts(out);
  }
}

function join(chunks, op, count, now) {
  const size = chunks.reduce((n, c) => n + c.length, HEADER), call = new Uint8Array(size), view = new DataView(call.buffer);
  call.set(encoder.encode("EDG1"));
  view.setUint16(4, 1, true);
  view.setUint16(6, op, true);
  view.setUint32(8, count, true);
  view.setUint32(12, size, true);
  view.setBigInt64(16, now, true);
  let at = HEADER;
  for (const c of chunks) {
    call.set(c, at);
    at += c.length;
  }
  return call;
}

const text = (payload) => (typeof payload === "string" ? payload : JSON.stringify(payload));

/** A record frame with these parts: id, device, type, payload. */
function frame(parts, fill) {
  const bytes = parts.map((s) => encoder.encode(s)), size = pad(bytes.reduce((n, p) => n + p.length, RECORD));
  const out = new Uint8Array(size), view = new DataView(out.buffer);
  view.setUint32(0, size, true);
  bytes.slice(0, 3).forEach((p, n) => view.setUint16(8 + 2 * n, p.length, true));
  view.setUint32(20, bytes[3].length, true);
  fill(view);
  let at = RECORD;
  for (const p of bytes) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

export function encodeConflicts(conflicts) {
  const chunks = conflicts.map(({ key = "key", base, local, remote }) => {
    const versions = (base ? [base, local, remote] : [local, remote]).map((v) => {
      const payload = v.deleted ? "" : text(v.payload);
      return frame([key, v.device ?? "device", v.type ?? "type", payload], (view) => {
        view.setUint16(4, (v.deleted ? 2 : 0) | (v.clock === "floor" ? 4 : 0) | (v.clock === "unknown" ? 8 : 0), true);
        view.setUint16(6, v.deleted || payload.trimStart().startsWith("{") ? 1 : 2, true);
        view.setBigInt64(24, v.wall ?? 0n, true);
        view.setBigUint64(40, BigInt(v.counter ?? 0), true);
        view.setBigUint64(48, BigInt(v.revision ?? 0), true);
      });
    });
    const head = new Uint8Array(CONFLICT), view = new DataView(head.buffer);
    view.setUint32(0, versions.reduce((n, v) => n + v.length, CONFLICT), true);
    view.setUint32(4, base ? 1 : 0, true);
    return [head, ...versions];
  });
  return join(chunks.flat(), 2, conflicts.length, 0n);
}

export function decodeVerdicts(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length), verdicts = [];
  for (let at = 0; at < data.length; ) {
    const size = view.getUint32(at, true), length = view.getUint32(at + 12, true);
    if (size < VERDICT + length || size % 8 !== 0 || at + size > data.length) throw new Error(`a verdict of ${size} bytes at ${at}`);
    const verdict = { src: view.getUint32(at + 4, true), action: VERDICTS[view.getUint16(at + 8, true)] };
    const code = view.getUint16(at + 10, true), payload = decoder.decode(data.subarray(at + VERDICT, at + VERDICT + length));
    if (code) verdict.code = code;
    if (verdict.action === "merged") verdict.payload = payload;
    else if (payload) verdict.reason = payload;
    verdicts.push(verdict);
    at += size;
  }
  return verdicts;
}

export function encodeCall(records, now) {
  const chunks = records.map((r, i) =>
    frame([r.id ?? `r${i}`, r.device ?? "device", r.type ?? "type", text(r.payload)], (view) => {
      view.setUint16(4, r.saturated ? 1 : 0, true);
      view.setUint16(6, 1, true);
      view.setBigInt64(24, r.timestamp ?? 0n, true);
    }));
  return join(chunks, 1, records.length, now);
}

export function decodeFrames(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length), frames = [];
  for (let at = 0; at < data.length; ) {
    const size = view.getUint32(at, true), changed = view.getUint32(at + 12, true);
    if (size < OUT || size % 8 !== 0 || at + size > data.length) throw new Error(`a frame of ${size} bytes at ${at}`);
    const frame = { src: view.getUint32(at + 4, true), action: ACTIONS[view.getUint16(at + 8, true)] };
    const code = view.getUint16(at + 10, true);
    if (code) frame.code = code;
    let p = at + OUT;
    const lengths = [16, 18, 20].map((o) => view.getUint16(at + o, true));
    lengths.push(view.getUint32(at + 24, true), view.getUint32(at + 28, true));
    const parts = lengths.map((n) => decoder.decode(data.subarray(p, (p += n))));
    if (p > at + size) throw new Error(`the parts of the frame at ${at} do not fit`);
    if (changed & 1) frame.id = parts[0];
    if (changed & 2) frame.device = parts[1];
    if (changed & 4) frame.type = parts[2];
    if (changed & 8) frame.timestamp = view.getBigInt64(at + 32, true);
    if (changed & 32) frame.payload = parts[4];
    else if (parts[4]) frame.reason = parts[4];
    frames.push(frame);
    at += size;
  }
  return frames;
}
