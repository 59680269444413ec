//! A bound on the age of messages in a consumer's buffer, computed without access to the buffer.
//!
//! lapin does not say when a message arrived, and reading the clock for each would slow down streams of short tasks.
//! But the buffer is read in order and never holds more than its consumer's window. So once that many messages were
//! taken since a moment, or the buffer was seen empty, all messages that arrived before that moment are gone.

use std::time::Duration;

use tokio::time::Instant;

/// A bound on the age of the messages in one consumer's buffer.
#[derive(Debug)]
pub(super) struct BufferAge {
    /// The maximum number of buffered messages; zero is no limit.
    window: u64,
    /// The number of messages taken so far.
    taken: u64,
    /// The buffer was seen empty since the last check.
    emptied: bool,
    /// A moment such that all messages now in the buffer arrived later, as established by the last check that could,
    /// and the number of messages taken until that check.
    mark: (Instant, u64),
}

impl BufferAge {
    /// Returns the age of an empty buffer.
    pub(super) fn new(window: u16, now: Instant) -> Self {
        Self { window: window.into(), taken: 0, emptied: false, mark: (now, 0) }
    }

    /// Counts a message that was taken.
    pub(super) fn take(&mut self) {
        self.taken += 1;
    }

    /// Notes that the buffer was empty.
    pub(super) fn found_empty(&mut self) {
        self.emptied = true;
    }

    /// Whether a message may have been waiting for longer than `limit`. If checked often, a waiting message is
    /// reported before it is twice that old. `waits`: the reader waits for messages, so none can be in the buffer.
    pub(super) fn is_stale(&mut self, now: Instant, limit: Duration, waits: bool) -> bool {
        let (since, taken) = self.mark;
        let turned_over = self.window > 0 && self.taken - taken >= self.window;
        if waits || turned_over || std::mem::take(&mut self.emptied) {
            self.emptied = false;
            self.mark = (now, self.taken);
            return false;
        }
        now.duration_since(since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_nobody_takes_is_stale() {
        let start = Instant::now();
        let mut buffer_age = BufferAge::new(4, start);
        assert!(!buffer_age.is_stale(start + seconds(9), LIMIT, false));
        assert!(buffer_age.is_stale(start + seconds(10), LIMIT, false));
        assert!(!buffer_age.is_stale(start + seconds(11), LIMIT, true), "somebody waits for the next");
        assert!(!buffer_age.is_stale(start + seconds(20), LIMIT, false));
        assert!(buffer_age.is_stale(start + seconds(21), LIMIT, false));
    }

    #[test]
    fn taking_a_few_does_not_help_the_last() {
        let start = Instant::now();
        let mut buffer_age = BufferAge::new(4, start);
        for at in 1..=3 {
            buffer_age.take();
            assert!(!buffer_age.is_stale(start + seconds(3 * at), LIMIT, false));
        }
        assert!(
            buffer_age.is_stale(start + seconds(10), LIMIT, false),
            "the fourth may have been there from the beginning"
        );
        buffer_age.take();
        assert!(!buffer_age.is_stale(start + seconds(10), LIMIT, false), "all four were taken");
    }

    proptest! {
        /// Compares with a buffer that knows when each message arrived: none grows twice as old as the limit
        /// unreported, and nothing is reported while the whole buffer is younger than the interval of the checks.
        #[test]
        fn nothing_grows_old_unnoticed(window in 1..6_u16, steps in proptest::collection::vec((0..3_u8, 0..3_u8), 1..200)) {
            let start = Instant::now();
            let mut buffer_age = BufferAge::new(window, start);
            let mut buffer: VecDeque<Instant> = VecDeque::new();
            let mut now = start;
            for (arrive, take) in steps {
                now += seconds(1);
                for _ in 0..arrive {
                    if buffer.len() < usize::from(window) {
                        buffer.push_back(now);
                    }
                }
                for _ in 0..take {
                    match buffer.pop_front() {
                        Some(_) => buffer_age.take(),
                        None => buffer_age.found_empty(),
                    }
                }
                let oldest = buffer.front().map_or(Duration::ZERO, |came| now.duration_since(*came));
                if buffer_age.is_stale(now, LIMIT, false) {
                    buffer.clear();
                    buffer_age = BufferAge::new(window, now);
                } else {
                    prop_assert!(oldest < 2 * LIMIT, "{oldest:?} old, and nobody knows");
                }
            }
        }
    }
}
