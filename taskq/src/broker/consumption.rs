//! Messages coming in: a stream of deliveries, and the control over it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::future::BoxFuture;

use super::delivery::Delivery;
use super::delivery_timeout::FetchControl;

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
    /// which is where [`Broker::delivery_timeout`](super::Broker::delivery_timeout) gives `None`.
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
