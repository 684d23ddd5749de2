//! The SDK for edged plugins in Rust: WebAssembly modules that transform the
//! records of edged, or resolve conflicts between an edge and its hub. README.md
//! is the guide; sdk/abi.md is the contract beneath it.
//!
//! A plugin is a `cdylib` with a type of its own that implements [`Plugin`] and
//! [`Transform`] or [`Resolve`], and [`plugin!`] makes the exports. Natively the
//! same type is tested with [`harness`].
//!
//! The crate has no dependencies. On wasm32 it brings an allocator, and a panic
//! shows its message in the fault of the record. Without the feature `std` plugins
//! may be `no_std` (from Rust 1.68 on).
//!
//! JSON is read and changed without a tree: [`json::get`], [`json::set`],
//! [`json::delete`] and [`json::Lookup`] work on the bytes of a value as it stands.

#![cfg_attr(all(target_arch = "wasm32", not(feature = "std")), no_std)]
#![warn(missing_docs)]

#[doc(hidden)]
pub extern crate alloc;

pub mod config;
pub mod decimal;
mod frames;
pub mod host;
pub mod json;
pub mod merge;
pub mod number;
pub mod resolve;
pub mod text;
pub mod transform;

#[cfg(not(target_arch = "wasm32"))]
pub mod harness;
#[cfg(target_arch = "wasm32")]
mod runtime;

pub use config::Config;
pub use json::{Kind, Lookup, Members};
pub use merge::{Merge, Rule};
pub use resolve::{Conflict, Verdict, Version};
pub use transform::{Draft, Output, Record};

/// What most plugins use, those parts of alloc included that std has in its own.
pub mod prelude {
    pub use crate::alloc::borrow::ToOwned;
    pub use crate::alloc::format;
    pub use crate::alloc::string::{String, ToString};
    pub use crate::alloc::vec;
    pub use crate::alloc::vec::Vec;
    pub use crate::{Config, Conflict, Draft, Kind, Lookup, Members, Merge, Output, Plugin, Record, Resolve, Rule, Transform, Verdict, Version};
}

/// A plugin, made from the operator's configuration.
pub trait Plugin: Sized {
    /// Reads the configuration. Mistakes are collected, and reported all at once.
    fn configure(config: &mut Config) -> Self;
}

/// A plugin that transforms records.
pub trait Transform: Plugin {
    /// Answers one record. One that is not answered becomes an error.
    fn transform(&mut self, record: &Record, out: &mut Output);
}

/// A plugin that resolves conflicts.
pub trait Resolve: Plugin {
    /// Decides one conflict. One that is not decided becomes an error.
    fn resolve(&mut self, conflict: &Conflict, verdict: &mut Verdict);
}

/// Makes the exports of a module: `edged::plugin!(MyPlugin: transform)`, with
/// `transform`, `resolve` or both.
#[macro_export]
macro_rules! plugin {
    ($plugin:ty: $($kind:ident),+) => {
        #[cfg(target_arch = "wasm32")]
        mod edged_exports {
            use super::*;

            static INSTANCE: $crate::module::Instance<$plugin> = $crate::module::Instance::new();

            #[no_mangle]
            extern "C" fn edged_abi_v1() {}

            #[no_mangle]
            extern "C" fn edged_alloc(size: u32) -> u32 { INSTANCE.alloc(size) }

            #[no_mangle]
            extern "C" fn edged_configure(ptr: u32, size: u32) -> u64 { INSTANCE.configure(ptr, size) }

            $($crate::plugin!(@$kind);)+
        }
    };
    (@transform) => {
        #[no_mangle]
        extern "C" fn edged_transform(ptr: u32, size: u32) -> u64 { INSTANCE.transform(ptr, size) }
    };
    (@resolve) => {
        #[no_mangle]
        extern "C" fn edged_resolve(ptr: u32, size: u32) -> u64 { INSTANCE.resolve(ptr, size) }
    };
}

/// Exports what the module tells of itself: the JSON object that sdk/abi.md draws.
#[macro_export]
macro_rules! describe {
    ($json:expr) => {
        #[cfg(target_arch = "wasm32")]
        #[no_mangle]
        extern "C" fn edged_describe() -> u64 {
            let json: &'static str = $json;
            (json.as_ptr() as u64) << 32 | json.len() as u64
        }
    };
}

/// What [`plugin!`] needs; not for plugins.
#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub mod module;
