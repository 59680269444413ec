//! One consumption: what it took and has not settled, and how much more it may take.

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
    /// Takes nothing any more.
    stopped: AtomicBool,
    /// Gave everything back; what was taken cannot be settled any more.
    closed: AtomicBool,
    taken: Mutex<Outstanding>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Outstanding {
    unsettled: HashMap<u64, (usize, Place, Stored)>,
    /// How many are out, per queue.
    out: Vec<usize>,
    tags: u64,
    /// The queue to look at first, so that a full one cannot starve the others.
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

    /// Tells it to look again; false if it never will.
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
