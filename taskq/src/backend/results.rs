//! The port of results: records and progress of tasks.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};

use super::error::BackendError;
use crate::io;
use crate::message::{Record, TaskId};

/// The pause before a wait that met an outage begins anew.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// The outcome of writing a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// The record is stored, and watchers have been notified.
    Stored,
    /// A terminal record of the same or a later generation is stored already and was kept.
    Kept,
    /// The record was not stored, and would not be however often it were written: something about this one record is
    /// not acceptable to the store, such as its size. Nothing was changed.
    Refused {
        /// The fault in the record, with sizes in bytes and limits where they are known.
        why: String,
    },
}

/// A stream of the changes of one task's record, beginning at the subscription. A change that cannot be read is an
/// error.
pub type Changes = Pin<Box<dyn Stream<Item = Result<Record, BackendError>> + Send>>;

/// A store of results and progress.
pub trait ResultBackend: Send + Sync + std::fmt::Debug {
    /// Stores each record in one atomic step and notifies its watchers. [`Record::may_replace`] is the rule: the first
    /// terminal record of a generation wins. The answers are in the order of the records. What is wrong with one record
    /// is answered in its place, and the others are written. An error means that the store cannot be written to at the
    /// moment; some records may have been stored, and writing them again is safe.
    fn write<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<Written>, BackendError>>;

    /// The records of these tasks, in order; `None` where none is stored.
    fn read<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, BackendError>>;

    /// Subscribes to the changes of one task. Every record written after this future has completed is delivered.
    /// Records stored before are not, so read after subscribing. After an outage the adapter subscribes again and
    /// delivers the record that is stored then, so a terminal record is never missed while it is kept.
    fn changes<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<Changes, BackendError>>;

    /// Deletes the records of these tasks.
    fn forget<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Product and version in one line, then one line for each thing in its configuration that should be fixed.
    fn info(&self) -> BoxFuture<'_, Result<Vec<String>, BackendError>>;
}

/// Convenience methods over [`ResultBackend`].
pub trait ResultBackendExt: ResultBackend {
    /// The record of one task.
    fn read_one<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<Option<Record>, BackendError>> {
        Box::pin(async move { Ok(self.read(std::slice::from_ref(id)).await?.pop().flatten()) })
    }

    /// The record of one task, if this program can read it. One that it cannot read is logged and counts as none: it
    /// was written by another program, and says nothing of runs here.
    fn read_known<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<Option<Record>, BackendError>> {
        Box::pin(async move {
            match self.read_one(id).await {
                Err(error @ BackendError::UnreadableResult { .. }) => {
                    tracing::warn!(%error, "a record that another program wrote counts as none");
                    Ok(None)
                }
                read => read,
            }
        })
    }

    /// The stored record of a task, then every change, up to and including a terminal record or an error.
    fn watch<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<Changes, BackendError>> {
        Box::pin(async move {
            // Subscribing comes first: a record that is written between the two steps is then seen twice rather than
            // never.
            let changes = self.changes(id).await?;
            let stored = self.read_one(id).await?;
            let all: Changes = Box::pin(futures_util::stream::iter(stored.map(Ok)).chain(changes));
            let until_terminal = futures_util::stream::unfold(Some(all), async |all| {
                let mut all = all?;
                let change = all.next().await?;
                let goes_on = change.as_ref().is_ok_and(|record| !record.state.is_terminal());
                Some((change, goes_on.then_some(all)))
            });
            Ok(Box::pin(until_terminal) as Changes)
        })
    }

    /// The terminal record of a task, as soon as it is stored; `None` if `timeout` passes first. A record that cannot
    /// be read is an error at once: those that follow would be written by the same writer. An outage of the store is
    /// waited out; its error is returned only if it lasts until the time is over.
    fn wait<'a>(&'a self, id: &'a TaskId, timeout: Duration) -> BoxFuture<'a, Result<Option<Record>, BackendError>> {
        Box::pin(async move {
            let mut outage = None;
            let wait = async {
                loop {
                    let mut records = match self.watch(id).await {
                        Ok(records) => records,
                        Err(error) if error.is_outage() => {
                            outage = Some(error);
                            io::pause(OUTAGE_PAUSE).await;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    outage = None;
                    while let Some(record) = records.next().await {
                        let record = record?;
                        if record.state.is_terminal() {
                            return Ok(Some(record));
                        }
                    }
                    // The stream ended early. If the backend is at fault, reading from it returns the error.
                    match self.read_one(id).await {
                        Ok(record) => {
                            let ended = record.filter(|record| record.state.is_terminal());
                            return ended.map(Some).ok_or(BackendError::Closed);
                        }
                        Err(error) if error.is_outage() => outage = Some(error),
                        Err(error) => return Err(error),
                    }
                }
            };
            let waited = io::timeout_here(timeout, wait).await;
            waited.unwrap_or_else(|_| outage.map_or(Ok(None), Err))
        })
    }
}

impl<B: ResultBackend + ?Sized> ResultBackendExt for B {}

/// A shared result backend.
pub type SharedResults = Arc<dyn ResultBackend>;
