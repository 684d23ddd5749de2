//! The module's side of the ABI.

use crate::{Config, Plugin, Resolve, Transform};
use alloc::vec::Vec;
use core::cell::UnsafeCell;

/// A plugin in its module, with the buffers that the host is told the addresses of.
pub struct Instance<P>(UnsafeCell<State<P>>);

struct State<P> {
    plugin: Option<P>,
    /// Words, so that it lies at a multiple of 8.
    inbox: Vec<u64>,
    outbox: Vec<u8>,
}

// A module has one thread, and the host never calls from within a call.
unsafe impl<P> Sync for Instance<P> {}

impl<P> Instance<P> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Instance(UnsafeCell::new(State { plugin: None, inbox: Vec::new(), outbox: Vec::new() }))
    }

    #[allow(clippy::mut_from_ref)]
    fn state(&self) -> &mut State<P> {
        unsafe { &mut *self.0.get() }
    }

    pub fn alloc(&self, size: u32) -> u32 {
        let state = self.state();
        let words = (size as usize + 7) / 8;
        if words > state.inbox.len() || state.inbox.is_empty() {
            // The old one goes first: a call that is nearly as large as memory fits.
            state.inbox = Vec::new();
            let mut inbox = Vec::new();
            if inbox.try_reserve_exact(words.max(512)).is_err() {
                return 0;
            }
            inbox.resize(words.max(512), 0);
            state.inbox = inbox;
        }
        state.inbox.as_ptr() as u32
    }
}

impl<P: Plugin> Instance<P> {
    pub fn configure(&self, ptr: u32, size: u32) -> u64 {
        crate::runtime::tell_panics();
        let state = self.state();
        match Config::read(inbox(&state.inbox, ptr, size), P::configure) {
            Ok(plugin) => {
                state.plugin = Some(plugin);
                0
            }
            Err(wrong) => {
                state.outbox = wrong.into_bytes();
                result(&state.outbox)
            }
        }
    }
}

impl<P: Transform> Instance<P> {
    pub fn transform(&self, ptr: u32, size: u32) -> u64 {
        let State { plugin, inbox: words, outbox } = self.state();
        let plugin = made(plugin);
        match crate::transform::run(inbox(words, ptr, size), outbox, |record, out| plugin.transform(record, out)) {
            true => result(outbox),
            false => 0,
        }
    }
}

impl<P: Resolve> Instance<P> {
    pub fn resolve(&self, ptr: u32, size: u32) -> u64 {
        let State { plugin, inbox: words, outbox } = self.state();
        let plugin = made(plugin);
        match crate::resolve::run(inbox(words, ptr, size), outbox, |conflict, verdict| plugin.resolve(conflict, verdict)) {
            true => result(outbox),
            false => 0,
        }
    }
}

/// The plugin; the host configures before all else.
fn made<P: Plugin>(plugin: &mut Option<P>) -> &mut P {
    if plugin.is_none() {
        *plugin = Config::read(b"{}", P::configure).ok();
    }
    match plugin {
        Some(plugin) => plugin,
        None => panic!("the plugin is not configured"),
    }
}

/// The bytes that the host wrote; none if they are not where it was told.
fn inbox(words: &[u64], ptr: u32, size: u32) -> &[u8] {
    if ptr != words.as_ptr() as u32 || size as usize > 8 * words.len() {
        return &[];
    }
    unsafe { core::slice::from_raw_parts(words.as_ptr() as *const u8, size as usize) }
}

fn result(bytes: &[u8]) -> u64 {
    (bytes.as_ptr() as u64) << 32 | bytes.len() as u64
}
