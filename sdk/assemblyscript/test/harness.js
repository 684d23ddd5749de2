// Runs a built plugin natively in node: writes calls, reads answers. Use it in
// the unit tests of your own plugin; README.md shows how.

import { readFileSync } from "node:fs";

const HEADER = 32, RECORD = 64, OUT = 40;
const ACTIONS = ["", "emit", "pass", "drop", "error", "route"];
const encoder = new TextEncoder(), decoder = new TextDecoder("utf-8", { fatal: true });
const pad = (n) => (n + 7) & ~7;

/** A plugin, started and configured. Imports of edged_v1 are granted and recorded. */
export class Plugin {
  constructor(path, config) {
    this.logs = [];
    this.now = 0n;
    const host = {
      log: (level, ptr, len) => this.logs.push({ level, text: this.text(ptr, len) }),
      log_enabled: () => 1,
      now_ns: () => this.now,
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
}

export function encodeCall(records, now) {
  const frames = records.map((r, i) => {
    const payload = typeof r.payload === "string" ? r.payload : JSON.stringify(r.payload);
    const parts = [r.id ?? `r${i}`, r.device ?? "device", r.type ?? "type", payload].map((s) => encoder.encode(s));
    const size = pad(RECORD + parts.reduce((n, p) => n + p.length, 0));
    const frame = new Uint8Array(size), view = new DataView(frame.buffer);
    view.setUint32(0, size, true);
    view.setUint16(4, r.saturated ? 1 : 0, true);
    view.setUint16(6, 1, true);
    parts.slice(0, 3).forEach((p, n) => view.setUint16(8 + 2 * n, p.length, true));
    view.setUint32(20, parts[3].length, true);
    view.setBigInt64(24, r.timestamp ?? 0n, true);
    let at = RECORD;
    for (const p of parts) {
      frame.set(p, at);
      at += p.length;
    }
    return frame;
  });
  const size = HEADER + frames.reduce((n, f) => n + f.length, 0);
  const call = new Uint8Array(size), view = new DataView(call.buffer);
  call.set(encoder.encode("EDG1"));
  view.setUint16(4, 1, true);
  view.setUint16(6, 1, true);
  view.setUint32(8, records.length, true);
  view.setUint32(12, size, true);
  view.setBigInt64(16, now, true);
  let at = HEADER;
  for (const f of frames) {
    call.set(f, at);
    at += f.length;
  }
  return call;
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
