//! How much the broker is asked for.

use std::sync::Arc;
use std::time::Duration;

use taskq::broker::ConsumptionControl;

use super::super::custody::DeliveryRenewer;
use super::super::prefetch::Prefetch;

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

    /// Follows the work: `ended` is the number of bodies that have ended and the time they took together, `renewed` the
    /// number of runs whose delivery is a copy.
    pub(super) fn follow(&mut self, ended: (u64, Duration), renewed: usize) {
        let (count, total) = (ended.0 - self.seen.0, ended.1.saturating_sub(self.seen.1));
        self.seen = ended;
        if let Some(wanted) = self.prefetch.observe(count, total) {
            tracing::debug!(prefetch = wanted, "prefetch follows the work");
            self.control.set_prefetch(wanted);
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
