//! The slots of a worker: one for each attempt that may run, and how long none has been free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Ticks;

/// The slots of one worker.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    ticks: Ticks,
    /// The tick since which the next attempt has been waiting for a slot; 0 while it is not.
    wanted_since: AtomicU32,
}

impl Slots {
    /// So many free slots; `ticks` is the clock of the wait for them.
    pub(crate) fn new(count: usize, ticks: Ticks) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(count)), ticks, wanted_since: AtomicU32::new(0) })
    }

    /// Waits for a free slot.
    pub(crate) async fn take(&self) -> OwnedSemaphorePermit {
        if let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() {
            return slot;
        }
        self.wanted_since.store(self.ticks.now(), Ordering::Relaxed);
        let slot = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        self.wanted_since.store(0, Ordering::Relaxed);
        slot
    }

    /// Whether all are busy: one is being waited for. A slot that waits for its message is free.
    pub(crate) fn are_busy(&self) -> bool {
        self.wanted_since.load(Ordering::Relaxed) != 0
    }

    /// The number of ticks for which a slot has been waited for at tick `now`: all were busy meanwhile.
    pub(crate) fn busy_for(&self, now: u32) -> u32 {
        match self.wanted_since.load(Ordering::Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn slots_are_busy_only_while_one_is_wanted() {
        let ticks = Ticks::default();
        let slots = Slots::new(1, ticks.clone());
        let first = slots.take().await;
        ticks.tick();
        assert_eq!(slots.busy_for(ticks.now()), 0, "nobody wants another");
        let mut second = Box::pin(slots.take());
        assert!((&mut second).now_or_never().is_none());
        ticks.tick();
        ticks.tick();
        assert_eq!((slots.busy_for(ticks.now()), slots.are_busy()), (2, true));
        drop(first);
        drop(second.await);
        assert_eq!((slots.busy_for(ticks.now()), slots.are_busy()), (0, false));
    }
}
