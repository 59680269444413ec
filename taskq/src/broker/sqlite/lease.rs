//! A consumption's right to what it took, and how deliveries know of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, Weak};
use std::time::Duration;

use crate::broker::{Settlement, Settler};
use crate::sqlite::lock;
use crate::sqlite::presence::Presence;
use crate::sqlite::{now_ms, unique_number};

/// How long a lease lasts without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How often it is renewed at least.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);

/// The consumption that settlements under a lease go to.
pub(super) trait SettleInbox: Send + Sync {
    /// Notes the settlement of message `id`, which was taken under `lease`.
    fn settle(&self, lease: i64, id: i64, settlement: Settlement);

    /// Whether the consumption gave everything back, so that nothing can be settled any more.
    fn is_closed(&self) -> bool;
}

/// A lease, as the process that has it sees it. A consumption that loses its lease gets another.
pub(super) struct Lease {
    /// Its name in the file.
    pub(super) number: i64,
    inbox: Weak<dyn SettleInbox>,
    /// Until when it lasts, by the wall clock: a machine that was suspended finds it past its time when it wakes up.
    until: AtomicI64,
    lost: AtomicBool,
    /// What shows others that this process lives.
    presence: Mutex<Option<Presence>>,
}

impl Lease {
    /// A lease that is yet to be written down.
    pub(super) fn new(inbox: Weak<dyn SettleInbox>) -> Self {
        let (until, lost) = (AtomicI64::new(i64::MIN), AtomicBool::new(false));
        Self { number: unique_number(), inbox, until, lost, presence: Mutex::default() }
    }

    /// Shows that this process lives; to be called in the transaction that writes the lease down. Once is enough.
    pub(super) fn show(&self, database: &Path) {
        let mut presence = lock(&self.presence);
        if presence.is_none() {
            *presence = Presence::show(database, self.number);
        }
    }

    /// It stands in the file.
    pub(super) fn renewed(&self, until: i64) {
        self.until.store(until, Ordering::Release);
        if let Some(presence) = &mut *lock(&self.presence) {
            presence.establish();
        }
    }

    /// Somebody has put the messages back that were held under it.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        if let Some(presence) = lock(&self.presence).take() {
            presence.end();
        }
    }

    /// Nothing will be done under it any more. If it still stands in the file, others may end it at once.
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

    fn is_current(&self) -> bool {
        !self.lost.load(Ordering::Acquire)
            && now_ms() < self.until.load(Ordering::Acquire)
            && self.inbox.upgrade().is_some_and(|inbox| !inbox.is_closed())
    }
}
