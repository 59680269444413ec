//! The port: the operations of every adapter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::broadcast::Broadcast;
use super::consumption::{Browse, Consumption};
use super::delivery_timeout::DeliveryTimeout;
use super::error::{BrokerError, PublishError};
use super::expired::ExpiredMessages;
use super::queue::{Declared, QueueSpec, QueueStats};
use crate::message::WireMessage;

/// A message to be published to a queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Publication {
    /// The name of the queue, which must have been declared through this broker.
    pub queue: Arc<str>,
    /// The message.
    pub message: WireMessage,
    /// The time for which the broker holds the message back. Zero and `None` are equivalent.
    pub delay: Option<Duration>,
}

impl Publication {
    /// A message to be published at once.
    pub fn new(queue: impl Into<Arc<str>>, message: WireMessage) -> Self {
        Self { queue: queue.into(), message, delay: None }
    }

    /// Sets the time for which the broker holds the message back; `None` for no time.
    #[must_use]
    pub fn delayed(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.delay = delay.into();
        self
    }
}

/// A transport of task messages.
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Declares the queue as `spec` says, or accepts it as it exists. Cheap when repeated. After an outage the adapter
    /// declares it again by itself.
    fn declare<'a>(&'a self, spec: &'a QueueSpec) -> BoxFuture<'a, Result<Declared, BrokerError>>;

    /// Publishes a message. `Ok` means that it is in the queue (or waiting for its delay) and durable: it will be
    /// delivered at least once, even if processes crash now. Every other outcome is an error, including a message that
    /// the broker confirmed without being able to route it.
    ///
    /// The message is sent as soon as this is called; the future only waits for the answer. So a batch is sent by
    /// calling this many times before awaiting. If the connection is lost before the answer has arrived, the adapter
    /// sends the message again, marked as resent, until the timeout.
    fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>>;

    /// Begins to take messages from `queues`, with at most `prefetch` unacknowledged ones per queue at a time. The
    /// queues must have been declared.
    fn consume<'a>(&'a self, queues: &'a [Arc<str>], prefetch: u16) -> BoxFuture<'a, Result<Consumption, BrokerError>>;

    /// Takes up to `limit` messages out of `queue` for inspection. Each is either acknowledged, which deletes it, or
    /// given back, by [`Acker::requeue`](super::Acker::requeue) or by dropping the [`Browse`].
    fn browse<'a>(&'a self, queue: &'a str, limit: usize) -> BoxFuture<'a, Result<Browse, BrokerError>>;

    /// The content of `queue`. Fails with [`BrokerError::NoQueue`] if there is no such queue.
    fn stats<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<QueueStats, BrokerError>>;

    /// Deletes all ready messages of `queue`, but not those being processed or waiting for a delay, and returns their
    /// number.
    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>>;

    /// The capability to renew deliveries. `None` if a delivery may stay unsettled for any time.
    fn delivery_timeout(&self) -> Option<&dyn DeliveryTimeout> {
        None
    }

    /// The capability to report messages that expired in their queue. `None` if none is dropped for that.
    fn expired_messages(&self) -> Option<&dyn ExpiredMessages> {
        None
    }

    /// The capability to carry messages to everybody who listens. `None` if this broker has queues of tasks alone.
    fn broadcast(&self) -> Option<&dyn Broadcast> {
        None
    }

    /// Product, version and capabilities, for people.
    fn info(&self) -> BoxFuture<'_, Result<BrokerInfo, BrokerError>>;

    /// Sends what is pending (above all acknowledgements) and closes the connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A description of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerInfo {
    /// The product, for example `RabbitMQ`.
    pub product: String,
    /// The version, for example `3.10.8`.
    pub version: String,
    /// Capabilities and limitations, one per line, for people.
    pub capabilities: Vec<String>,
}

impl BrokerInfo {
    /// A description without capabilities.
    pub fn new(product: impl Into<String>, version: impl Into<String>) -> Self {
        Self { product: product.into(), version: version.into(), capabilities: Vec::new() }
    }
}
