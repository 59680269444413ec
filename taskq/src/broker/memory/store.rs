//! The queues and their content.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use chrono::{DateTime, Utc};

use super::super::reading::PullReader;
use super::super::{BrokerError, PublishError, QueueSpec, QueueStats};
use super::reader::MemoryReader;
use crate::message::WireMessage;

/// All queues of one URL.
#[derive(Default)]
pub(super) struct Store {
    queues: Mutex<Queues>,
    /// Notifies tests that a message is ready.
    #[cfg(feature = "testing")]
    pub(super) arrived: tokio::sync::Notify,
}

#[derive(Default)]
struct Queues {
    by_name: HashMap<Arc<str>, StoredQueue>,
    /// The delayed messages.
    delayed: BTreeMap<u64, Delayed>,
    /// The number of messages that ever arrived, which keeps those of one priority in order.
    arrivals: u64,
}

/// A message that waits for its time.
struct Delayed {
    queue: Arc<str>,
    message: WireMessage,
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "only tests ask when it is due"))]
    due: DateTime<Utc>,
}

struct StoredQueue {
    max_priority: u8,
    ready: BTreeMap<Place, Stored>,
    readers: Vec<Weak<MemoryReader>>,
}

/// The place of a message in its queue: larger priorities first, then by arrival. A message that is given back returns
/// to its place.
pub(super) type Place = (Reverse<u8>, u64);

/// A message in a queue.
pub(super) struct Stored {
    pub(super) message: WireMessage,
    /// The number of times the message was given back.
    pub(super) returns: u32,
}

/// A waiting message, as tests see it.
#[cfg(feature = "testing")]
pub(crate) struct Waiting {
    pub(crate) queue: Arc<str>,
    pub(crate) message: WireMessage,
    /// The time at which the message becomes ready, if it is not yet.
    pub(crate) due: Option<DateTime<Utc>>,
}

impl Store {
    pub(super) fn declare(&self, spec: &QueueSpec) {
        self.lock().by_name.entry(Arc::clone(&spec.name)).or_insert_with(|| StoredQueue {
            max_priority: spec.max_priority.unwrap_or(u8::MAX),
            ready: BTreeMap::new(),
            readers: Vec::new(),
        });
    }

    /// Makes a reader of `queues`.
    pub(super) fn attach(
        self: &Arc<Self>,
        queues: &[Arc<str>],
        prefetch: usize,
    ) -> Result<Arc<MemoryReader>, BrokerError> {
        let mut locked = self.lock();
        if let Some(unknown) = queues.iter().find(|name| !locked.by_name.contains_key(*name)) {
            return Err(no_queue(unknown));
        }
        let reader = Arc::new(MemoryReader::new(Arc::clone(self), queues, prefetch));
        for name in queues {
            if let Some(queue) = locked.by_name.get_mut(name) {
                queue.readers.push(Arc::downgrade(&reader));
            }
        }
        Ok(reader)
    }

    /// Appends a message and wakes the queue's readers.
    pub(super) fn put(&self, queue: &Arc<str>, message: WireMessage) -> Result<(), PublishError> {
        let mut locked = self.lock();
        locked.arrivals += 1;
        let arrival = locked.arrivals;
        let Some(queue) = locked.by_name.get_mut(queue) else {
            return Err(PublishError::Unroutable { queue: queue.to_string() });
        };
        let priority = message.properties.priority.unwrap_or(0).min(queue.max_priority);
        queue.ready.insert((Reverse(priority), arrival), Stored { message, returns: 0 });
        queue.wake_readers();
        #[cfg(feature = "testing")]
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Delays a message until it is released, and returns the place by which to release it.
    pub(super) fn hold(&self, queue: Arc<str>, message: WireMessage, due: DateTime<Utc>) -> u64 {
        let mut locked = self.lock();
        locked.arrivals += 1;
        let place = locked.arrivals;
        locked.delayed.insert(place, Delayed { queue, message, due });
        place
    }

    /// Appends a delayed message to its queue.
    pub(super) fn release(&self, place: u64) -> Result<(), PublishError> {
        let Some(Delayed { queue, message, .. }) = self.lock().delayed.remove(&place) else { return Ok(()) };
        self.put(&queue, message)
    }

    /// Takes the first message out of `queue`.
    pub(super) fn take(&self, queue: &str) -> Option<(Place, Stored)> {
        self.lock().by_name.get_mut(queue)?.ready.pop_first()
    }

    /// Puts back a message that was taken and not acknowledged.
    pub(super) fn give_back(&self, queue: &str, place: Place, mut stored: Stored) {
        stored.returns += 1;
        if let Some(queue) = self.lock().by_name.get_mut(queue) {
            queue.ready.insert(place, stored);
            queue.wake_readers();
        }
    }

    /// All waiting messages: ready ones first, oldest first, then delayed ones by their time.
    #[cfg(feature = "testing")]
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let locked = self.lock();
        let mut ready: Vec<_> = locked
            .by_name
            .iter()
            .flat_map(|(name, queue)| queue.ready.iter().map(move |(place, stored)| (place.1, name, stored)))
            .collect();
        ready.sort_by_key(|(arrival, ..)| *arrival);
        let ready = ready.into_iter().map(|(_, queue, stored)| Waiting {
            queue: Arc::clone(queue),
            message: stored.message.clone(),
            due: None,
        });
        let mut held: Vec<_> = locked.delayed.values().collect();
        held.sort_by_key(|held| held.due);
        let held = held.into_iter().map(|held| Waiting {
            queue: Arc::clone(&held.queue),
            message: held.message.clone(),
            due: Some(held.due),
        });
        ready.chain(held).collect()
    }

    /// The queue other than `except` with the oldest first message.
    #[cfg(feature = "testing")]
    pub(super) fn first_queue(&self, except: &str) -> Option<Arc<str>> {
        let locked = self.lock();
        let next = locked.by_name.iter().filter(|(name, _)| &***name != except).filter_map(|(name, queue)| {
            let (place, _) = queue.ready.first_key_value()?;
            Some((place.1, name))
        });
        next.min().map(|(_, name)| Arc::clone(name))
    }

    pub(super) fn stats(&self, queue: &str) -> Result<QueueStats, BrokerError> {
        let locked = self.lock();
        let queue = locked.by_name.get(queue).ok_or_else(|| no_queue(queue))?;
        let consumers = queue.readers.iter().filter_map(Weak::upgrade).filter(|reader| reader.takes()).count();
        Ok(QueueStats { ready: queue.ready.len() as u64, consumers: consumers as u64 })
    }

    pub(super) fn purge(&self, queue: &str) -> Result<u64, BrokerError> {
        let mut locked = self.lock();
        let queue = locked.by_name.get_mut(queue).ok_or_else(|| no_queue(queue))?;
        Ok(std::mem::take(&mut queue.ready).len() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredQueue {
    /// Wakes all readers, since the first may be at its prefetch, and removes those that are gone.
    fn wake_readers(&mut self) {
        self.readers.retain(|reader| reader.upgrade().is_some_and(|reader| reader.wake()));
    }
}

fn no_queue(queue: &str) -> BrokerError {
    BrokerError::NoQueue { queue: queue.to_owned() }
}
