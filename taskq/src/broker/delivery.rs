//! A message that was taken from a queue, and the way to settle it.

use std::fmt;
use std::sync::Arc;

use crate::message::WireMessage;

/// A message that was taken from a queue and has to be settled.
#[derive(Debug)]
pub struct Delivery {
    /// Where it came from.
    pub queue: Arc<str>,
    /// What it is.
    pub message: WireMessage,
    /// The broker may have given it to somebody before.
    pub redelivered: bool,
    /// How often it came back before, where the broker counts that.
    pub delivery_count: Option<u32>,
    /// How to settle it.
    pub acker: Acker,
}

/// Settles one delivery, once. Dropped unused, the message stays unacknowledged and comes back when its consumption
/// closes.
pub struct Acker {
    settler: Arc<dyn Settler>,
    tag: u64,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done; the broker forgets the message.
    Ack,
    /// Not done; the broker gives the message to somebody, soon.
    Requeue,
}

/// The adapter's side of [`Acker`]: takes settlements and carries them out in batches.
pub trait Settler: Send + Sync {
    /// Takes note. Never waits, never fails: if the connection is gone so is the delivery, and the message comes
    /// back by itself.
    fn settle(&self, tag: u64, settlement: Settlement);

    /// Whether the deliveries of this settler can still be settled; false once their connection is gone, and
    /// other consumers may be given the messages.
    fn is_current(&self) -> bool;
}

impl Acker {
    /// The acker of the delivery that `settler` knows as `tag`.
    pub fn new(settler: Arc<dyn Settler>, tag: u64) -> Self {
        Self { settler, tag }
    }

    /// Tells the broker to forget the message.
    pub fn ack(self) {
        self.settler.settle(self.tag, Settlement::Ack);
    }

    /// Gives the message back, to be delivered again soon.
    pub fn requeue(self) {
        self.settler.settle(self.tag, Settlement::Requeue);
    }

    /// Whether settling still has an effect; see [`Settler::is_current`].
    pub fn is_current(&self) -> bool {
        self.settler.is_current()
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acker({}{})", self.tag, if self.is_current() { "" } else { ", stale" })
    }
}
