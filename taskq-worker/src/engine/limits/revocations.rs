//! The revoked tasks that this process knows.
//!
//! They come by remote control, and from Kv when the worker begins and whenever it may have missed something. The
//! dispatcher asks for each delivery, and mostly finds none known at all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taskq::internal::revocations::{KEPT_FOR, kept};
use taskq::remote::{Revocation, Revoked};
use taskq::{Client, TaskId};
use tokio::time::Instant;

use super::super::lock::lock;

/// The time within which the kept revocations are to be read before a worker takes messages.
const LOAD_WITHIN: Duration = Duration::from_secs(10);

/// The revoked tasks that this process knows.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    known: Mutex<Revoked>,
    /// Whether there has ever been one, so that most workers never take the lock.
    any: AtomicBool,
}

impl Revocations {
    /// Notes that a task is revoked, for this time. Returns whether that is new.
    pub(crate) fn add(&self, id: &TaskId, revocation: Revocation, kept_for: Duration) -> bool {
        let is_new = lock(&self.known).add(id, revocation, Instant::now(), kept_for);
        self.any.store(true, Ordering::Release);
        is_new
    }

    /// The revocation of a task, if it is revoked.
    pub(crate) fn of(&self, id: &TaskId) -> Option<Revocation> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.known).get(id, Instant::now())
    }

    /// All revoked tasks.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        lock(&self.known).ids().cloned().collect()
    }
}

/// Reads the revocations that are kept in Kv, for a worker that was away when they were made. A store that does not
/// answer is waited for no longer than ten seconds: running a task that was revoked is no loss.
pub(crate) async fn load(client: &Client, revocations: &Revocations) {
    let Some(kv) = client.kv() else { return };
    match tokio::time::timeout(LOAD_WITHIN, kept(&**kv)).await {
        Ok(Ok(all)) => {
            for (id, revocation) in all {
                revocations.add(&id, revocation, KEPT_FOR);
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "the revoked tasks are not known; some may run"),
        Err(_) => tracing::warn!("the revoked tasks could not be read within {LOAD_WITHIN:?}; some may run"),
    }
}
