// What plugins that remember have in common: whose records belong together.

import { Builder, Bytes, Record } from "../sdk/assemblyscript/assembly";

const LONGEST = 255; // a key of the host's

/** The key of a record's device and type. */
export function series(record: Record): Bytes {
  const device = record.device, type = record.type;
  const key = new Builder(device.len + type.len + 1).add(device).byte(0).add(type).bytes();
  if (key.len <= LONGEST) return key;
  // Long names that begin alike differ in their hash and their ends.
  return new Builder(LONGEST).add(Bytes.of(fnv64(key).toString(16) + ":")).add(new Bytes(key.end - 200, 200)).bytes();
}

/** FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
export function fnv64(b: Bytes): u64 {
  let h: u64 = 0xcbf29ce484222325;
  for (let p = b.ptr; p < b.end; p++) h = (h ^ load<u8>(p)) * 0x100000001b3;
  return h;
}
