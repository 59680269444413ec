//! The prefetch: how many messages to hold beside those that run. A pure decision.
//!
//! A buffer beside busy slots starves other workers; no buffer beside fast tasks starves this one. So nothing should
//! wait in it for longer than about a second.

use std::time::Duration;

/// The largest prefetch per queue.
const PREFETCH_MAX: u16 = 500;

/// The time for which a message may wait in the buffer.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(1);

/// The time that the last message of a buffer may take to its turn when the buffer becomes too large. Beyond it the
/// buffer is given back; below it, reading it is cheaper.
const TURN_MAX: Duration = Duration::from_secs(3);

/// A change of the prefetch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The prefetch to ask for.
    pub(crate) prefetch: u16,
    /// Whether messages that were fetched before would wait for too long, and are to be given back.
    pub(crate) gives_back: bool,
}

/// A prefetch that follows how long tasks take.
#[derive(Debug)]
pub(crate) struct Prefetch {
    concurrency: u16,
    /// The prefetch that the work asks for.
    current: u16,
    /// The number of runs that have a slot and do not count as fetched.
    left_out: u16,
    /// The prefetch that the broker was asked for.
    told: u16,
    /// A moving mean of the time that an attempt takes, in seconds.
    mean_seconds: Option<f64>,
}

impl Prefetch {
    /// Begins with one message per slot: nothing is known yet.
    pub(crate) fn new(concurrency: usize) -> Self {
        let concurrency = u16::try_from(concurrency).unwrap_or(u16::MAX).max(1);
        Self { concurrency, current: concurrency, left_out: 0, told: concurrency, mean_seconds: None }
    }

    /// The prefetch that the broker was asked for.
    pub(crate) fn told(&self) -> u16 {
        self.told
    }

    /// The number of slots.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.into()
    }

    /// Takes in that so many runs have a slot and do not count as fetched, and gives the new prefetch if it changes:
    /// what is fetched beside them could only wait.
    pub(crate) fn leave_out(&mut self, runs: usize) -> Option<u16> {
        self.left_out = u16::try_from(runs).unwrap_or(u16::MAX);
        (self.beside() != self.told).then(|| self.tell())
    }

    /// The prefetch to ask for: never 0, which would mean no bound.
    fn beside(&self) -> u16 {
        self.current.saturating_sub(self.left_out).max(1)
    }

    fn tell(&mut self) -> u16 {
        self.told = self.beside();
        self.told
    }

    /// Takes in that no slot has been free for [`WAIT_MAX`], and gives the new prefetch if it changes: one message for
    /// each slot, as long as nothing better is known.
    pub(crate) fn stalled(&mut self) -> Option<u16> {
        let least = WAIT_MAX.as_secs_f64();
        self.mean_seconds = Some(self.mean_seconds.map_or(least, |mean| mean.max(least)));
        self.current = self.concurrency;
        (self.beside() != self.told).then(|| self.tell())
    }

    /// Takes in that `count` attempts ended that took `total` together, while `long` others go on that are older than
    /// [`WAIT_MAX`], and gives the change of the prefetch if there should be one.
    ///
    /// A change costs a new consumer, so only a factor of two is worth one.
    pub(crate) fn observe(&mut self, count: u64, total: Duration, long: usize) -> Option<Change> {
        if count == 0 {
            return None;
        }
        let mean = total.as_secs_f64() / count as f64;
        // The more attempts, the more this observation counts.
        let weight = (count as f64 / 20.0).clamp(0.2, 0.8);
        let smoothed = self.mean_seconds.map_or(mean, |earlier| earlier + weight * (mean - earlier));
        self.mean_seconds = Some(smoothed);
        // Of slots with long tasks the buffer gets no turn.
        let flowing = f64::from(self.concurrency.saturating_sub(u16::try_from(long).unwrap_or(u16::MAX)));
        let wanted = self.wanted(smoothed, flowing);
        if wanted < self.current.saturating_mul(2) && wanted > self.current / 2 {
            return None;
        }
        let unread = f64::from(self.told.saturating_sub(self.concurrency));
        let gives_back = wanted < self.current && unread * smoothed > TURN_MAX.as_secs_f64() * flowing;
        self.current = wanted;
        Some(Change { prefetch: self.tell(), gives_back })
    }

    fn wanted(&self, mean_seconds: f64, flowing: f64) -> u16 {
        let slots = f64::from(self.concurrency);
        let buffer = flowing * WAIT_MAX.as_secs_f64() / mean_seconds.max(1e-6);
        // Whole slots: half a message in the buffer helps nobody, and tasks of seconds want none.
        let buffer = if buffer < 2.0 * flowing { 0.0 } else { buffer };
        (slots + buffer).min(f64::from(PREFETCH_MAX.max(self.concurrency))) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change to this prefetch, with nothing to give back.
    #[allow(clippy::unnecessary_wraps, reason = "it is compared with what may be none")]
    fn to(prefetch: u16) -> Option<Change> {
        Some(Change { prefetch, gives_back: false })
    }

    #[test]
    fn the_buffer_follows_the_work() {
        let mut prefetch = Prefetch::new(4);
        assert_eq!(prefetch.told(), 4);
        assert_eq!(prefetch.observe(0, Duration::ZERO, 0), None);
        assert_eq!(prefetch.observe(100, Duration::from_millis(100), 0), to(500), "tasks of a millisecond");
        assert_eq!(prefetch.observe(100, Duration::from_millis(120), 0), None, "much the same");
        let mut last = None;
        for _ in 0..20 {
            last = prefetch.observe(4, Duration::from_secs(40), 0).or(last);
        }
        assert_eq!(last.map(|change| change.prefetch), Some(4), "tasks of ten seconds");
    }

    #[test]
    fn middling_tasks_get_about_a_second_of_work() {
        let mut prefetch = Prefetch::new(10);
        assert_eq!(prefetch.observe(40, Duration::from_secs(4), 0), to(110), "tasks of 100 ms");
        let mut prefetch = Prefetch::new(10);
        assert_eq!(prefetch.observe(40, Duration::from_secs(4), 8), to(30), "two slots are left for them");
    }

    #[test]
    fn a_buffer_that_would_wait_too_long_is_given_back() {
        // The tasks become slower: the time that each takes, on two slots, one of which may run a long task.
        for (each_ms, long, gives_back) in [(9, 0, false), (20, 0, true), (5, 1, false), (9, 1, true), (900, 0, true)] {
            let mut prefetch = Prefetch::new(2);
            assert_eq!(prefetch.observe(100, Duration::from_millis(100), 0), to(500));
            let change = std::iter::repeat_with(|| prefetch.observe(100, Duration::from_millis(100 * each_ms), long));
            let change = change.take(20).flatten().next().expect("the prefetch becomes smaller");
            assert!(change.prefetch < 250, "{change:?}");
            assert_eq!(change.gives_back, gives_back, "{each_ms} ms, {long} long: {change:?}");
        }
    }

    #[test]
    fn a_stall_leaves_one_message_per_slot_until_short_tasks_end_again() {
        let mut prefetch = Prefetch::new(2);
        assert_eq!(prefetch.stalled(), None, "there is nothing to change");
        let grown =
            std::iter::repeat_with(|| prefetch.observe(1000, Duration::from_secs(1), 0)).take(10).flatten().last();
        assert_eq!(grown, to(500));
        assert_eq!((prefetch.stalled(), prefetch.stalled()), (Some(2), None));
        let grown =
            std::iter::repeat_with(|| prefetch.observe(100, Duration::from_millis(100), 0)).take(10).flatten().last();
        assert_eq!(grown, to(500), "within a second");
    }

    #[test]
    fn renewed_deliveries_leave_room_for_nothing_more() {
        let mut prefetch = Prefetch::new(8);
        assert_eq!(prefetch.leave_out(0), None);
        assert_eq!(prefetch.leave_out(3), Some(5));
        assert_eq!(prefetch.leave_out(3), None);
        assert_eq!(prefetch.leave_out(8), Some(1), "one, since nothing would be everything");
        assert_eq!(prefetch.leave_out(7), None);
        assert_eq!(prefetch.leave_out(6), Some(2));
        assert_eq!(prefetch.leave_out(1), Some(7));
        assert_eq!(prefetch.leave_out(0), Some(8), "as before");
        assert_eq!(prefetch.observe(100, Duration::from_millis(100), 0), to(500));
        assert_eq!(prefetch.leave_out(8), Some(492));
    }

    #[test]
    fn more_slots_than_the_limit_are_still_fed() {
        let mut prefetch = Prefetch::new(2000);
        assert_eq!(prefetch.observe(1000, Duration::from_millis(1), 0), None);
        assert_eq!(prefetch.told(), 2000);
    }
}
