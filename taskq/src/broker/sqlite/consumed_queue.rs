//! The state of one queue in one consumption, and settlements that are still to be written.

use std::collections::VecDeque;
use std::sync::Arc;

use super::statements::TakenMessage;

/// The maximum number of messages of one queue that are taken in one transaction.
pub(super) const TAKEN_MAX: usize = 1000;

/// Settlements that are still to be written.
#[derive(Debug, Clone, Default)]
pub(super) struct Settled {
    /// Messages to be deleted.
    pub(super) done: Vec<i64>,
    /// Messages to be put back.
    pub(super) returned: Vec<i64>,
    /// Messages to be put back as if they had never been delivered.
    pub(super) unread: Vec<i64>,
}

/// A queue that a consumption takes messages from.
pub(super) struct ConsumedQueue {
    pub(super) number: i64,
    pub(super) name: Arc<str>,
    pub(super) unread: VecDeque<TakenMessage>,
    /// The number of unread and unsettled messages.
    pub(super) out: usize,
    /// The number of notices that a message is ready.
    pub(super) arrivals: u64,
    /// The number of notices at the time when the queue was last found empty.
    pub(super) empty_after: u64,
}

impl ConsumedQueue {
    pub(super) fn new(number: i64, name: Arc<str>) -> Self {
        // At first it is unknown whether the queue has messages.
        Self { number, name, unread: VecDeque::new(), out: 0, arrivals: 1, empty_after: 0 }
    }

    /// Whether a message may be ready.
    pub(super) fn is_promising(&self) -> bool {
        self.arrivals != self.empty_after
    }

    /// The number of further messages that may be taken. As in AMQP, a prefetch of zero is no limit.
    pub(super) fn room(&self, prefetch: usize) -> usize {
        if prefetch == 0 { TAKEN_MAX } else { prefetch.saturating_sub(self.out) }
    }

    /// Whether the reader may be waiting for a message that is ready. While it has unread ones, taking more can wait
    /// for the next settlements.
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
