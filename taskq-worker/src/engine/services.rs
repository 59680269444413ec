//! What every attempt needs, shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use taskq::Client;
use taskq::backend::SharedResults;
use taskq::definition::Registry;
use taskq::internal::attempt::StateMap;
use tokio::sync::mpsc;

use super::held::Holding;
use super::inflight::InFlight;
use super::reach::Reach;
use super::settle::Settlement;
use super::supervision::Supervision;

/// What every attempt needs.
pub(super) struct Services {
    pub(super) client: Client,
    pub(super) results: Option<SharedResults>,
    pub(super) registry: Registry,
    pub(super) in_flight: Arc<InFlight>,
    /// Where the broker wants deliveries settled within some time.
    pub(super) holding: Option<Holding>,
    pub(super) settler: mpsc::Sender<Settlement>,
    /// The queue that dead messages go to, as the broker port takes it.
    pub(super) dead_queue: Arc<str>,
    /// The worker's node name, `name@host`.
    pub(super) node: Arc<str>,
    /// This process's own name among all that ever ran under that node name.
    pub(super) instance: String,
    pub(super) state: StateMap,
    pub(super) unknown_task_grace: Duration,
    pub(super) counters: Counters,
    /// Where this process is supervised.
    pub(super) supervision: Option<Supervision>,
    /// Counts the pulse's looks, from 1: a clock that costs nothing to read.
    pub(super) ticks: AtomicU32,
    /// Whether the servers can be reached.
    pub(super) reach: Reach,
}

/// What was done, counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) succeeded: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) revoked: AtomicU64,
    /// Progress that was not written because the result backend was away.
    pub(super) progress_dropped: AtomicU64,
    /// Attempts that ended, and how long they took together in nanoseconds.
    ended: AtomicU64,
    ended_nanos: AtomicU64,
    nonce: AtomicU64,
}

impl Counters {
    pub(super) fn attempt_ended(&self, after: Duration) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.ended_nanos.fetch_add(after.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How many attempts have ended, and how long they took together.
    pub(super) fn ended(&self) -> (u64, Duration) {
        let count = self.ended.load(Ordering::Relaxed);
        (count, Duration::from_nanos(self.ended_nanos.load(Ordering::Relaxed)))
    }

    pub(super) fn next_nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }
}

impl Services {
    /// Whether this worker is there to run suspects alone.
    pub(super) fn runs_alone(&self) -> bool {
        self.supervision.as_ref().is_some_and(|supervision| supervision.alone)
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.client.clock().now()
    }
}
