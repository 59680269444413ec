//! The ports for data that is kept next to the messages: results ([`ResultBackend`]) and small shared values ([`Kv`]).
//!
//! No task depends on either. If the store is lost, so are results, progress, leases and unique keys, but no task. The
//! promises are checked, adapter by adapter, by `taskq::conformance::{results, kv}`.

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
pub use kv::{Kv, KvExt, Put, ServerClock, SharedKv};
pub use options::BackendOptions;
pub use results::{Changes, ResultBackend, ResultBackendExt, SharedResults, Written};
