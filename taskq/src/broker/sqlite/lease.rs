//! The lease of a consumption on its messages, as deliveries see it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, Weak};
use std::time::Duration;

use crate::broker::{Settlement, Settler};
use crate::sqlite::lock;
use crate::sqlite::presence::Presence;
use crate::sqlite::{now_ms, unique_number};

/// The time for which a lease lasts without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// The longest interval between renewals.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);

/// The consumption that receives the settlements under a lease.
pub(super) trait SettleInbox: Send + Sync {
    /// Notes the settlement of message `id`, which was taken under `lease`.
    fn settle(&self, lease: i64, id: i64, settlement: Settlement);

    /// Whether all messages were given back, so that none can be settled any more.
    fn is_closed(&self) -> bool;
}

/// A lease, as its holder sees it. A consumption that loses its lease gets another.
pub(super) struct Lease {
    /// The number of the lease in the file.
    pub(super) number: i64,
    inbox: Weak<dyn SettleInbox>,
    /// The expiry, by the wall clock: a machine that was suspended finds its leases expired when it wakes up.
    until: AtomicI64,
    lost: AtomicBool,
    /// The sign that shows other processes that this one is alive.
    presence: Mutex<Option<Presence>>,
}

impl Lease {
    /// Makes a lease that is still to be written to the file.
    pub(super) fn new(inbox: Weak<dyn SettleInbox>) -> Self {
        let (until, lost) = (AtomicI64::new(i64::MIN), AtomicBool::new(false));
        Self { number: unique_number(), inbox, until, lost, presence: Mutex::default() }
    }

    /// Creates the sign of life; to be called in the transaction that writes the lease. Further calls have no effect.
    pub(super) fn show(&self, database: &Path) {
        let mut presence = lock(&self.presence);
        if presence.is_none() {
            *presence = Presence::show(database, self.number);
        }
    }

    /// Notes that the lease is in the file, until the given time.
    pub(super) fn renewed(&self, until: i64) {
        self.until.store(until, Ordering::Release);
        if let Some(presence) = &mut *lock(&self.presence) {
            presence.establish();
        }
    }

    /// Notes that another process has ended the lease and put its messages back.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        if let Some(presence) = lock(&self.presence).take() {
            presence.end();
        }
    }

    /// Notes that the lease is not needed any more. If it is still in the file, other processes may end it at once.
    pub(super) fn release(&self) {
        drop(lock(&self.presence).take());
    }
}

impl Settler for Lease {
    fn settle(&self, tag: u64, settlement: Settlement) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.settle(self.number, tag.cast_signed(), settlement);
        }
    }

    fn is_current(&self, _tag: u64) -> bool {
        !self.lost.load(Ordering::Acquire)
            && now_ms() < self.until.load(Ordering::Acquire)
            && self.inbox.upgrade().is_some_and(|inbox| !inbox.is_closed())
    }
}
