//! A consumption whose messages are at hand: one stream, and one way to steer it, for the adapters that have no connection
//! to mend. What they take and when is their reader's own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{self, BoxFuture};
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, Stream};

use super::{Consumption, ConsumptionControl, Delivery};

/// Takes messages from some queues, and settles them.
pub(super) trait PullReader: Send + Sync + 'static {
    /// The next message, if there is one now that may be taken.
    fn next(self: &Arc<Self>) -> Option<Delivery>;

    /// Whether it still takes messages.
    fn takes(&self) -> bool;

    /// Who is to be woken when there may be a message, and when it takes no more.
    fn waker(&self) -> &AtomicWaker;

    /// Changes how many messages per queue may be taken and not settled; zero is no bound.
    fn set_prefetch(&self, prefetch: usize);

    /// Takes nothing any more, and gives back what nobody has read.
    fn stop(&self);

    /// Whether messages can come in at the moment.
    fn is_live(&self) -> bool {
        self.takes()
    }

    /// Gives everything back that was not settled.
    fn close(&self);

    /// Waits until everything is given back.
    fn finished(&self) -> BoxFuture<'_, ()> {
        future::ready(()).boxed()
    }
}

/// The reader as the port shows it.
pub(super) fn consumption<R: PullReader>(reader: Arc<R>) -> Consumption {
    let hold = Arc::new(OpenReader(reader));
    Consumption { deliveries: Box::pin(DeliveryStream(Arc::clone(&hold))), control: hold }
}

/// What keeps the reader open that was read from already.
pub(super) fn control<R: PullReader>(reader: Arc<R>) -> Arc<dyn ConsumptionControl> {
    Arc::new(OpenReader(reader))
}

/// Keeps a reader open: once the stream and the control are both gone, what was not settled goes back. Ackers do not
/// keep it open.
struct OpenReader<R: PullReader>(Arc<R>);

impl<R: PullReader> ConsumptionControl for OpenReader<R> {
    fn set_prefetch(&self, prefetch: u16) {
        self.0.set_prefetch(prefetch.into());
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn is_live(&self) -> bool {
        self.0.is_live()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close();
        self.0.finished()
    }
}

impl<R: PullReader> Drop for OpenReader<R> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The messages of a reader.
struct DeliveryStream<R: PullReader>(Arc<OpenReader<R>>);

impl<R: PullReader> Stream for DeliveryStream<R> {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let reader = &self.0.0;
        if let Some(delivery) = reader.next() {
            return Poll::Ready(Some(delivery));
        }
        // Registered first and looked at again, so that a message which came in between is not slept through.
        reader.waker().register(context.waker());
        match reader.next() {
            Some(delivery) => Poll::Ready(Some(delivery)),
            None if reader.takes() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
