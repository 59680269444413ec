//! How much the broker is asked for.

use std::sync::Arc;
use std::time::Duration;

use taskq::broker::ConsumptionControl;

use super::super::custody::DeliveryRenewer;
use super::super::prefetch::{Change, Prefetch};

/// The number of ticks in a second, the time for which a message may wait beside busy slots.
const SECOND: u32 = 10;

/// The steering of what is fetched: the prefetch follows the work.
pub(super) struct Fetching {
    prefetch: Prefetch,
    control: Arc<dyn ConsumptionControl>,
    /// The bodies that had ended at the last look, and the time they took together.
    seen: (u64, Duration),
}

impl Fetching {
    /// Steering that begins with `prefetch`, when `seen` bodies have ended.
    pub(super) fn new(prefetch: Prefetch, control: Arc<dyn ConsumptionControl>, seen: (u64, Duration)) -> Self {
        Self { prefetch, control, seen }
    }

    /// The number of messages per queue that the broker was asked to have out at once.
    pub(super) fn prefetch(&self) -> u16 {
        self.prefetch.told()
    }

    /// The number of attempts that run at once.
    pub(super) fn concurrency(&self) -> usize {
        self.prefetch.concurrency()
    }

    /// Whether messages can come in at the moment.
    pub(super) fn is_live(&self) -> bool {
        self.control.is_live()
    }

    /// Follows the work: `ended` is the number of bodies that have ended and the time they took together, `long` the
    /// number of runs that are older than anything may wait, `renewed` the number of runs whose delivery is a copy.
    pub(super) fn follow(&mut self, ended: (u64, Duration), long: usize, renewed: usize) {
        let (count, total) = (ended.0 - self.seen.0, ended.1.saturating_sub(self.seen.1));
        self.seen = ended;
        if let Some(Change { prefetch, gives_back }) = self.prefetch.observe(count, total, long) {
            tracing::debug!(prefetch, gives_back, "prefetch follows the work");
            if gives_back {
                self.control.give_back_unread();
            }
            self.control.set_prefetch(prefetch);
        }
        // A run whose delivery is a copy has a slot, and does not count among what the broker has sent.
        if let Some(wanted) = self.prefetch.leave_out(renewed) {
            tracing::debug!(prefetch = wanted, "prefetch follows the renewed deliveries");
            match self.control.fetch_control() {
                Some(fetching) => fetching.cap_outstanding(wanted),
                None => self.control.set_prefetch(wanted),
            }
        }
    }

    /// Gives back what is unread while no slot has been free for so many ticks: another worker may be idle. Repeated
    /// each second, since a message may arrive later in a queue that was empty.
    pub(super) fn give_way(&mut self, busy_for: u32) {
        if busy_for < SECOND || !busy_for.is_multiple_of(SECOND) {
            return;
        }
        self.control.give_back_unread();
        if let Some(prefetch) = self.prefetch.stalled() {
            tracing::debug!(prefetch, "every slot is busy for long; what is fetched could only wait");
            self.control.set_prefetch(prefetch);
        }
    }

    /// Renews the deliveries that the broker would soon take back. `renewed` is the number of runs whose delivery is
    /// a copy.
    pub(super) fn renew_deliveries(&self, renewer: &Arc<DeliveryRenewer>, renewed: impl Fn() -> usize) {
        let due = renewer.due();
        if !due.is_empty() {
            let suspend = (renewed() >= self.prefetch.concurrency()).then(|| Arc::clone(&self.control));
            tokio::spawn(Arc::clone(renewer).renew(due, suspend));
        }
    }
}
