//! The adapter: a client of the queues of one URL.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};

use super::reader::MemoryReader;
use super::store::Store;
#[cfg(feature = "testing")]
use super::store::Waiting;
use crate::broker::reading::{self, PullReader};
use crate::broker::{
    Broker, BrokerError, BrokerInfo, BrokerOptions, Browse, Consumption, Declared, Publication, PublishError,
    QueueSpec, QueueStats,
};

/// A client of the queues of one `memory:` URL.
pub struct MemoryBroker {
    store: Arc<Store>,
    options: BrokerOptions,
    /// The readers of this client, which are closed with it.
    readers: Mutex<Vec<Weak<MemoryReader>>>,
    closed: AtomicBool,
}

impl MemoryBroker {
    /// A client of the queues that belong to the text of `url` (`memory:`, `memory:name`). They live as long as the
    /// process. Of the options, the size limit and the clock apply.
    pub fn shared(url: &str, options: BrokerOptions) -> Arc<Self> {
        static STORES: OnceLock<Mutex<HashMap<String, Arc<Store>>>> = OnceLock::new();
        let mut stores = STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(Self::over(Arc::clone(stores.entry(url.to_owned()).or_default()), options))
    }

    /// A client of queues of its own, which no other client sees.
    pub fn private(options: BrokerOptions) -> Arc<Self> {
        Arc::new(Self::over(Arc::default(), options))
    }

    /// All waiting messages: ready ones first, oldest first, then delayed ones by their time.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        self.store.waiting()
    }

    /// Completes when a message becomes ready, at once or after its delay.
    #[cfg(feature = "testing")]
    pub(crate) fn arrival(&self) -> tokio::sync::futures::Notified<'_> {
        self.store.arrived.notified()
    }

    /// The queue other than `except` with the oldest first message.
    #[cfg(feature = "testing")]
    pub(crate) fn first_queue(&self, except: &str) -> Option<Arc<str>> {
        self.store.first_queue(except)
    }

    fn over(store: Arc<Store>, options: BrokerOptions) -> Self {
        Self { store, options, readers: Mutex::default(), closed: AtomicBool::new(false) }
    }

    fn open(&self) -> Result<(), BrokerError> {
        if self.closed.load(Ordering::Acquire) { Err(BrokerError::Closed) } else { Ok(()) }
    }

    fn reader(&self, queues: &[Arc<str>], prefetch: usize) -> Result<Arc<MemoryReader>, BrokerError> {
        self.open()?;
        let reader = self.store.attach(queues, prefetch)?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&reader));
        Ok(reader)
    }

    fn accept(&self, publication: Publication) -> Result<(), PublishError> {
        self.open()?;
        let (size, limit) = (publication.message.body.len(), self.options.max_message_bytes);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit, setting: PublishError::OUR_LIMIT });
        }
        let Publication { queue, message, delay } = publication;
        let Some(delay) = delay.filter(|delay| !delay.is_zero()) else {
            return self.store.put(&queue, message);
        };
        self.store.stats(&queue).map_err(|_| PublishError::Unroutable { queue: queue.to_string() })?;
        let due = TimeDelta::from_std(delay).ok().and_then(|delay| self.options.clock.now().checked_add_signed(delay));
        let place = self.store.hold(queue, message, due.unwrap_or(DateTime::<Utc>::MAX_UTC));
        let store = Arc::clone(&self.store);
        self.options.clock.after(delay, move || {
            if let Err(error) = store.release(place) {
                tracing::error!(%error, "a delayed message lost its queue while it waited");
            }
        });
        Ok(())
    }
}

impl Broker for MemoryBroker {
    fn declare<'a>(&'a self, spec: &'a QueueSpec) -> BoxFuture<'a, Result<Declared, BrokerError>> {
        let declared = self.open().and_then(|()| QueueSpec::check_name(&spec.name)).map(|()| {
            self.store.declare(spec);
            Declared::AsAsked
        });
        future::ready(declared).boxed()
    }

    fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>> {
        future::ready(self.accept(publication)).boxed()
    }

    fn consume<'a>(&'a self, queues: &'a [Arc<str>], prefetch: u16) -> BoxFuture<'a, Result<Consumption, BrokerError>> {
        future::ready(self.reader(queues, prefetch.into()).map(reading::consumption)).boxed()
    }

    fn browse<'a>(&'a self, queue: &'a str, limit: usize) -> BoxFuture<'a, Result<Browse, BrokerError>> {
        let browse = self.reader(&[Arc::from(queue)], limit).map(|reader| {
            let deliveries = std::iter::from_fn(|| reader.next()).take(limit).collect();
            Browse { deliveries, control: reading::control(reader) }
        });
        future::ready(browse).boxed()
    }

    fn stats<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<QueueStats, BrokerError>> {
        future::ready(self.open().and_then(|()| self.store.stats(queue))).boxed()
    }

    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>> {
        future::ready(self.open().and_then(|()| self.store.purge(queue))).boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<BrokerInfo, BrokerError>> {
        let info = BrokerInfo {
            product: "memory".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: vec![
                "within this process only; everything is lost when it ends".to_owned(),
                "priorities 0 to 255 on every queue, or up to its `max_priority`".to_owned(),
            ],
        };
        future::ready(self.open().map(|()| info)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.closed.store(true, Ordering::Release);
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        for reader in readers.iter().filter_map(Weak::upgrade) {
            reader.close();
        }
        future::ready(()).boxed()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").finish_non_exhaustive()
    }
}
