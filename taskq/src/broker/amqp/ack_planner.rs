//! The decision which acknowledgements to send, separate from sending them.
//!
//! One frame can acknowledge everything up to a tag, which makes acknowledging cheap; but only if everything up to
//! that tag is settled. So settlements are collected, and sent as far as they are contiguous. Settlements after an
//! unsettled delivery (a hole) wait for the hole to close, as long as that is short and holds nothing up.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Settlement;

/// The time for which an acknowledgement waits for the closing of a hole before it.
const HOLE_PATIENCE: Duration = Duration::from_millis(20);

/// The maximum number of settlements that are collected, if the prefetch allows it.
const BATCH_MAX: usize = 64;

/// The settlements of one channel, whose tags count from 1 without gaps.
#[derive(Debug)]
pub(super) struct Ledger {
    prefetch: usize,
    /// The tag up to which every delivery is settled.
    floor: u64,
    /// The settled tags above the floor, as runs in rising order that do not touch. There are never more of them than
    /// unsettled deliveries, however long the first of those takes.
    runs: Vec<RangeInclusive<u64>>,
    /// Acknowledged deliveries whose acknowledgement has not been sent.
    acks: Vec<u64>,
    /// Deliveries given back, whose requeue has not been sent.
    requeues: Vec<u64>,
    /// The first unsettled delivery with a settled one after it, and the time at which that was found.
    hole: Option<(u64, Instant)>,
    gathered: usize,
}

/// The frames to send, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// Deliveries to give back, one by one.
    pub(super) requeue: Vec<u64>,
    /// The tag up to which to acknowledge everything. The tag itself is still unacknowledged: brokers close the
    /// channel if it is not.
    pub(super) ack_up_to: Option<u64>,
    /// Deliveries to acknowledge one by one.
    pub(super) ack: Vec<u64>,
}

impl Ledger {
    /// Makes the planner of a channel on which nothing was delivered yet.
    pub(super) fn new(prefetch: u16) -> Self {
        let mut ledger = Self {
            prefetch: 0,
            floor: 0,
            runs: Vec::new(),
            acks: Vec::new(),
            requeues: Vec::new(),
            hole: None,
            gathered: 0,
        };
        ledger.set_prefetch(prefetch);
        ledger
    }

    /// Sets the prefetch. The smaller it is, the fewer acknowledgements may wait, since each keeps a message away.
    /// Zero is no limit.
    pub(super) fn set_prefetch(&mut self, prefetch: u16) {
        self.prefetch = if prefetch == 0 { usize::from(u16::MAX) } else { prefetch.into() };
    }

    /// Notes a settlement, and returns whether there are enough to be sent.
    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) -> bool {
        if !self.enter(tag) {
            return false;
        }
        match settlement {
            Settlement::Ack => self.acks.push(tag),
            Settlement::Requeue => self.requeues.push(tag),
        }
        self.gathered += 1;
        self.gathered >= BATCH_MAX.min(self.prefetch / 2).max(1)
    }

    /// Whether the delivery `tag` is settled.
    pub(super) fn is_settled(&self, tag: u64) -> bool {
        let at = self.runs.partition_point(|run| *run.end() < tag);
        tag <= self.floor || self.runs.get(at).is_some_and(|run| run.contains(&tag))
    }

    /// Whether no settlement waits to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.acks.is_empty() && self.requeues.is_empty()
    }

    /// Takes the settlements to be sent now. `all`: none may wait, because this is the last call.
    pub(super) fn take(&mut self, now: Instant, all: bool) -> Frames {
        self.gathered = 0;
        let mut frames = Frames { requeue: std::mem::take(&mut self.requeues), ..Frames::default() };
        if let Some(first) = self.runs.first()
            && *first.start() == self.floor + 1
        {
            self.floor = *first.end();
            self.runs.remove(0);
            let floor = self.floor;
            self.acks.retain(|&tag| {
                if tag <= floor {
                    frames.ack_up_to = frames.ack_up_to.max(Some(tag));
                }
                tag > floor
            });
        }
        if self.acks.is_empty() {
            self.hole = None;
            return frames;
        }
        let hole = self.floor + 1;
        let since = match self.hole {
            Some((tag, since)) if tag == hole => since,
            _ => now,
        };
        self.hole = Some((hole, since));
        let crowded = self.acks.len() >= (self.prefetch / 4).max(1);
        if all || crowded || now.duration_since(since) >= HOLE_PATIENCE {
            frames.ack = std::mem::take(&mut self.acks);
        }
        frames
    }

    /// Adds `tag` to the settled ones. Returns false if it is among them.
    fn enter(&mut self, tag: u64) -> bool {
        if tag <= self.floor {
            return false;
        }
        // The first run that ends at or after the tag.
        let at = self.runs.partition_point(|run| *run.end() < tag);
        if self.runs.get(at).is_some_and(|run| run.contains(&tag)) {
            return false;
        }
        let touches_left = at > 0 && *self.runs[at - 1].end() + 1 == tag;
        let touches_right = self.runs.get(at).is_some_and(|run| *run.start() == tag + 1);
        match (touches_left, touches_right) {
            (true, true) => {
                let right = self.runs.remove(at);
                self.runs[at - 1] = *self.runs[at - 1].start()..=*right.end();
            }
            (true, false) => self.runs[at - 1] = *self.runs[at - 1].start()..=tag,
            (false, true) => self.runs[at] = tag..=*self.runs[at].end(),
            (false, false) => self.runs.insert(at, tag..=tag),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn up_to(tag: u64) -> Frames {
        Frames { ack_up_to: Some(tag), ..Frames::default() }
    }

    #[test]
    fn the_contiguous_prefix_is_acknowledged_at_once() {
        let mut ledger = Ledger::new(256);
        let now = Instant::now();
        for tag in [2, 1, 3, 5] {
            assert!(!ledger.settle(tag, Settlement::Ack));
        }
        assert_eq!(ledger.take(now, false), up_to(3));
        ledger.settle(4, Settlement::Ack);
        assert_eq!(ledger.take(now, false), up_to(5));
        assert!(ledger.is_idle());
        assert_eq!(ledger.take(now, false), Frames::default());
    }

    #[test]
    fn behind_an_old_hole_each_goes_for_itself() {
        let mut ledger = Ledger::new(256);
        let start = Instant::now();
        ledger.settle(2, Settlement::Ack);
        assert_eq!(ledger.take(start, false), Frames::default());
        ledger.settle(3, Settlement::Ack);
        assert_eq!(ledger.take(start + Duration::from_millis(19), false), Frames::default());
        let frames = ledger.take(start + Duration::from_millis(20), false);
        assert_eq!(frames, Frames { ack: vec![2, 3], ..Frames::default() });
        // The hole keeps its age.
        ledger.settle(4, Settlement::Ack);
        let frames = ledger.take(start + Duration::from_millis(21), false);
        assert_eq!(frames, Frames { ack: vec![4], ..Frames::default() });
        // The named tag must still be unacknowledged: 1, not 4.
        ledger.settle(1, Settlement::Ack);
        assert_eq!(ledger.take(start + Duration::from_millis(22), false), up_to(1));
    }

    #[test]
    fn a_hole_may_not_hold_up_a_small_prefetch() {
        let mut ledger = Ledger::new(8);
        let now = Instant::now();
        ledger.settle(2, Settlement::Ack);
        assert_eq!(ledger.take(now, false), Frames::default());
        ledger.settle(3, Settlement::Ack);
        assert_eq!(ledger.take(now, false), Frames { ack: vec![2, 3], ..Frames::default() });
    }

    #[test]
    fn what_is_given_back_closes_holes() {
        let mut ledger = Ledger::new(256);
        ledger.settle(2, Settlement::Ack);
        ledger.settle(1, Settlement::Requeue);
        ledger.settle(3, Settlement::Requeue);
        let frames = ledger.take(Instant::now(), false);
        assert_eq!(frames, Frames { requeue: vec![1, 3], ack_up_to: Some(2), ack: vec![] });
    }

    #[test]
    fn batches_are_64_or_half_the_prefetch() {
        for (prefetch, batch) in [(0, 64), (1, 1), (2, 1), (3, 1), (8, 4), (100, 50), (128, 64), (1000, 64)] {
            let mut ledger = Ledger::new(prefetch);
            let due = (1..).find(|&tag| ledger.settle(tag, Settlement::Ack));
            assert_eq!(due, Some(batch), "prefetch {prefetch}");
        }
    }

    proptest! {
        /// Plays a broker that closes the channel over any mistake: each settlement is carried out exactly once and as
        /// intended, and nothing else is.
        #[test]
        fn brokers_agree(
            order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(),
            requeued in proptest::collection::btree_set(1..=60_u64, 0..20),
            settled in 0..=60_usize,
            takes in proptest::collection::btree_set(0..60_usize, 0..20),
            prefetch in 0..200_u16,
        ) {
            let mut ledger = Ledger::new(prefetch);
            let mut unsettled: BTreeSet<u64> = (1..=60).collect();
            let mut done = BTreeSet::new();
            let mut now = Instant::now();
            for (at, &tag) in order[..settled].iter().enumerate() {
                unsettled.remove(&tag);
                let settlement = if requeued.contains(&tag) { Settlement::Requeue } else { Settlement::Ack };
                ledger.settle(tag, settlement);
                let last = at + 1 == settled;
                if takes.contains(&at) || last {
                    now += Duration::from_millis(7);
                    let frames = ledger.take(now, last);
                    for tag in frames.requeue {
                        prop_assert!(requeued.contains(&tag) && done.insert(tag));
                    }
                    if let Some(top) = frames.ack_up_to {
                        prop_assert!(!done.contains(&top));
                        for tag in 1..=top {
                            prop_assert!(!unsettled.contains(&tag), "{} is not settled", tag);
                            // Deliveries that were given back are not covered, and those acknowledged one by one
                            // before are unaffected.
                            prop_assert!(!requeued.contains(&tag) || done.contains(&tag), "{} was to go back", tag);
                            done.insert(tag);
                        }
                    }
                    for tag in frames.ack {
                        prop_assert!(!requeued.contains(&tag) && done.insert(tag));
                    }
                }
            }
            prop_assert_eq!(done, order[..settled].iter().copied().collect::<BTreeSet<_>>());
            prop_assert!(ledger.is_idle());
        }
    }
}
