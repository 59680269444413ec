//! What one consumption knows.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::consumed_queue::{ConsumedQueue, Settled};
use super::lease::Lease;

/// What was taken and is not settled, and what is to be done in the file.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct ReaderState {
    pub(super) phase: Phase,
    pub(super) lease: Arc<Lease>,
    /// The lease stands in the file.
    pub(super) leased: bool,
    pub(super) prefetch: usize,
    pub(super) queues: Vec<ConsumedQueue>,
    /// What was taken under the lease and not settled, with the place of its queue.
    pub(super) unsettled: HashMap<i64, usize>,
    pub(super) settled: Settled,
    pub(super) settled_since: Option<Instant>,
    /// Something in the file is due: delayed messages, or leases that ran out.
    pub(super) restore: bool,
    /// When that will be, as far as was seen.
    pub(super) next_restore: i64,
    /// Leases of processes that seem to have died.
    pub(super) dead: Vec<i64>,
    /// What processes left that died while nobody looked has been looked for.
    pub(super) swept: bool,
    /// The stop is written down.
    pub(super) unregistered: bool,
    /// The file did what it was asked the last time.
    pub(super) works: bool,
    /// The queue to read from next, so that a full one cannot starve the others.
    pub(super) next: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Taking,
    /// Takes nothing any more.
    Stopped,
    /// Gives everything back; what was taken cannot be settled any more.
    Closed,
}

impl ReaderState {
    pub(super) fn new(lease: Lease, queues: Vec<ConsumedQueue>, prefetch: usize) -> Self {
        Self {
            phase: Phase::Taking,
            lease: Arc::new(lease),
            leased: false,
            prefetch,
            queues,
            unsettled: HashMap::new(),
            settled: Settled::default(),
            settled_since: None,
            restore: true,
            next_restore: i64::MAX,
            dead: Vec::new(),
            swept: false,
            unregistered: false,
            works: true,
            next: 0,
        }
    }

    /// Begins with another lease: what was taken under the old one is others' by now.
    pub(super) fn begin_anew(&mut self, lease: Lease) {
        self.lease.lose();
        self.lease = Arc::new(lease);
        self.leased = false;
        self.unsettled.clear();
        self.settled = Settled::default();
        self.settled_since = None;
        for queue in &mut self.queues {
            queue.unread.clear();
            queue.out = 0;
            queue.arrivals += 1;
        }
    }
}
