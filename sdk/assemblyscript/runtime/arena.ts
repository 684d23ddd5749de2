// The runtime of edged plugins: a bump allocator with a mark.
//
// A plugin lives for millions of calls in a few pages of memory. What a call
// allocates dies with it: the next call of edged_alloc moves the top back to
// the mark. What was allocated at start and while the configuration was read
// stays below the mark for good. There is nothing to collect, so allocation costs a few
// instructions.
//
// Give it to the compiler with `--runtime <path>/runtime/arena`.

// Layout of what the compiler expects before an object: its class id in the
// eight bytes before it, its size in the last four. We keep the room there is
// in the four bytes before that.
// @ts-ignore: decorator
@inline const HEADER: usize = 16;

// @ts-ignore: decorator
@lazy let top: usize = (__heap_base + 15) & ~15;
// @ts-ignore: decorator
@lazy let mark: usize = 0; // not set yet

/** Makes the memory below `end` usable. False: the host's limit is reached. */
function reserve(end: usize): bool {
  const have = <usize>memory.size() << 16;
  if (end <= have) return true;
  const need = <i32>((end - have + 0xffff) >>> 16);
  if (memory.grow(max(need, memory.size() >> 1)) >= 0) return true;
  return memory.grow(need) >= 0;
}

/** Allocates without clearing; 0 when memory is full. */
// @ts-ignore: decorator
@inline function bump(size: usize): usize {
  const ptr = top + HEADER;
  const room = max((size + 15) & ~15, 16);
  const end = ptr + room;
  // A size near 4 GiB wraps around; it cannot be served either way.
  if (end < ptr || !reserve(end)) return 0;
  top = end;
  store<u32>(ptr - 12, <u32>room);
  return ptr;
}

// @ts-ignore: decorator
@inline function clear(ptr: usize, size: usize): void {
  if (size > 64) {
    memory.fill(ptr, 0, size);
    return;
  }
  // Room is a multiple of 16, and small objects are the most.
  store<u64>(ptr, 0);
  store<u64>(ptr, 0, 8);
  for (let end = ptr + size, p = ptr + 16; p < end; p += 16) {
    store<u64>(p, 0);
    store<u64>(p, 0, 8);
  }
}

/**
 * Ends everything that was allocated since the mark. The first time it sets the
 * mark: what the module's own start allocated stays.
 */
// @ts-ignore: decorator
@unsafe @global function __edged_reset(): void {
  if (!mark) mark = top;
  top = mark;
}

/** Keeps everything that is allocated now. */
// @ts-ignore: decorator
@unsafe @global function __edged_keep(): void { mark = top; }

/** Allocates bytes that nobody clears; 0 when memory is full. */
// @ts-ignore: decorator
@unsafe @global function __edged_try(size: usize): usize { return bump(size); }

// @ts-ignore: decorator
@unsafe @global function __alloc(size: usize): usize {
  const ptr = bump(size);
  if (!ptr) unreachable();
  return ptr;
}

// @ts-ignore: decorator
@unsafe @global function __realloc(ptr: usize, size: usize): usize {
  const room = <usize>load<u32>(ptr - 12);
  if (size <= room) return ptr;
  const want = (size + 15) & ~15;
  if (ptr + room == top && ptr + want > ptr && reserve(ptr + want)) {
    top = ptr + want;
    store<u32>(ptr - 12, <u32>want);
    return ptr;
  }
  const to = __alloc(max(want, room << 1));
  memory.copy(to, ptr, room);
  return to;
}

// @ts-ignore: decorator
@unsafe @global function __free(ptr: usize): void {}

// @ts-ignore: decorator
@unsafe @global function __new(size: usize, id: u32): usize {
  const ptr = __alloc(size);
  store<u32>(ptr - 8, id);
  store<u32>(ptr - 4, <u32>size);
  clear(ptr, size);
  return ptr;
}

// @ts-ignore: decorator
@unsafe @global function __renew(old: usize, size: usize): usize {
  const had = <usize>load<u32>(old - 4);
  const id = load<u32>(old - 8);
  const ptr = __realloc(old, size);
  store<u32>(ptr - 8, id);
  store<u32>(ptr - 4, <u32>size);
  if (size > had) memory.fill(ptr + had, 0, size - had);
  return ptr;
}

// @ts-ignore: decorator
@unsafe @global function __link(parent: usize, child: usize, many: bool): void {}

// @ts-ignore: decorator
@unsafe @global function __pin(ptr: usize): usize { return ptr; }

// @ts-ignore: decorator
@unsafe @global function __unpin(ptr: usize): void {}

// @ts-ignore: decorator
@unsafe @global function __visit(ptr: usize, cookie: u32): void {}

// @ts-ignore: decorator
@unsafe @global function __collect(): void {}
