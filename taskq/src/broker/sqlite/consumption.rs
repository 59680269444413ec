//! A reader as the port shows it: a stream of deliveries, and how to steer it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};

use super::reader::Reader;
use crate::broker::{ConsumptionControl, Delivery};

/// Keeps a reader open: once the stream and the control are both gone, what was not settled goes back. Ackers do not
/// keep it open.
pub(super) struct Hold(pub(super) Arc<Reader>);

impl ConsumptionControl for Hold {
    fn set_prefetch(&self, prefetch: u16) {
        self.0.set_prefetch(prefetch.into());
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn is_live(&self) -> bool {
        self.0.takes() && self.0.works()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close();
        self.0.finished().boxed()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The messages of a reader.
pub(super) struct Deliveries(pub(super) Arc<Hold>);

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let reader = &self.0.0;
        if let Some(delivery) = reader.next() {
            return Poll::Ready(Some(delivery));
        }
        // Registered first and looked at again, so that a message which came in between is not slept through.
        reader.stream.register(context.waker());
        match reader.next() {
            Some(delivery) => Poll::Ready(Some(delivery)),
            None if reader.takes() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
