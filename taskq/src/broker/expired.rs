//! A capability of a broker that drops messages by itself when their time is over.
//!
//! RabbitMQ drops a message that its sender gave an expiry of its own, as Celery does, if nobody has taken it by then.
//! Without a report, nobody would tell those that wait for the task.

use futures_util::future::BoxFuture;

use super::{BrokerError, Consumption};

/// The queue in which such messages are reported, for one of the workers.
pub const EXPIRED_QUEUE: &str = "taskq.expired";

/// Reports of messages that expired in their queue.
pub trait ExpiredMessages: Send + Sync {
    /// Begins to take the reports: each is a copy of the message, with the broker's notes on its death. Acknowledged, a
    /// report is gone; the message itself is in the dead set. Messages of queues that were not declared by this program
    /// are not reported.
    fn consume_expired(&self) -> BoxFuture<'_, Result<Consumption, BrokerError>>;
}
