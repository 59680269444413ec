//! Results and Kv values in this process, for tests and for programs that are their own worker.
//!
//! Every operation takes one lock and so is one atomic step. Expired entries are dropped when they are touched, and by
//! an occasional sweep.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{BackendError, BackendOptions, Changes, Kv, Put, ResultBackend, Written};
use crate::clock::Clock;
use crate::message::{Record, TaskId};

/// The number of changes that are buffered for a slow watcher. Beyond it, the watcher misses the oldest, never the
/// newest: a terminal record is the last of its generation, so every watcher gets it.
const CHANGES_PENDING_MAX: usize = 16;

/// The minimum number of changes between two sweeps for expired entries.
const SWEEP_AFTER_MIN: usize = 1024;

/// A result backend and Kv store in this process. It is empty when the process starts and gone when it ends.
pub struct MemoryBackend {
    result_ttl: Option<Duration>,
    store: Arc<Mutex<MemoryStore>>,
}

struct MemoryStore {
    time: Time,
    records: HashMap<TaskId, Kept<Arc<Record>>>,
    facts: BTreeMap<String, Kept<Bytes>>,
    watched: HashMap<TaskId, broadcast::Sender<Arc<Record>>>,
    changes_since_sweep: usize,
    kept_by_sweep: usize,
}

struct Kept<T> {
    value: T,
    /// The expiry, on the store's [`Time`].
    until: Option<Duration>,
}

/// The time by which entries expire.
enum Time {
    /// Elapsed time, which is not affected by changes of the system clock.
    Passing { since: Instant },
    /// The time of a given clock.
    By { clock: Clock, since: DateTime<Utc> },
}

impl Time {
    fn now(&self) -> Duration {
        match self {
            Self::Passing { since } => since.elapsed(),
            Self::By { clock, since } => (clock.now() - since).to_std().unwrap_or_default(),
        }
    }
}

impl MemoryBackend {
    /// Creates an empty, private store. Of `options`, only the TTL of results applies.
    pub fn new(options: &BackendOptions) -> Self {
        Self::of(options, Time::Passing { since: Instant::now() })
    }

    /// Creates an empty, private store whose entries expire by `clock`.
    pub fn by_clock(options: &BackendOptions, clock: Clock) -> Self {
        let since = clock.now();
        Self::of(options, Time::By { clock, since })
    }

    fn of(options: &BackendOptions, time: Time) -> Self {
        Self { result_ttl: options.result_ttl, store: Arc::new(Mutex::new(MemoryStore::new(time))) }
    }

    /// The store with the name `url` (`memory:`, `memory:orders`) in this process, empty at first. The same text
    /// always gives the same store. Results are kept for a day.
    pub fn shared(url: &str) -> Arc<Self> {
        static STORES: OnceLock<Mutex<HashMap<String, Arc<MemoryBackend>>>> = OnceLock::new();
        let mut stores = STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let store = stores.entry(url.to_owned()).or_insert_with(|| Arc::new(Self::new(&BackendOptions::default())));
        Arc::clone(store)
    }

    fn store(&self) -> MutexGuard<'_, MemoryStore> {
        lock(&self.store)
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("result_ttl", &self.result_ttl).finish_non_exhaustive()
    }
}

/// Locks the store, even after a panic elsewhere: each change of it is a single insertion or removal.
fn lock(store: &Mutex<MemoryStore>) -> MutexGuard<'_, MemoryStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Kept<T> {
    fn new(value: T, ttl: Option<Duration>, time: &Time) -> Self {
        // An expiry beyond the range of the clock means that the entry never expires.
        Self { value, until: ttl.and_then(|ttl| time.now().checked_add(ttl)) }
    }

    fn fresh(&self, time: &Time) -> Option<&T> {
        self.until.is_none_or(|until| time.now() < until).then_some(&self.value)
    }
}

impl MemoryStore {
    fn new(time: Time) -> Self {
        Self {
            time,
            records: HashMap::new(),
            facts: BTreeMap::new(),
            watched: HashMap::new(),
            changes_since_sweep: 0,
            kept_by_sweep: 0,
        }
    }

    fn record(&self, id: &TaskId) -> Option<&Arc<Record>> {
        self.records.get(id)?.fresh(&self.time)
    }

    fn fact(&self, key: &str) -> Option<&Bytes> {
        self.facts.get(key)?.fresh(&self.time)
    }

    fn write(&mut self, record: &Record, ttl: Option<Duration>) -> Written {
        if self.record(&record.id).is_some_and(|stored| !record.may_replace(stored)) {
            return Written::Kept;
        }
        let shared = Arc::new(record.clone());
        self.records.insert(record.id.clone(), Kept::new(Arc::clone(&shared), ttl, &self.time));
        if let Some(watchers) = self.watched.get(&record.id) {
            // Sending fails only if the last watcher is just being dropped.
            let _ = watchers.send(shared);
        }
        self.sweep_if_due();
        Written::Stored
    }

    fn put(&mut self, key: &str, value: Bytes, ttl: Option<Duration>) {
        self.facts.insert(key.to_owned(), Kept::new(value, ttl, &self.time));
        self.sweep_if_due();
    }

    /// Sweeps after as many changes as the last sweep left entries. So the cost of a change does not depend on the
    /// size of the store, and the store is at most twice as large as its unexpired content.
    fn sweep_if_due(&mut self) {
        self.changes_since_sweep += 1;
        if self.changes_since_sweep < SWEEP_AFTER_MIN.max(self.kept_by_sweep) {
            return;
        }
        self.changes_since_sweep = 0;
        self.records.retain(|_, kept| kept.fresh(&self.time).is_some());
        self.facts.retain(|_, kept| kept.fresh(&self.time).is_some());
        self.kept_by_sweep = self.records.len() + self.facts.len();
    }
}

impl ResultBackend for MemoryBackend {
    fn write<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<Written>, BackendError>> {
        Box::pin(async move {
            let mut store = self.store();
            Ok(records.iter().map(|record| store.write(record, self.result_ttl)).collect())
        })
    }

    fn read<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, BackendError>> {
        Box::pin(async move {
            let store = self.store();
            Ok(ids.iter().map(|id| store.record(id).map(|record| Record::clone(record))).collect())
        })
    }

    fn changes<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<Changes, BackendError>> {
        Box::pin(async move {
            let receiver = match self.store().watched.entry(id.clone()) {
                Entry::Occupied(watched) => watched.get().subscribe(),
                Entry::Vacant(unwatched) => {
                    let (sender, receiver) = broadcast::channel(CHANGES_PENDING_MAX);
                    unwatched.insert(sender);
                    receiver
                }
            };
            let watcher = MemoryWatcher { receiver: Some(receiver), id: id.clone(), store: Arc::clone(&self.store) };
            Ok(Box::pin(stream::unfold(watcher, MemoryWatcher::next)) as Changes)
        })
    }

    fn forget<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let mut store = self.store();
            for id in ids {
                store.records.remove(id);
            }
            Ok(())
        })
    }

    fn info(&self) -> BoxFuture<'_, Result<Vec<String>, BackendError>> {
        Box::pin(async {
            Ok(vec![
                format!("memory {}", env!("CARGO_PKG_VERSION")),
                "results are seen in this process only and end with it".to_owned(),
            ])
        })
    }
}

impl Kv for MemoryBackend {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, BackendError>> {
        Box::pin(async move { Ok(self.store().fact(key).cloned()) })
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            self.store().put(key, value, ttl);
            Ok(())
        })
    }

    fn compare_and_put<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move {
            let mut store = self.store();
            let there = store.fact(key);
            if there != expected.as_ref() {
                return Ok(Put::Refused(there.cloned()));
            }
            store.put(key, value, ttl);
            Ok(Put::Done)
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expected: Option<Bytes>) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move {
            let mut store = self.store();
            let there = store.fact(key);
            if expected.is_some() && there != expected.as_ref() {
                return Ok(Put::Refused(there.cloned()));
            }
            store.facts.remove(key);
            Ok(Put::Done)
        })
    }

    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, BackendError>> {
        Box::pin(async move {
            let store = self.store();
            let from_prefix =
                store.facts.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
            Ok(from_prefix
                .take_while(|(key, _)| key.starts_with(prefix))
                .filter_map(|(key, kept)| Some((key.clone(), kept.fresh(&store.time)?.clone())))
                .collect())
        })
    }
}

/// A subscription to the changes of one task.
struct MemoryWatcher {
    /// `None` only while the watcher is being dropped.
    receiver: Option<broadcast::Receiver<Arc<Record>>>,
    id: TaskId,
    store: Arc<Mutex<MemoryStore>>,
}

impl MemoryWatcher {
    async fn next(mut self) -> Option<(Result<Record, BackendError>, Self)> {
        loop {
            match self.receiver.as_mut()?.recv().await {
                Ok(record) => return Some((Ok(Arc::unwrap_or_clone(record)), self)),
                // The watcher missed some records because it was too slow; newer ones follow.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for MemoryWatcher {
    fn drop(&mut self) {
        let mut store = lock(&self.store);
        // The receiver is dropped under the lock, so that the last watcher finds that it is the last.
        self.receiver = None;
        if store.watched.get(&self.id).is_some_and(|watchers| watchers.receiver_count() == 0) {
            store.watched.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::backend::ResultBackendExt;
    use crate::message::TaskState;

    #[tokio::test]
    async fn the_same_text_is_the_same_store() {
        let one = MemoryBackend::shared("memory:the-same");
        let other = MemoryBackend::shared("memory:the-same");
        one.put("key", Bytes::from_static(b"value"), None).await.expect("memory");
        assert_eq!(other.get("key").await.expect("memory").as_deref(), Some(&b"value"[..]));
        let third = MemoryBackend::shared("memory:another");
        assert_eq!(third.get("key").await.expect("memory"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn results_expire() {
        let options = BackendOptions { result_ttl: Some(Duration::from_secs(60)), ..BackendOptions::default() };
        let backend = MemoryBackend::new(&options);
        let id = TaskId::new();
        backend.write(&[Record::new(id.clone(), TaskState::Success)]).await.expect("memory");
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(backend.read_one(&id).await.expect("memory").is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(backend.read_one(&id).await.expect("memory").is_none());
        // An expired record does not keep a new one from being written.
        let written = backend.write(&[Record::new(id, TaskState::Failure)]).await.expect("memory");
        assert_eq!(written, [Written::Stored]);
    }

    #[tokio::test]
    async fn lifetimes_go_by_the_clock_that_is_named() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        let backend = MemoryBackend::by_clock(&BackendOptions::default(), clock.clone());
        backend.put("key", Bytes::new(), Some(Duration::from_secs(60))).await.expect("memory");
        clock.advance(chrono::TimeDelta::seconds(59));
        assert!(backend.get("key").await.expect("memory").is_some());
        clock.advance(chrono::TimeDelta::seconds(1));
        assert!(backend.get("key").await.expect("memory").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_expired_is_swept() {
        let backend = MemoryBackend::new(&BackendOptions::default());
        for n in 0..SWEEP_AFTER_MIN {
            backend.put(&format!("old {n}"), Bytes::new(), Some(Duration::from_secs(1))).await.expect("memory");
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        for n in 0..SWEEP_AFTER_MIN {
            backend.put(&format!("new {n}"), Bytes::new(), None).await.expect("memory");
        }
        assert!(backend.store().facts.keys().all(|key| key.starts_with("new")));
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_the_terminal_record() {
        let backend = MemoryBackend::new(&BackendOptions::default());
        let id = TaskId::new();
        let mut changes = backend.changes(&id).await.expect("memory");
        for attempt in 0..1000 {
            let record = Record { attempt, ..Record::new(id.clone(), TaskState::Progress) };
            backend.write(&[record]).await.expect("memory");
        }
        backend.write(&[Record::new(id.clone(), TaskState::Success)]).await.expect("memory");
        let mut seen = 0;
        while changes.next().await.expect("the watched record ends").expect("memory").state != TaskState::Success {
            seen += 1;
        }
        assert!(seen < CHANGES_PENDING_MAX, "{seen} records waited");
        drop(changes);
        assert!(backend.store().watched.is_empty(), "nobody watches any more");
    }
}
