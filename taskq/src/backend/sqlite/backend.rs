//! The adapter: results and Kv values in a file.

use std::fmt;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use rusqlite::Connection;

use super::facts;
use super::results::{self, DOCUMENT_MAX, Entry, Sweep};
use super::watch::{SqliteWatcher, Watches};
use crate::access::FileMode;
use crate::backend::kv::check_size;
use crate::backend::{BackendError, BackendOptions, Changes, Kv, Put, ResultBackend, Written};
use crate::codec::result;
use crate::io;
use crate::message::{Record, TaskId};
use crate::redact;
use crate::sqlite::{Database, Fault, FaultKind, Location, Observer, Tx, lock, ms_after, now_ms};

/// A result backend and Kv store in a file.
pub struct SqliteBackend {
    database: Arc<Database>,
    result_ttl: Option<Duration>,
    timeout: Duration,
    watches: Arc<Watches>,
    sweep: Arc<Mutex<Sweep>>,
}

impl SqliteBackend {
    /// Opens the file of a `sqlite:` URL, creating it if it does not exist. All clients of a process share it. A
    /// change that timed out may still be made.
    pub async fn connect(url: &str, options: &BackendOptions) -> Result<Self, BackendError> {
        Self::over(url, options, Database::open).await
    }

    /// Opens the file with threads and connections of its own, as another process would. For tests.
    #[doc(hidden)]
    pub async fn connect_alone(url: &str, options: &BackendOptions) -> Result<Self, BackendError> {
        Self::over(url, options, Database::open_alone).await
    }

    async fn over(
        url: &str,
        options: &BackendOptions,
        open: fn(&Location, FileMode) -> Result<Arc<Database>, Fault>,
    ) -> Result<Self, BackendError> {
        let unusable = |why| BackendError::Url { url: redact::url(url), why };
        let location = Location::parse(url).map_err(unusable)?;
        let file_mode = options.file_mode;
        // Opening waits for locks and disks.
        let opening = io::handle().spawn_blocking(move || open(&location, file_mode)).await;
        let database = match opening.expect("opening does not panic and is not aborted") {
            Ok(database) => database,
            Err(Fault { kind: FaultKind::Unusable, text }) => return Err(unusable(text)),
            Err(fault) => return Err(failed(format!("opening {url}"), fault)),
        };
        let watches = Arc::new(Watches::new(database.number()));
        let observer: Arc<dyn Observer> = Arc::clone(&watches) as Arc<dyn Observer>;
        database.observe(Arc::downgrade(&observer));
        let BackendOptions { result_ttl, timeout, .. } = *options;
        Ok(Self { database, result_ttl, timeout, watches, sweep: Arc::default() })
    }

    /// Runs [`Database::write`] within the timeout for operations.
    fn change<T, F>(&self, change: F) -> impl Future<Output = Result<T, Fault>> + Send + 'static + use<T, F>
    where
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.in_time(self.database.write(change))
    }

    /// Runs [`Database::read`] within the timeout for operations.
    fn ask<T, F>(&self, question: F) -> impl Future<Output = Result<T, Fault>> + Send + 'static + use<T, F>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.in_time(self.database.read(question))
    }

    fn in_time<T, F>(&self, answer: F) -> impl Future<Output = Result<T, Fault>> + Send + 'static + use<T, F>
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let (timeout, path) = (self.timeout, Arc::clone(self.database.path()));
        let answer = io::within(timeout, answer);
        async move { answer.await.unwrap_or_else(|_| Err(Fault::silent(&path, timeout))) }
    }
}

impl ResultBackend for SqliteBackend {
    fn write<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<Written>, BackendError>> {
        let expires = self.result_ttl.map(ms_after);
        let entries: Vec<Entry> = records.iter().map(Entry::of).collect();
        let (count, number, sweep) = (entries.len(), self.database.number(), Arc::clone(&self.sweep));
        let writing = self.change(move |tx| {
            let written = results::write(tx, &entries, number, expires, now_ms())?;
            lock(&sweep).after(tx, entries.len(), now_ms())?;
            Ok(written)
        });
        async move { writing.await.map_err(|fault| failed(format!("the writing of {count} records"), fault)) }.boxed()
    }

    fn read<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, BackendError>> {
        async move {
            let wanted = ids.to_vec();
            let reading = self.ask(move |connection| {
                let now = now_ms();
                wanted.iter().map(|id| results::document(connection, id, now)).collect::<rusqlite::Result<Vec<_>>>()
            });
            let documents =
                reading.await.map_err(|fault| failed(format!("the reading of {} records", ids.len()), fault))?;
            let decode = |(id, document): (&TaskId, Option<Vec<u8>>)| {
                Ok(document.map(|document| result::decode(id, &document)).transpose()?)
            };
            ids.iter().zip(documents).map(decode).collect()
        }
        .boxed()
    }

    fn changes<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<Changes, BackendError>> {
        async move {
            let (watches, task) = (Arc::clone(&self.watches), id.clone());
            // This runs on the reading thread, which also polls, so no record can be polled between the two
            // statements.
            let subscribing = self.ask(move |connection| {
                let after = results::last_number(connection)?;
                Ok(SqliteWatcher::subscribe(&watches, task, after))
            });
            let watcher = subscribing.await.map_err(|fault| failed(format!("watching task {id}"), fault))?;
            Ok(Box::pin(stream::unfold(watcher, SqliteWatcher::next)) as Changes)
        }
        .boxed()
    }

    fn forget<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<(), BackendError>> {
        let (ids, count) = (ids.to_vec(), ids.len());
        let forgetting = self.change(move |tx| results::forget(tx, &ids));
        async move { forgetting.await.map_err(|fault| failed(format!("the deletion of {count} records"), fault)) }
            .boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<Vec<String>, BackendError>> {
        let line = format!("SQLite {} in the file {}", rusqlite::version(), self.database.path().display());
        async move { Ok(vec![line]) }.boxed()
    }
}

impl Kv for SqliteBackend {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, BackendError>> {
        let wanted = key.to_owned();
        let reading = self.ask(move |connection| facts::get(connection, &wanted, now_ms()));
        async move { reading.await.map_err(of_key("the reading", key)) }.boxed()
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), BackendError>> {
        if let Err(error) = check_size(key, &value, DOCUMENT_MAX) {
            return ready(Err(error)).boxed();
        }
        let (name, expires) = (key.to_owned(), ttl.map(ms_after));
        let writing = self.change(move |tx| facts::put(tx, &name, &value, expires, now_ms()));
        async move { writing.await.map_err(of_key("the writing", key)) }.boxed()
    }

    fn compare_and_put<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Put, BackendError>> {
        if let Err(error) = check_size(key, &value, DOCUMENT_MAX) {
            return ready(Err(error)).boxed();
        }
        let (name, expires) = (key.to_owned(), ttl.map(ms_after));
        let writing = self.change(move |tx| {
            let there = facts::get(tx, &name, now_ms())?;
            if there != expected {
                return Ok(Put::Refused(there));
            }
            facts::put(tx, &name, &value, expires, now_ms())?;
            Ok(Put::Done)
        });
        async move { writing.await.map_err(of_key("the writing", key)) }.boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, expected: Option<Bytes>) -> BoxFuture<'a, Result<Put, BackendError>> {
        let name = key.to_owned();
        let writing = self.change(move |tx| {
            if expected.is_some() {
                let there = facts::get(tx, &name, now_ms())?;
                if there != expected {
                    return Ok(Put::Refused(there));
                }
            }
            facts::delete(tx, &name)?;
            Ok(Put::Done)
        });
        async move { writing.await.map_err(of_key("the deletion", key)) }.boxed()
    }

    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, BackendError>> {
        let wanted = prefix.to_owned();
        let reading = self.ask(move |connection| facts::scan(connection, &wanted, now_ms()));
        async move { reading.await.map_err(of_key("the scan", prefix)) }.boxed()
    }
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBackend").field("path", &self.database.path()).finish_non_exhaustive()
    }
}

fn failed(what: String, fault: Fault) -> BackendError {
    BackendError::Failed { what, source: fault.into() }
}

fn of_key(what: &'static str, key: &str) -> impl FnOnce(Fault) -> BackendError {
    move |fault| failed(format!("{what} of {key:?}"), fault)
}
