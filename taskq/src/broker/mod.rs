//! The broker port: what carries task messages, and what every adapter promises.
//!
//! A broker takes a message and answers once it is safe ([`Broker::publish`]), gives it to one consumer at a time
//! ([`Broker::consume`]) and forgets it when it is acknowledged. Anything that is taken and not acknowledged comes
//! back. Delays live in the broker too, so a waiting message is never held by a worker.
//!
//! Adapters reconnect by themselves: a consumption goes on after an outage of any length, without help from
//! its reader. The promises are checked, adapter by adapter, by `taskq::conformance::broker`.

mod connect;
mod delivery;
mod delivery_timeout;
mod error;
mod options;
mod queue;
mod reading;

#[cfg(feature = "amqp")]
pub mod amqp;
pub mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;

pub use connect::connect;
pub use delivery::{Acker, Delivery, Settlement, Settler};
pub use delivery_timeout::{DeliveryTimeout, FetchControl, RENEWAL_PREFIX};
pub use error::{BrokerError, PublishError};
pub use options::BrokerOptions;
pub use queue::{DEAD_QUEUE, Declared, QUARANTINE_SUFFIX, QueueKind, QueueSpec, QueueStats};
pub(crate) use queue::{DEATH_QUEUE, DEATH_REASON, NO_QUEUE};

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
    /// given back ([`Acker::requeue`], or dropping the [`Browse`]).
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

/// Messages coming in.
pub struct Consumption {
    /// The messages. Pending while there is none and while the connection is being restored; ends only after
    /// [`ConsumptionControl::stop`], or where there is nothing left to recover, as after the deletion of a file. It may be
    /// polled on any runtime.
    pub deliveries: Pin<Box<dyn Stream<Item = Delivery> + Send>>,
    /// How to steer it.
    pub control: Arc<dyn ConsumptionControl>,
}

/// How to steer a [`Consumption`].
pub trait ConsumptionControl: Send + Sync {
    /// Changes how many unacknowledged messages per queue may be out. Takes effect soon, not at once.
    fn set_prefetch(&self, prefetch: u16);

    /// The capability to control what is fetched and not yet read. `None` where nothing grows old by waiting to be read,
    /// which is where [`Broker::delivery_timeout`] gives `None`.
    fn fetch_control(&self) -> Option<&dyn FetchControl> {
        None
    }

    /// Takes no further message. Those already fetched and not yet read from the stream are given back by the
    /// adapter; then the stream ends. Messages that were read stay valid and can still be acknowledged.
    fn stop(&self);

    /// Whether messages can come in at the moment: connected, and consuming from every queue.
    fn is_live(&self) -> bool;

    /// Sends the acknowledgements that are still pending and gives up the consumer. Messages that were read and not
    /// settled come back to the queue.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Messages taken out of a queue to be looked at. What is neither acknowledged nor requeued when this is dropped or
/// finished goes back.
pub struct Browse {
    /// The messages, oldest first.
    pub deliveries: Vec<Delivery>,
    /// Ends the look; see [`Browse::finish`].
    pub control: Arc<dyn ConsumptionControl>,
}

impl Browse {
    /// Carries out the acknowledgements that were given, puts the rest back, and returns when the broker has
    /// taken note.
    pub async fn finish(self) {
        let Self { deliveries, control } = self;
        for delivery in deliveries {
            delivery.acker.requeue();
        }
        control.close().await;
    }
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
