//! One consumption: its unsettled messages, and its room for more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::task::AtomicWaker;

use super::store::{Place, Store, Stored};
use crate::broker::reading::PullReader;
use crate::broker::{Acker, Delivery, Settlement, Settler};

/// Takes messages from some queues, and settles them.
pub(super) struct MemoryReader {
    store: Arc<Store>,
    queues: Vec<Arc<str>>,
    prefetch: AtomicUsize,
    /// No more messages are taken.
    stopped: AtomicBool,
    /// All messages were given back; none can be settled any more.
    closed: AtomicBool,
    taken: Mutex<Outstanding>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Outstanding {
    unsettled: HashMap<u64, (usize, Place, Stored)>,
    /// The number of unsettled messages per queue.
    out: Vec<usize>,
    tags: u64,
    /// The queue to try first, so that a full one cannot starve the others.
    next: usize,
}

impl MemoryReader {
    pub(super) fn new(store: Arc<Store>, queues: &[Arc<str>], prefetch: usize) -> Self {
        Self {
            store,
            queues: queues.to_vec(),
            prefetch: AtomicUsize::new(prefetch),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            taken: Mutex::new(Outstanding { out: vec![0; queues.len()], ..Outstanding::default() }),
            waker: AtomicWaker::new(),
        }
    }

    /// Makes the stream try again. Returns false if it never will.
    pub(super) fn wake(&self) -> bool {
        self.waker.wake();
        self.takes()
    }

    fn lock(&self) -> MutexGuard<'_, Outstanding> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PullReader for MemoryReader {
    fn next(self: &Arc<Self>) -> Option<Delivery> {
        // The lock is held while the queues are tried, so that `close` either comes first and nothing is taken, or
        // comes later and finds the taken message.
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

    fn takes(&self) -> bool {
        !self.stopped.load(Ordering::Acquire)
    }

    fn waker(&self) -> &AtomicWaker {
        &self.waker
    }

    fn set_prefetch(&self, prefetch: usize) {
        self.prefetch.store(prefetch, Ordering::Release);
        self.waker.wake();
    }

    /// A message is taken when it is read, and never before.
    fn give_back_unread(&self) {}

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn close(&self) {
        self.stop();
        let mut taken = self.lock();
        self.closed.store(true, Ordering::Release);
        for (_, (at, place, stored)) in std::mem::take(&mut taken.unsettled) {
            self.store.give_back(&self.queues[at], place, stored);
        }
    }
}

impl Settler for MemoryReader {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let mut taken = self.lock();
        // A closed reader has given the message back already.
        let Some((at, place, stored)) = taken.unsettled.remove(&tag) else { return };
        taken.out[at] -= 1;
        drop(taken);
        if settlement == Settlement::Requeue {
            self.store.give_back(&self.queues[at], place, stored);
        }
        self.waker.wake();
    }

    fn is_current(&self, _tag: u64) -> bool {
        !self.closed.load(Ordering::Acquire)
    }
}
