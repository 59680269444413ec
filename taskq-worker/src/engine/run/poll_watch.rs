//! How long one poll of a future goes on, by a clock that ticks ten times a second: a poll costs two stores, and no
//! look at the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A clock that counts the ticks of the upkeep from 1; reading it costs nothing. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Ticks(Arc<AtomicU32>);

impl Default for Ticks {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Ticks {
    /// Counts one tick, and returns the new count.
    pub(crate) fn tick(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The count now.
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A watch over the polls of one future.
#[derive(Debug, Default)]
pub(super) struct PollWatch {
    /// The tick at which the poll began; 0 between polls.
    since: AtomicU32,
    /// The beginning of the poll that was last reported.
    reported: AtomicU32,
}

impl PollWatch {
    /// Begins a poll at `tick`; it ends when the guard is dropped.
    pub(super) fn begin(&self, tick: u32) -> Polling<'_> {
        self.since.store(tick, Ordering::Relaxed);
        Polling(self)
    }

    /// Whether a poll has lasted for more than `ticks` at `now`. True once per poll.
    pub(super) fn lasts_longer_than(&self, ticks: u32, now: u32) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && now.saturating_sub(since) > ticks && self.reported.swap(since, Ordering::Relaxed) != since
    }
}

/// A poll that is going on.
pub(super) struct Polling<'a>(&'a PollWatch);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_is_reported_once() {
        let watch = PollWatch::default();
        assert!(!watch.lasts_longer_than(10, 100), "nothing is polled");
        let polling = watch.begin(100);
        assert!(!watch.lasts_longer_than(10, 110), "not long enough");
        assert!(watch.lasts_longer_than(10, 111));
        assert!(!watch.lasts_longer_than(10, 112), "it has been reported");
        drop(polling);
        assert!(!watch.lasts_longer_than(10, 200));
        let _polling = watch.begin(200);
        assert!(watch.lasts_longer_than(10, 211), "another poll is another incident");
    }
}
