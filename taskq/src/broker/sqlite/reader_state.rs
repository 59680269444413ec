//! The state of one consumption.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::consumed_queue::{ConsumedQueue, Settled};
use super::lease::Lease;

/// The unsettled messages, and the work to be done in the file.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct ReaderState {
    pub(super) phase: Phase,
    pub(super) lease: Arc<Lease>,
    /// The lease is in the file.
    pub(super) leased: bool,
    pub(super) prefetch: usize,
    pub(super) queues: Vec<ConsumedQueue>,
    /// The reader is busy: nothing is taken until it asks for a message.
    pub(super) suspended: bool,
    /// Unsettled messages under the lease, each with the index of its queue.
    pub(super) unsettled: HashMap<i64, usize>,
    pub(super) settled: Settled,
    pub(super) settled_since: Option<Instant>,
    /// There is something due in the file: delayed messages, or expired leases.
    pub(super) restore: bool,
    /// The next time at which something will be due, as far as is known.
    pub(super) next_restore: i64,
    /// Leases of processes that seem to have died.
    pub(super) dead: Vec<i64>,
    /// The search for lock files of processes that died earlier has been done.
    pub(super) swept: bool,
    /// The end of the consumption is written in the file.
    pub(super) unregistered: bool,
    /// The last access to the file succeeded.
    pub(super) works: bool,
    /// The queue to read from next, so that a full one cannot starve the others.
    pub(super) next: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Taking,
    /// No more messages are taken.
    Stopped,
    /// All messages are given back, and none can be settled any more.
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
            suspended: false,
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

    /// Whether messages are to be taken: it goes on, and the reader has asked.
    pub(super) fn takes(&self) -> bool {
        self.phase == Phase::Taking && !self.suspended
    }

    /// Gives the unread messages back, as if they had never been delivered.
    pub(super) fn give_back_unread(&mut self) {
        for queue in &mut self.queues {
            for message in queue.unread.drain(..) {
                queue.out -= 1;
                self.unsettled.remove(&message.id);
                self.settled.unread.push(message.id);
            }
        }
    }

    /// Continues with another lease: other consumers have the messages of the old one by now.
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
