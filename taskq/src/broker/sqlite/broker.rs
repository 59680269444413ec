//! The adapter: a client of the queues in a file.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};

use super::convert::StoredMessage;
use super::reader::SqliteReader;
use super::{driver, statements};
use crate::access::FileMode;
use crate::broker::reading::{self, PullReader};
use crate::broker::{
    Broker, BrokerError, BrokerInfo, BrokerOptions, Browse, Consumption, Declared, Publication, PublishError,
    QueueSpec, QueueStats,
};
use crate::io;
use crate::redact;
use crate::sqlite::{Database, Fault, FaultKind, Location, lock, ms_after, now_ms};

/// The number of messages that one transaction of a purge deletes, so that other processes get their turn.
const PURGE_AT_ONCE: usize = 5000;

/// A client of the queues in a file.
pub struct SqliteBroker {
    database: Arc<Database>,
    options: BrokerOptions,
    full: bool,
    /// The numbers of queues that are known to exist. Queues are never deleted.
    queues: Arc<Mutex<HashMap<Arc<str>, i64>>>,
    /// The readers of this client, which are closed with it.
    readers: Mutex<Vec<Weak<SqliteReader>>>,
    closed: AtomicBool,
}

impl SqliteBroker {
    /// Opens the file of a `sqlite:` URL, creating it if it does not exist. All clients of a process share it. Of the
    /// options, the size limit and the timeout for publishing apply. All other operations wait at most 10 s for a file
    /// that another process keeps locked. A message whose publish timed out may still be stored, as with every broker.
    pub async fn connect(url: &str, options: BrokerOptions) -> Result<Arc<Self>, BrokerError> {
        Self::over(url, options, Database::open).await
    }

    /// Opens the file with threads and connections of its own, as another process would. For tests.
    #[doc(hidden)]
    pub async fn connect_alone(url: &str, options: BrokerOptions) -> Result<Arc<Self>, BrokerError> {
        Self::over(url, options, Database::open_alone).await
    }

    async fn over(
        url: &str,
        options: BrokerOptions,
        open: fn(&Location, FileMode) -> Result<Arc<Database>, Fault>,
    ) -> Result<Arc<Self>, BrokerError> {
        let unusable = |why| BrokerError::Url { url: redact::url(url), why };
        let location = Location::parse(url).map_err(unusable)?;
        let file_mode = options.file_mode;
        let full = location.full;
        // Opening waits for locks and disks.
        let opening = io::handle().spawn_blocking(move || open(&location, file_mode)).await;
        let database = match opening.expect("opening does not panic and is not aborted") {
            Ok(database) => database,
            Err(Fault { kind: FaultKind::Unusable, text }) => return Err(unusable(text)),
            Err(fault) => return Err(failed(format!("opening {url}"), fault)),
        };
        let (queues, readers) = (Arc::default(), Mutex::default());
        Ok(Arc::new(Self { database, options, full, queues, readers, closed: AtomicBool::new(false) }))
    }

    fn open(&self) -> Result<(), BrokerError> {
        if self.closed.load(Ordering::Acquire) { Err(BrokerError::Closed) } else { Ok(()) }
    }

    fn known(&self, queue: &str) -> Option<i64> {
        lock(&self.queues).get(queue).copied()
    }

    /// The queue's number; an error if there is no such queue.
    async fn queue(&self, queue: &str) -> Result<i64, BrokerError> {
        self.open()?;
        if let Some(number) = self.known(queue) {
            return Ok(number);
        }
        let name = queue.to_owned();
        let found = self.database.read(move |connection| statements::queue(connection, &name)).await;
        let number = found.map_err(|fault| failed(format!("the search for queue {queue:?}"), fault))?;
        let number = number.ok_or_else(|| BrokerError::NoQueue { queue: queue.to_owned() })?;
        lock(&self.queues).insert(queue.into(), number);
        Ok(number)
    }

    fn register(&self, reader: &Arc<SqliteReader>) {
        let mut readers = lock(&self.readers);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(reader));
    }

    fn accept(
        &self,
        publication: Publication,
    ) -> Result<impl Future<Output = Result<(), PublishError>> + Send + 'static + use<>, PublishError> {
        self.open()?;
        let Publication { queue, message, delay } = publication;
        let (size, limit) = (message.body.len(), self.options.max_message_bytes);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit, setting: PublishError::OUR_LIMIT });
        }
        let message = StoredMessage::of(&message);
        let due = delay.filter(|delay| !delay.is_zero()).map(ms_after);
        let (known, name) = (self.known(&queue), Arc::clone(&queue));
        let writing = self.database.write(move |tx| {
            let number = match known {
                Some(number) => Some(number),
                None => statements::queue(tx, &name)?,
            };
            if let Some(number) = number {
                statements::put(tx, number, &message, due)?;
            }
            Ok(number)
        });
        let (queues, after) = (Arc::clone(&self.queues), self.options.publish_timeout);
        let writing = io::within(after, writing);
        Ok(async move {
            match writing.await.map_err(|_| PublishError::TimedOut { after })? {
                Ok(Some(number)) => {
                    if known.is_none() {
                        lock(&queues).insert(queue, number);
                    }
                    Ok(())
                }
                Ok(None) => Err(PublishError::Unroutable { queue: queue.to_string() }),
                Err(Fault { kind: FaultKind::Full, text }) => Err(PublishError::Blocked { reason: text }),
                Err(fault) => Err(failed(format!("the publishing to queue {queue:?}"), fault).into()),
            }
        })
    }
}

impl Broker for SqliteBroker {
    fn declare<'a>(&'a self, spec: &'a QueueSpec) -> BoxFuture<'a, Result<Declared, BrokerError>> {
        async move {
            self.open()?;
            QueueSpec::check_name(&spec.name)?;
            // Most queues exist already, and reading does not wait for writers.
            let found = self.queue(&spec.name).await;
            if matches!(found, Err(BrokerError::NoQueue { .. })) {
                let name = Arc::clone(&spec.name);
                let declared = self.database.write(move |tx| statements::declare(tx, &name)).await;
                let number = declared.map_err(|fault| failed(format!("the declaration of {:?}", spec.name), fault))?;
                lock(&self.queues).insert(Arc::clone(&spec.name), number);
            } else {
                found?;
            }
            // There is only one kind of queue, and it supports all priorities.
            Ok(Declared::AsAsked)
        }
        .boxed()
    }

    fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>> {
        match self.accept(publication) {
            Ok(answer) => answer.boxed(),
            Err(error) => future::ready(Err(error)).boxed(),
        }
    }

    fn consume<'a>(&'a self, queues: &'a [Arc<str>], prefetch: u16) -> BoxFuture<'a, Result<Consumption, BrokerError>> {
        async move {
            let mut numbered = Vec::with_capacity(queues.len());
            for queue in queues {
                numbered.push((self.queue(queue).await?, Arc::clone(queue)));
            }
            let reader = SqliteReader::new(Arc::clone(&self.database), numbered, prefetch.into());
            driver::begin(&reader).await.map_err(|fault| failed(format!("consuming from {queues:?}"), fault))?;
            self.register(&reader);
            Ok(reading::consumption(reader))
        }
        .boxed()
    }

    fn browse<'a>(&'a self, queue: &'a str, limit: usize) -> BoxFuture<'a, Result<Browse, BrokerError>> {
        async move {
            let number = self.queue(queue).await?;
            let reader = SqliteReader::new(Arc::clone(&self.database), vec![(number, queue.into())], limit);
            let deliveries = driver::browse(&reader, limit).await;
            self.register(&reader);
            let control = reading::control(reader);
            let deliveries = deliveries.map_err(|fault| failed(format!("the look into queue {queue:?}"), fault))?;
            Ok(Browse { deliveries, control })
        }
        .boxed()
    }

    fn stats<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<QueueStats, BrokerError>> {
        async move {
            let number = self.queue(queue).await?;
            let stats = self.database.read(move |connection| statements::stats(connection, number, now_ms())).await;
            stats.map_err(|fault| failed(format!("the count of queue {queue:?}"), fault))
        }
        .boxed()
    }

    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>> {
        async move {
            let number = self.queue(queue).await?;
            let mut removed = 0;
            loop {
                let purge = self.database.write(move |tx| {
                    statements::restore(tx, now_ms())?;
                    statements::purge(tx, number, PURGE_AT_ONCE)
                });
                let count = purge.await.map_err(|fault| failed(format!("the purge of queue {queue:?}"), fault))?;
                removed += count as u64;
                if count < PURGE_AT_ONCE {
                    return Ok(removed);
                }
            }
        }
        .boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<BrokerInfo, BrokerError>> {
        let durability = if self.full {
            "every commit waits for the disk, so nothing accepted is lost with the power"
        } else {
            "survives the end of any process; the last moments before a loss of power only with `?synchronous=full`"
        };
        let info = BrokerInfo {
            product: "SQLite".to_owned(),
            version: rusqlite::version().to_owned(),
            capabilities: vec![
                format!("the file {}, for the processes of this machine", self.database.path().display()),
                durability.to_owned(),
                "priorities 0 to 255 on every queue; delays to the millisecond".to_owned(),
            ],
        };
        future::ready(self.open().map(|()| info)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.closed.store(true, Ordering::Release);
            let readers = std::mem::take(&mut *lock(&self.readers));
            for reader in readers.iter().filter_map(Weak::upgrade) {
                reader.close();
                reader.finished().await;
            }
        }
        .boxed()
    }
}

impl fmt::Debug for SqliteBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBroker").field("path", &self.database.path()).finish_non_exhaustive()
    }
}

fn failed(what: String, fault: Fault) -> BrokerError {
    BrokerError::Failed { what, source: fault.into() }
}
