//! An allocator, and panics that tell the host.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;
use core::cell::UnsafeCell;
use core::fmt::Write;
use core::ptr;

/// Blocks of powers of two, each size with a list of its free ones. Memory is not
/// given back: it is there for the next call.
struct Blocks(UnsafeCell<State>);

struct State {
    free: [*mut u8; 32],
    /// Memory between them is not used yet. 0: not begun.
    top: usize,
    end: usize,
}

// A module has one thread.
unsafe impl Sync for Blocks {}

#[global_allocator]
static BLOCKS: Blocks = Blocks(UnsafeCell::new(State { free: [ptr::null_mut(); 32], top: 0, end: 0 }));

extern "C" {
    static __heap_base: u8;
}

const PAGE: usize = 1 << 16;
const LEAST: usize = 16;

/// The size of the block that such a thing gets, as a power of two.
fn class(layout: &Layout) -> Option<u32> {
    let size = layout.size().max(LEAST).checked_next_power_of_two()?;
    Some(size.trailing_zeros())
}

impl State {
    /// Takes memory that was not used yet; null: there is none.
    fn take(&mut self, size: usize, align: usize) -> *mut u8 {
        if self.top == 0 {
            self.top = unsafe { ptr::addr_of!(__heap_base) } as usize;
            self.end = wasm32::memory_size(0) * PAGE;
        }
        let at = (self.top + align - 1) & !(align - 1);
        let after = match at.checked_add(size) {
            Some(after) => after,
            None => return ptr::null_mut(),
        };
        if after > self.end && !self.grow(after - self.end) {
            return ptr::null_mut();
        }
        self.top = after;
        at as *mut u8
    }

    fn grow(&mut self, more: usize) -> bool {
        let need = (more + PAGE - 1) / PAGE;
        let half = wasm32::memory_size(0) / 2;
        if (half > need && wasm32::memory_grow(0, half) != usize::MAX) || wasm32::memory_grow(0, need) != usize::MAX {
            self.end = wasm32::memory_size(0) * PAGE;
            return true;
        }
        false
    }
}

unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let state = &mut *self.0.get();
        let class = match class(&layout) {
            Some(class) => class,
            None => return ptr::null_mut(),
        };
        let free = state.free[class as usize];
        // Blocks lie at multiples of 16: what wants more gets a new one.
        if free.is_null() || layout.align() > LEAST {
            return state.take(1 << class, layout.align().max(LEAST));
        }
        state.free[class as usize] = *(free as *mut *mut u8);
        free
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(class) = class(&layout) {
            let list = &mut (*self.0.get()).free[class as usize];
            *(block as *mut *mut u8) = *list;
            *list = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let wanted = Layout::from_size_align_unchecked(size, layout.align());
        if class(&layout) == class(&wanted) {
            return block;
        }
        let moved = self.alloc(wanted);
        if !moved.is_null() {
            ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
            self.dealloc(block, layout);
        }
        moved
    }
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn fd_write(fd: i32, vectors: *const Piece, count: i32, written: *mut u32) -> i32;
}

#[repr(C)]
struct Piece {
    at: *const u8,
    len: usize,
}

/// A text of bounded length: allocating may be what failed.
struct Message {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Message {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = s.len().min(room.len());
        room[..len].copy_from_slice(&s.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Standard error goes into the reason of the trap.
fn report(info: &dyn core::fmt::Display) -> ! {
    let mut message = Message { bytes: [0; 512], len: 0 };
    let _ = write!(message, "{}", info);
    let (piece, mut written) = (Piece { at: message.bytes.as_ptr(), len: message.len }, 0);
    unsafe { fd_write(2, &piece, 1, &mut written) };
    wasm32::unreachable()
}

#[cfg(not(feature = "std"))]
#[panic_handler]
fn panicked(info: &core::panic::PanicInfo) -> ! {
    report(info)
}

/// Has panics tell the host. Called once, before the plugin's own code.
pub fn tell_panics() {
    #[cfg(feature = "std")]
    std::panic::set_hook(std::boxed::Box::new(|info| report(info)));
}
