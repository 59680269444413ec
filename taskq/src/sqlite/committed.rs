//! The changes of one transaction, as its observers are told of them.

use bytes::Bytes;

use crate::message::TaskId;

/// The changes of one transaction that others may be waiting for.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// Queues in which messages became ready.
    pub(crate) queues: Vec<i64>,
    /// Records that were stored.
    pub(crate) changes: Vec<Change>,
    /// Leases that were ended; their lock files can be deleted.
    pub(crate) ended: Vec<i64>,
}

/// A record that was stored.
#[derive(Debug)]
pub(crate) struct Change {
    /// The number of the record: larger than that of every record stored before.
    pub(crate) number: i64,
    /// The task that the record belongs to.
    pub(crate) task: TaskId,
    /// The stored document.
    pub(crate) document: Bytes,
}

impl Committed {
    /// Notes that a message is ready in `queue`.
    pub(crate) fn arrived(&mut self, queue: i64) {
        if !self.queues.contains(&queue) {
            self.queues.push(queue);
        }
    }
}
