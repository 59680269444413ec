//! One consumption: what it took and has not settled, and how much more it may take.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{self, BoxFuture};
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, Stream};

use super::store::{Place, Store, Stored};
use crate::broker::{Acker, ConsumptionControl, Delivery, Settlement, Settler};

/// Takes messages from some queues, and settles them.
pub(super) struct Reader {
    store: Arc<Store>,
    queues: Vec<Arc<str>>,
    prefetch: AtomicUsize,
    /// Takes nothing any more.
    stopped: AtomicBool,
    /// Gave everything back; what was taken cannot be settled any more.
    closed: AtomicBool,
    taken: Mutex<Taken>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Taken {
    unsettled: HashMap<u64, (usize, Place, Stored)>,
    /// How many are out, per queue.
    out: Vec<usize>,
    tags: u64,
    /// The queue to look at first, so that a full one cannot starve the others.
    next: usize,
}

impl Reader {
    pub(super) fn new(store: Arc<Store>, queues: &[Arc<str>], prefetch: usize) -> Self {
        Self {
            store,
            queues: queues.to_vec(),
            prefetch: AtomicUsize::new(prefetch),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            taken: Mutex::new(Taken { out: vec![0; queues.len()], ..Taken::default() }),
            waker: AtomicWaker::new(),
        }
    }

    /// Whether it still takes messages.
    pub(super) fn takes(&self) -> bool {
        !self.stopped.load(Ordering::Acquire)
    }

    /// Tells it to look again; false if it never will.
    pub(super) fn wake(&self) -> bool {
        self.waker.wake();
        self.takes()
    }

    /// The next message, if there is one and the prefetch allows it.
    pub(super) fn take(self: &Arc<Self>) -> Option<Delivery> {
        // The lock is held while the queues are looked at, so that `close` either comes first and nothing is taken,
        // or comes after and finds what was.
        let mut taken = self.lock();
        if !self.takes() {
            return None;
        }
        let (count, prefetch) = (self.queues.len(), self.prefetch.load(Ordering::Acquire));
        for at in (0..count).map(|offset| (taken.next + offset) % count) {
            // As in AMQP, a prefetch of zero is no bound.
            if prefetch != 0 && taken.out[at] >= prefetch {
                continue;
            }
            if let Some((place, stored)) = self.store.take(&self.queues[at]) {
                taken.next = at + 1;
                taken.tags += 1;
                taken.out[at] += 1;
                let delivery = Delivery {
                    queue: Arc::clone(&self.queues[at]),
                    message: stored.message.clone(),
                    redelivered: stored.returns > 0,
                    delivery_count: Some(stored.returns),
                    acker: Acker::new(Arc::clone(self) as Arc<dyn Settler>, taken.tags),
                };
                let tag = taken.tags;
                taken.unsettled.insert(tag, (at, place, stored));
                return Some(delivery);
            }
        }
        None
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Gives everything back that was not settled.
    pub(super) fn close(&self) {
        self.stop();
        let mut taken = self.lock();
        self.closed.store(true, Ordering::Release);
        for (_, (at, place, stored)) in std::mem::take(&mut taken.unsettled) {
            self.store.give_back(&self.queues[at], place, stored);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settler for Reader {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let mut taken = self.lock();
        // Absent if the reader was closed: the message has gone back.
        let Some((at, place, stored)) = taken.unsettled.remove(&tag) else { return };
        taken.out[at] -= 1;
        drop(taken);
        if settlement == Settlement::Requeue {
            self.store.give_back(&self.queues[at], place, stored);
        }
        self.waker.wake();
    }

    fn is_current(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }
}

/// Keeps a reader open: once the stream and the control are both gone, what was not settled goes back. Ackers do not
/// keep it open.
pub(super) struct Hold(pub(super) Arc<Reader>);

impl ConsumptionControl for Hold {
    fn set_prefetch(&self, prefetch: u16) {
        self.0.prefetch.store(prefetch.into(), Ordering::Release);
        self.0.waker.wake();
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn is_live(&self) -> bool {
        self.0.takes()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close();
        future::ready(()).boxed()
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
        if let Some(delivery) = reader.take() {
            return Poll::Ready(Some(delivery));
        }
        // Registered first and looked at again, so that a message which came in between is not slept through.
        reader.waker.register(context.waker());
        match reader.take() {
            Some(delivery) => Poll::Ready(Some(delivery)),
            None if reader.takes() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
