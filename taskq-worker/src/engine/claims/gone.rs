//! The mark that a process is gone, after which its leases are free.

use std::time::Duration;

use bytes::Bytes;
use taskq::backend::{BackendError, SharedKv};

/// Marks a process as dead for `mark_for`. Called when everything that was lost with it is written down: a worker
/// that takes over one of its leases then counts its death.
pub(crate) async fn mark_gone(kv: &SharedKv, process: &str, mark_for: Duration) -> Result<(), BackendError> {
    kv.put(&key(process), Bytes::new(), Some(mark_for)).await
}

/// Whether the leases of this process are free.
pub(super) async fn is_gone(kv: &SharedKv, process: &str) -> Result<bool, BackendError> {
    Ok(kv.get(&key(process)).await?.is_some())
}

fn key(process: &str) -> String {
    format!("gone/{process}")
}
