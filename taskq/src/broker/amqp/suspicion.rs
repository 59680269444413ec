//! When to leave a node that takes connections and answers some requests, but does nothing that needs its cluster.
//! Pure.
//!
//! A node in the minority of a partition opens channels and tells of queues from memory; but it confirms nothing, and a
//! fetch from a quorum queue goes unanswered. Where there are several nodes, one that owes something for as long as the
//! patience is left for the next. If that does not help, the fault is not the node's: a quorum may be lost everywhere.
//! So the patience doubles with each node that is left, until something is carried out again.

use std::time::Duration;

use tokio::time::Instant;

/// The maximum of the patience, as a multiple of what it is at first.
const GROWTH_MAX: u32 = 16;

/// The suspicion against the node of the current session, and the memory of earlier ones.
#[derive(Debug)]
pub(super) struct Suspicion {
    patience: Duration,
    growth: u32,
    /// Since when the node owes something, and has carried out nothing.
    since: Option<Instant>,
}

impl Suspicion {
    /// No suspicion. `patience` is the time for which a node may owe something and carry out nothing.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, growth: 1, since: None }
    }

    /// The time for which the node may owe something.
    pub(super) fn patience(&self) -> Duration {
        self.patience * self.growth
    }

    /// Notes that the node has carried something out.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Notes that the node owes nothing, or that another session begins.
    pub(super) fn rest(&mut self) {
        self.since = None;
    }

    /// Notes that the node owes something. Returns whether it is to be left, which is said once.
    pub(super) fn waits(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let leaves = now.duration_since(since) >= self.patience();
        if leaves {
            self.since = None;
            self.growth = (self.growth * 2).min(GROWTH_MAX);
        }
        leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn the_patience_doubles_until_something_is_carried_out() {
        let start = Instant::now();
        let mut suspicion = Suspicion::new(PATIENCE);
        let mut left = Vec::new();
        for second in 0..=500 {
            if suspicion.waits(start + Duration::from_secs(second)) {
                left.push(second);
            }
        }
        // Each time begins with the look after the last one.
        assert_eq!(left, [10, 31, 72, 153, 314, 475]);
        suspicion.clear();
        assert!(!suspicion.waits(start + Duration::from_secs(500)));
        assert!(suspicion.waits(start + Duration::from_secs(510)));
    }

    #[test]
    fn a_node_that_owes_nothing_is_not_suspected() {
        let start = Instant::now();
        let mut suspicion = Suspicion::new(PATIENCE);
        assert!(!suspicion.waits(start));
        suspicion.rest();
        assert!(!suspicion.waits(start + Duration::from_secs(11)));
        assert!(suspicion.waits(start + Duration::from_secs(21)));
    }
}
