//! What one consumption knows of a queue, and what of it was settled.

use std::collections::VecDeque;
use std::sync::Arc;

use super::statements::TakenMessage;

/// How many messages of one queue are taken in one transaction.
pub(super) const TAKEN_MAX: usize = 1000;

/// What was settled and is yet to be written.
#[derive(Debug, Clone, Default)]
pub(super) struct Settled {
    /// To be forgotten.
    pub(super) done: Vec<i64>,
    /// To be put back.
    pub(super) returned: Vec<i64>,
    /// To be put back as if nobody had had it.
    pub(super) unread: Vec<i64>,
}

/// A queue that a consumption takes from.
pub(super) struct ConsumedQueue {
    pub(super) number: i64,
    pub(super) name: Arc<str>,
    pub(super) unread: VecDeque<TakenMessage>,
    /// How many are unread or unsettled.
    pub(super) out: usize,
    /// Counts the times when something was said to be ready.
    pub(super) arrivals: u64,
    /// After which of them it was found empty.
    pub(super) empty_after: u64,
}

impl ConsumedQueue {
    pub(super) fn new(number: i64, name: Arc<str>) -> Self {
        // Whether anything is in it is not known yet.
        Self { number, name, unread: VecDeque::new(), out: 0, arrivals: 1, empty_after: 0 }
    }

    /// Whether something may be ready.
    pub(super) fn is_promising(&self) -> bool {
        self.arrivals != self.empty_after
    }

    /// How many more may be taken. As in AMQP, a prefetch of zero is no bound.
    pub(super) fn room(&self, prefetch: usize) -> usize {
        if prefetch == 0 { TAKEN_MAX } else { prefetch.saturating_sub(self.out) }
    }

    /// Whether somebody may wait for a message that is there. While something is unread, taking more can wait for
    /// the next settlements.
    pub(super) fn is_hungry(&self, prefetch: usize) -> bool {
        self.is_promising() && self.unread.is_empty() && self.room(prefetch) > 0
    }
}

impl Settled {
    pub(super) fn len(&self) -> usize {
        self.done.len() + self.returned.len() + self.unread.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn append(&mut self, later: &mut Self) {
        self.done.append(&mut later.done);
        self.returned.append(&mut later.returned);
        self.unread.append(&mut later.unread);
    }
}
