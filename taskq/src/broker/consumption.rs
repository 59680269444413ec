//! Consumption of messages: a stream of deliveries, and the control over it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::future::BoxFuture;

use super::delivery::Delivery;
use super::delivery_timeout::FetchControl;

/// A running consumption.
#[non_exhaustive]
pub struct Consumption {
    /// The incoming messages. The stream is pending while there are none and while the connection is being restored.
    /// It ends only after [`ConsumptionControl::stop`], or when recovery is impossible, as after the deletion of a
    /// file. It may be polled on any runtime.
    pub deliveries: Pin<Box<dyn Stream<Item = Delivery> + Send>>,
    /// The control over the stream.
    pub control: Arc<dyn ConsumptionControl>,
}

impl Consumption {
    /// A consumption with this stream and its control.
    pub fn new(
        deliveries: impl Stream<Item = Delivery> + Send + 'static,
        control: Arc<dyn ConsumptionControl>,
    ) -> Self {
        Self { deliveries: Box::pin(deliveries), control }
    }
}

/// Control over a [`Consumption`].
pub trait ConsumptionControl: Send + Sync {
    /// Changes the maximum number of unacknowledged messages per queue. It takes effect soon, not at once.
    fn set_prefetch(&self, prefetch: u16);

    /// Gives back the messages that were fetched and not read, since the reader is busy and others may not be. Nothing
    /// more is fetched from their queues until the stream is polled again. Where the adapter counts returns by itself,
    /// this is none.
    fn give_back_unread(&self);

    /// The capability to control messages that are fetched and not yet read. `None` if messages may wait to be read
    /// for any time, which is where [`Broker::delivery_timeout`](super::Broker::delivery_timeout) returns `None`.
    fn fetch_control(&self) -> Option<&dyn FetchControl> {
        None
    }

    /// Stops fetching messages. The adapter gives back those that were fetched and not yet read from the stream; then
    /// the stream ends. Messages that were read stay valid and can still be acknowledged.
    fn stop(&self);

    /// Whether messages can arrive at the moment: connected, and consuming from every queue.
    fn is_live(&self) -> bool;

    /// Whether no message will arrive any more: the consumption was stopped, or nothing is left that it could recover.
    fn has_ended(&self) -> bool;

    /// Sends the pending acknowledgements and closes the consumer. Messages that were read and not settled return to
    /// the queue.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Messages taken out of a queue for inspection. Those that are neither acknowledged nor requeued return to the queue
/// when this is finished or dropped.
#[non_exhaustive]
pub struct Browse {
    /// The messages, oldest first.
    pub deliveries: Vec<Delivery>,
    /// The control that ends the inspection; see [`Browse::finish`].
    pub control: Arc<dyn ConsumptionControl>,
}

impl Browse {
    /// These messages, which `control` gives back in the end.
    pub fn new(deliveries: Vec<Delivery>, control: Arc<dyn ConsumptionControl>) -> Self {
        Self { deliveries, control }
    }

    /// Carries out the acknowledgements, puts the other messages back, and completes when the broker has confirmed
    /// both.
    pub async fn finish(self) {
        let Self { deliveries, control } = self;
        for delivery in deliveries {
            delivery.acker.requeue();
        }
        control.close().await;
    }
}
