// The host's log. A plugin that uses it needs `allow = ["log"]`; one that does
// not import this file does not.

import { Bytes } from "./bytes";

// @ts-ignore: decorator
@external("edged_v1", "log") declare function hostLog(level: i32, ptr: usize, len: usize): void;
// @ts-ignore: decorator
@external("edged_v1", "log_enabled") declare function hostLogEnabled(level: i32): i32;

/** How much a line matters. */
export enum Level { Debug, Info, Warn, Error }

/** Whether a line of that level would be kept. Ask before building a long one. */
export function enabled(level: Level): bool { return hostLogEnabled(level) != 0; }

/** Writes a line. The host keeps the first 2 KiB of it and 32 lines a call. */
export function log(level: Level, message: string): void {
  const b = Bytes.of(message);
  hostLog(level, b.ptr, b.len);
}
