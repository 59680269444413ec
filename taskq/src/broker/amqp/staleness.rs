//! How long messages have been lying in a consumer's buffer: what is known of it, apart from the buffer.
//!
//! lapin does not say when a message came, and a clock read for each would cost the stream of short tasks. What is known
//! is that a buffer is taken from in order and never holds more than its consumer's window. So once that many were taken
//! since a moment, or the buffer was seen empty, whatever came before that moment is gone.

use std::time::Duration;

use tokio::time::Instant;

/// A bound on the age of the messages in one consumer's buffer.
#[derive(Debug)]
pub(super) struct BufferAge {
    /// How many messages it may hold; zero is no bound.
    window: u64,
    /// How many were taken from it.
    taken: u64,
    /// It was seen empty since the last look.
    emptied: bool,
    /// A moment before which nothing came that was still there at the last look that found out, and how many had been
    /// taken by that look.
    mark: (Instant, u64),
}

impl BufferAge {
    /// Returns the age of an empty buffer.
    pub(super) fn new(window: u16, now: Instant) -> Self {
        Self { window: window.into(), taken: 0, emptied: false, mark: (now, 0) }
    }

    /// A message was taken.
    pub(super) fn take(&mut self) {
        self.taken += 1;
    }

    /// There was none to take.
    pub(super) fn found_empty(&mut self) {
        self.emptied = true;
    }

    /// Whether a message may be lying there for longer than `limit`. One that does is told of before it is twice that old,
    /// if this is asked often. `waits`: somebody waits for messages, so that none can be lying there.
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
        /// Against a buffer that knows when each message came: nothing grows twice as old as the limit without a word, and
        /// nothing is said as long as the whole buffer is younger than the time from look to look.
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
