//! The ports of what is kept beside the messages: results ([`ResultBackend`]) and small shared facts ([`Kv`]).
//!
//! No task depends on either: if they burn down, results, progress, leases and unique keys are lost, and no task is.
//! The promises are checked, adapter by adapter, by `taskq::conformance::{results, kv}`.

mod connect;
mod error;
pub mod kv;
pub mod memory;
mod options;
#[cfg(feature = "redis")]
pub mod redis;
mod results;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use connect::{Backend, connect};
pub use error::BackendError;
pub use kv::{Kv, KvExt, Put, SharedKv};
pub use options::BackendOptions;
pub use results::{Changes, ResultBackend, ResultBackendExt, SharedResults, Written};
