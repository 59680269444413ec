//! The parts of a test's queue, shared by its clones and by its drains.

use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::current::Seat;
use crate::attempt::StateMap;
use crate::broker::memory::{MemoryBroker, Waiting};
use crate::broker::{DEAD_QUEUE, Publication};
use crate::client::Client;
use crate::definition::Registry;
use crate::message::WireMessage;

/// The broker and the backend are in memory, and the queue's own.
pub(super) const IN_MEMORY: &str = "what is in memory can be reached, unless the test has closed its client";

/// The client, stores and tasks of one test, shared by all clones of its queue.
pub(super) struct QueueParts {
    pub(super) client: Client,
    pub(super) broker: Arc<MemoryBroker>,
    pub(super) registry: Registry,
    pub(super) state: StateMap,
    pub(super) runs_max: usize,
    pub(super) begun_at: &'static Location<'static>,
    pub(super) seat: OnceLock<Seat>,
}

impl QueueParts {
    /// Returns the time by the test's clock.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.client.clock().now()
    }

    /// Returns all waiting messages, except those of the dead set.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Waiting> {
        self.broker.waiting().into_iter().filter(|waiting| &*waiting.queue != DEAD_QUEUE)
    }

    /// Publishes a message, declaring its queue first.
    pub(super) async fn publish(&self, queue: &str, message: WireMessage, delay: Option<Duration>) {
        let queue = self.client.declare(queue).await.expect(IN_MEMORY);
        self.client.publish(Publication { queue, message, delay }).await.expect(IN_MEMORY);
    }
}
