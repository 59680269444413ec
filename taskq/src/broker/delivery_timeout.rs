//! Capabilities of a broker that takes back deliveries that are not settled in time.
//!
//! RabbitMQ closes the channel of a delivery that stays unacknowledged past its `consumer_timeout`; since 4.3 it ends
//! the consumer, which may have asked for another time. A consumer that needs longer publishes a copy of the message to
//! a queue that only it consumes from, takes the copy, and acknowledges the delivery it had; then the time limit starts
//! again. If its process dies, the copy goes to the queue that the message came from.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{BrokerError, Consumption};

/// The prefix of the names of renewal queues.
pub const RENEWAL_PREFIX: &str = "taskq.renew.";

/// Renewal of deliveries, on a broker that takes back deliveries that are not settled in time.
pub trait DeliveryTimeout: Send + Sync {
    /// The time within which a delivery from `queue` has to be settled, as the broker of the current connection has it.
    /// After it, the broker takes the delivery back, and possibly all others of the same channel.
    fn settle_within(&self, queue: &str) -> Duration;

    /// Declares the renewal queue `queue`, for copies of messages of `origin`, and begins to consume from it without a
    /// limit on unsettled deliveries. It is published to like any other queue.
    ///
    /// A copy that is requeued here goes to `origin`, and so does one that is not taken within some seconds or whose
    /// consumer died; none is lost with its process. The broker deletes the queue a day after its last consumer is
    /// gone.
    fn open_renewal_queue<'a>(
        &'a self,
        queue: &'a str,
        origin: &'a str,
    ) -> BoxFuture<'a, Result<Consumption, BrokerError>>;

    /// Deletes the renewal queue `queue` with its content. To be called only when every copy is known to be
    /// acknowledged.
    fn delete_renewal_queue<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>>;
}

/// Control over fetching, on a broker where the delivery timeout also applies to messages that wait to be read.
pub trait FetchControl: Send + Sync {
    /// Changes the prefetch like [`set_prefetch`](super::ConsumptionControl::set_prefetch), except that unsettled
    /// deliveries count against the new limit and nothing is fetched until the stream is polled again. For a reader
    /// whose slots are mostly occupied by long tasks.
    fn cap_outstanding(&self, prefetch: u16);

    /// Gives back messages that were fetched and not read, and fetches nothing until the stream is polled again. For a
    /// reader that will be busy for long. Completes when the broker has confirmed it.
    fn suspend_fetching(&self) -> BoxFuture<'_, ()>;
}
