//! Following a task by its id.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use serde::Serialize;

use super::patience::ChildWait;
use super::sent::{CallFacts, SentCall};
use super::{Client, installed};
use crate::backend::{Changes, ResultBackendExt};
use crate::canvas::TaskOutput;
use crate::error::Error;
use crate::message::{Failure, Json, Progress, Record, TaskId, TaskState};
use crate::redact::Size;

/// A handle to a task that was sent, by its id. Cloning is cheap; dropping it does not stop the task.
pub struct Handle<T> {
    id: TaskId,
    client: Option<Client>,
    /// The facts about the call, if this program has sent it.
    facts: Option<CallFacts>,
    returns: PhantomData<fn() -> T>,
}

/// The status of a task, as stored in the result backend.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The task's id.
    pub id: TaskId,
    /// The state; `PENDING` if the backend has no record of the task.
    pub state: TaskState,
    /// The attempt that wrote this, counted from 0.
    pub attempt: u32,
    /// The latest progress, while it runs.
    pub progress: Option<Progress>,
    /// When the attempt began, if that was recorded.
    pub started_at: Option<DateTime<Utc>>,
    /// When the task ended for good.
    pub finished_at: Option<DateTime<Utc>>,
    /// In state `RETRY`: when the next attempt is due.
    pub retry_at: Option<DateTime<Utc>>,
    /// The node name of the worker.
    pub worker: Option<String>,
    /// The task's name, where it is known.
    pub task: Option<String>,
    /// Why the task failed, is retried or was revoked.
    pub failure: Option<Failure>,
    /// The result, as JSON, once the task has succeeded; before that, the value that the task itself reported.
    pub value: Option<Json>,
    /// Something in the result for which JSON has no form, such as Python's `NaN`; `value` has null in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_fault: Option<String>,
}

/// A stream of every change of a task, up to and including its end.
pub struct Updates(Changes);

impl Client {
    /// Returns a handle to the task with this id, sent by any program.
    pub fn handle<T>(&self, id: TaskId) -> Handle<T> {
        Handle::new(SentCall { id, facts: None }, Some(self.clone()))
    }

    /// Returns the handle of a call that was sent.
    pub(super) fn handle_of<T>(&self, sent: SentCall) -> Handle<T> {
        Handle::new(sent, Some(self.clone()))
    }
}

impl<T> Handle<T> {
    fn new(SentCall { id, facts }: SentCall, client: Option<Client>) -> Self {
        Self { id, client, facts, returns: PhantomData }
    }

    /// Attaches to the task with this id, sent by any program; uses the client of calls that name none.
    pub fn attach(id: TaskId) -> Self {
        Self::new(SentCall { id, facts: None }, None)
    }

    /// Returns the task's id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    pub(super) async fn client(&self) -> Result<Client, Error> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => installed::current().await,
        }
    }

    /// Returns the status of the task now.
    pub async fn status(&self) -> Result<Status, Error> {
        let record = self.client().await?.results()?.read_one(&self.id).await?;
        Ok(record.map_or_else(|| Status::pending(self.id.clone()), Status::from))
    }

    /// Streams the current status, then every change, until the task has ended. The backend pushes changes; nothing is
    /// polled. If changes follow each other faster than they are read, only the latest arrive. A status that cannot be
    /// read, since another program wrote it in another format, is an error and the last item.
    ///
    /// [`Error::ResultIgnored`] if the call stores no result, as far as this program knows: nothing would ever come.
    pub async fn watch(&self) -> Result<Updates, Error> {
        self.require_result()?;
        Ok(Updates(self.client().await?.results()?.watch(&self.id).await?))
    }

    /// Fails if it is known that no result will ever be stored.
    fn require_result(&self) -> Result<(), Error> {
        match &self.facts {
            Some(facts) if !facts.stores_result => Err(Error::ResultIgnored { id: self.id.clone() }),
            _ => Ok(()),
        }
    }

    /// Deletes the task's result. A task that has not ended yet will write it again.
    pub async fn forget(self) -> Result<(), Error> {
        Ok(self.client().await?.results()?.forget(std::slice::from_ref(&self.id)).await?)
    }
}

impl<T: TaskOutput> Handle<T> {
    /// Waits for the result and returns it; the backend pushes it, without polling. Waits at most for the setting
    /// `get_timeout`, one hour by default.
    ///
    /// Errors: [`Error::Failed`] or [`Error::Revoked`] if the task ended so, [`Error::NoResultYet`] if it did not end
    /// in time, [`Error::ResultIgnored`] if the call stores no result, [`Error::ResultType`] if the result is no `T`,
    /// and errors of the backend. A result that cannot be read at all, since another program wrote it in another
    /// format, is an error of the backend as soon as it is there.
    ///
    /// Inside of a task, the wait takes a slot of the worker. If the other task needs that slot, both wait until the
    /// time is over; a warning names them after a second.
    pub async fn get(&self) -> Result<T, Error> {
        let timeout = self.client().await?.settings().get_timeout;
        self.get_timeout(timeout).await
    }

    /// Returns the result like [`get`](Self::get), waiting at most for `timeout`.
    pub async fn get_timeout(&self, timeout: Duration) -> Result<T, Error> {
        self.require_result()?;
        let client = self.client().await?;
        let results = client.results()?;
        let wait = ChildWait { child: &self.id, facts: self.facts.as_ref(), results: &**results };
        let record = wait.watch(results.wait(&self.id, timeout)).await?;
        match record {
            Some(record) => outcome(record),
            None => Err(Error::NoResultYet { id: self.id.clone(), after: timeout }),
        }
    }
}

/// Returns the result in a terminal record.
fn outcome<T: TaskOutput>(record: Record) -> Result<T, Error> {
    let unexplained = || Failure::new("taskq", "TaskError", "the record does not say why");
    match record.state {
        TaskState::Success => {
            let json = record.value.as_deref().map_or("null", serde_json::value::RawValue::get);
            let value = match record.value_fault {
                None => T::from_json(json),
                Some(fault) => Err(serde::de::Error::custom(fault)),
            };
            value.map_err(|source| Error::ResultType { id: record.id, expected: std::any::type_name::<T>(), source })
        }
        TaskState::Revoked => {
            Err(Error::Revoked { id: record.id, failure: record.failure.unwrap_or_else(unexplained) })
        }
        _ => Err(Error::Failed { id: record.id, failure: record.failure.unwrap_or_else(unexplained) }),
    }
}

impl Status {
    fn pending(id: TaskId) -> Self {
        Self::from(Record::new(id, TaskState::Pending))
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("attempt", &self.attempt)
            .field("progress", &self.progress)
            .field("failure", &self.failure)
            .field("value", &self.value.as_ref().map(|value| Size(value.get().len())))
            .field("value_fault", &self.value_fault)
            .finish_non_exhaustive()
    }
}

impl From<Record> for Status {
    fn from(record: Record) -> Self {
        Self {
            progress: record.progress(),
            id: record.id,
            state: record.state,
            attempt: record.attempt,
            started_at: record.started_at,
            finished_at: record.finished_at,
            retry_at: record.retry_at,
            worker: record.worker,
            task: record.task,
            failure: record.failure,
            value: record.value,
            value_fault: record.value_fault,
        }
    }
}

impl Stream for Updates {
    type Item = Result<Status, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx).map(|change| change.map(|record| Ok(record?.into())))
    }
}

impl Updates {
    /// Returns the next change; `None` once the task has ended, or after an error.
    pub async fn next(&mut self) -> Option<Result<Status, Error>> {
        StreamExt::next(self).await
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), client: self.client.clone(), facts: self.facts.clone(), returns: PhantomData }
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.id)
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Updates")
    }
}
