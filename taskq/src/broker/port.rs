//! The port: what every adapter does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::consumption::{Browse, Consumption};
use super::delivery_timeout::DeliveryTimeout;
use super::error::{BrokerError, PublishError};
use super::queue::{Declared, QueueSpec, QueueStats};
use crate::message::WireMessage;

/// A message on its way to a queue.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The queue's name. It must have been declared through this broker.
    pub queue: Arc<str>,
    /// The message.
    pub message: WireMessage,
    /// How long the broker holds it back. Zero and `None` are the same.
    pub delay: Option<Duration>,
}

/// What carries task messages.
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Makes the queue exist, as `spec` says or as it already is. Cheap when repeated. Remembered: after an outage
    /// the adapter declares it again by itself.
    fn declare<'a>(&'a self, spec: &'a QueueSpec) -> BoxFuture<'a, Result<Declared, BrokerError>>;

    /// Hands a message over. `Ok` means: it is in the queue (or waiting for its delay) and durable; it will be
    /// delivered at least once whatever crashes now. Anything else is an error, also where the broker confirmed a
    /// message that it could not route.
    ///
    /// The message is on its way as soon as this is called; the future only waits for the answer, so a batch is
    /// sent by calling this many times before awaiting. If the connection is lost before the answer came, the
    /// adapter sends the message again, marked as resent, until the timeout.
    fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>>;

    /// Begins to take messages from `queues`, at most `prefetch` unacknowledged ones per queue at a time. The queues
    /// must have been declared.
    fn consume<'a>(&'a self, queues: &'a [Arc<str>], prefetch: u16) -> BoxFuture<'a, Result<Consumption, BrokerError>>;

    /// Takes up to `limit` messages out of `queue` to look at. Each is either acknowledged, which removes it, or
    /// given back ([`Acker::requeue`](super::Acker::requeue), or dropping the [`Browse`]).
    fn browse<'a>(&'a self, queue: &'a str, limit: usize) -> BoxFuture<'a, Result<Browse, BrokerError>>;

    /// What is in `queue`. An error of kind [`BrokerError::NoQueue`] if there is no such queue.
    fn stats<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<QueueStats, BrokerError>>;

    /// Removes all messages that are ready in `queue` (not those being worked on, nor those waiting for a delay) and
    /// says how many.
    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>>;

    /// The capability to renew deliveries. `None` where a delivery may stay unsettled for as long as it takes.
    fn delivery_timeout(&self) -> Option<&dyn DeliveryTimeout> {
        None
    }

    /// Product, version and what it can do, for people.
    fn info(&self) -> BoxFuture<'_, Result<BrokerInfo, BrokerError>>;

    /// Sends what is still to be sent (acknowledgements above all) and closes the connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// For example `RabbitMQ`.
    pub product: String,
    /// For example `3.10.8`.
    pub version: String,
    /// What it can and cannot do, one per line, for people.
    pub capabilities: Vec<String>,
}
