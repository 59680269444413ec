//! A message taken from a queue, and the means to settle it.

use std::fmt;
use std::sync::Arc;

use crate::message::WireMessage;

/// A message that was taken from a queue and has to be settled.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The queue that the message was taken from.
    pub queue: Arc<str>,
    /// The message itself.
    pub message: WireMessage,
    /// Whether the broker may have delivered the message before.
    pub redelivered: bool,
    /// The number of times the message has returned to the queue, if the broker counts that.
    pub delivery_count: Option<u32>,
    /// The means to settle the delivery.
    pub acker: Acker,
}

impl Delivery {
    /// A message from `queue`, which was not delivered before as far as is known.
    pub fn new(queue: impl Into<Arc<str>>, message: WireMessage, acker: Acker) -> Self {
        Self { queue: queue.into(), message, redelivered: false, delivery_count: None, acker }
    }
}

/// Settles one delivery, once. If it is dropped unused, the message stays unacknowledged and returns to the queue when
/// its consumption closes.
pub struct Acker {
    settler: Arc<dyn Settler>,
    tag: u64,
}

/// The settlement of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Processed: the broker deletes the message.
    Ack,
    /// Not processed: the broker delivers the message again, soon.
    Requeue,
}

/// The adapter's side of [`Acker`]: takes settlements and carries them out in batches.
pub trait Settler: Send + Sync {
    /// Notes a settlement. Never waits and never fails: if the connection is gone, so is the delivery, and the message
    /// returns to the queue by itself.
    fn settle(&self, tag: u64, settlement: Settlement);

    /// Whether the delivery can still be settled. False once its connection is gone or the broker has taken it back,
    /// when other consumers may get the message.
    fn is_current(&self, tag: u64) -> bool;
}

impl Acker {
    /// Makes the acker of the delivery that `settler` knows as `tag`.
    pub fn new(settler: Arc<dyn Settler>, tag: u64) -> Self {
        Self { settler, tag }
    }

    /// Acknowledges the message, which the broker then deletes.
    pub fn ack(self) {
        self.settler.settle(self.tag, Settlement::Ack);
    }

    /// Gives the message back, to be delivered again soon.
    pub fn requeue(self) {
        self.settler.settle(self.tag, Settlement::Requeue);
    }

    /// Whether settling still has an effect; see [`Settler::is_current`].
    pub fn is_current(&self) -> bool {
        self.settler.is_current(self.tag)
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acker({}{})", self.tag, if self.is_current() { "" } else { ", stale" })
    }
}
