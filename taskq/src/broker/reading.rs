//! A consumption for the adapters without a connection that could be lost: one stream and one control, over a reader
//! that decides which messages are taken and when.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{self, BoxFuture};
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, Stream};

use super::{Consumption, ConsumptionControl, Delivery};

/// A source of messages from some queues, which also settles them.
pub(super) trait PullReader: Send + Sync + 'static {
    /// The next message, if one can be taken now.
    fn next(self: &Arc<Self>) -> Option<Delivery>;

    /// Whether messages are still taken.
    fn takes(&self) -> bool;

    /// The waker of the stream, to be woken when there may be a message, and when no more will be taken.
    fn waker(&self) -> &AtomicWaker;

    /// Changes the maximum number of unsettled messages per queue; zero is no limit.
    fn set_prefetch(&self, prefetch: usize);

    /// Gives back the messages that were taken and not read, and takes no more until [`next`](Self::next) is called.
    fn give_back_unread(&self);

    /// Stops taking messages, and gives back those that were not read.
    fn stop(&self);

    /// Whether messages can arrive at the moment.
    fn is_live(&self) -> bool {
        self.takes()
    }

    /// Gives back all messages that were not settled.
    fn close(&self);

    /// Waits until all messages are given back.
    fn finished(&self) -> BoxFuture<'_, ()> {
        future::ready(()).boxed()
    }
}

/// Makes a consumption of a reader.
pub(super) fn consumption<R: PullReader>(reader: Arc<R>) -> Consumption {
    let hold = Arc::new(OpenReader(reader));
    Consumption { deliveries: Box::pin(DeliveryStream(Arc::clone(&hold))), control: hold }
}

/// Makes a control that keeps a reader open, for messages that have been read already.
pub(super) fn control<R: PullReader>(reader: Arc<R>) -> Arc<dyn ConsumptionControl> {
    Arc::new(OpenReader(reader))
}

/// A guard that keeps a reader open: when the stream and the control are both dropped, unsettled messages are given
/// back. Ackers do not keep it open.
struct OpenReader<R: PullReader>(Arc<R>);

impl<R: PullReader> ConsumptionControl for OpenReader<R> {
    fn set_prefetch(&self, prefetch: u16) {
        self.0.set_prefetch(prefetch.into());
    }

    fn give_back_unread(&self) {
        self.0.give_back_unread();
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn is_live(&self) -> bool {
        self.0.is_live()
    }

    fn has_ended(&self) -> bool {
        !self.0.takes()
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

/// The stream of a reader's messages.
struct DeliveryStream<R: PullReader>(Arc<OpenReader<R>>);

impl<R: PullReader> Stream for DeliveryStream<R> {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let reader = &self.0.0;
        if let Some(delivery) = reader.next() {
            return Poll::Ready(Some(delivery));
        }
        // The waker is registered before the second attempt, so that a message that arrives in between is not missed.
        reader.waker().register(context.waker());
        match reader.next() {
            Some(delivery) => Poll::Ready(Some(delivery)),
            None if reader.takes() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
