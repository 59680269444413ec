//! Revoking tasks.
//!
//! A revocation is first kept in Kv, where workers that are away find it, then told to the workers that listen. The
//! record is written in between: those who wait for the task are told at once, and the first terminal record wins, so a
//! task is never both revoked and succeeded.

use std::future::IntoFuture;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Map, json};

use crate::attempt::Verdict;
use crate::backend::kv::{Versioned, from_versioned_json, to_json};
use crate::backend::{BackendError, Kv, ResultBackend, ResultBackendExt};
use crate::client::{Client, Handle};
use crate::error::Error;
use crate::message::{Envelope, Payload, Record, TaskId};
use crate::remote::Revocation;

/// The time for which a revocation is kept for workers that are away, and for tasks that are not yet due.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The number of requests to Kv that are under way at a time.
const AT_ONCE: usize = 64;

/// The number of tasks in one message to workers.
const TASKS_PER_MESSAGE: usize = 1000;

/// A revocation of tasks that is about to be made; await it.
#[derive(Debug, Clone)]
#[must_use = "nothing is revoked until it is awaited"]
pub struct RevokeCall {
    client: Client,
    ids: Vec<TaskId>,
    terminate: bool,
}

/// The future of a [`RevokeCall`].
pub type RevokeFuture = BoxFuture<'static, Result<(), Error>>;

impl Client {
    /// Revokes tasks: those that wait, in a queue or for their time, are not run any more; those that run are asked to
    /// stop. An async task ends at its next await, a plain function sees [`Context::is_cancelled`]. Their state is
    /// `REVOKED` from then on, unless they have ended before.
    ///
    /// Workers that are away learn of it when they are back, for 30 days; without a result backend, nobody tells them.
    ///
    /// [`Context::is_cancelled`]: crate::Context::is_cancelled
    pub fn revoke(&self, ids: impl IntoIterator<Item = TaskId>) -> RevokeCall {
        RevokeCall { client: self.clone(), ids: ids.into_iter().collect(), terminate: false }
    }
}

impl<T> Handle<T> {
    /// Revokes the task; see [`Client::revoke`].
    ///
    /// # Errors
    ///
    /// As of the [`RevokeCall`].
    pub async fn revoke(&self) -> Result<(), Error> {
        self.client().await?.revoke([self.id().clone()]).await
    }
}

impl RevokeCall {
    /// Ends tasks that do not listen with their process, where that is supervised: plain functions, and async ones that
    /// never await. Other tasks of the process are finished before.
    pub fn terminate(mut self, terminate: bool) -> Self {
        self.terminate = terminate;
        self
    }

    /// # Errors
    ///
    /// If the revocation could not be kept, or not be told. Then some of the tasks may be revoked; do it again.
    async fn carry_out(self) -> Result<(), Error> {
        let Self { client, ids, terminate } = self;
        client.require_own_process()?;
        keep_revocations(&client, &ids, terminate).await?;
        for some in ids.chunks(TASKS_PER_MESSAGE) {
            let mut arguments = Map::new();
            arguments.insert("task_id".to_owned(), json!(some.iter().map(TaskId::as_str).collect::<Vec<_>>()));
            arguments.insert("terminate".to_owned(), json!(terminate));
            // Or each worker would keep it once more.
            arguments.insert("kept".to_owned(), json!(true));
            client.control().tell("revoke", arguments).await?;
        }
        Ok(())
    }
}

impl IntoFuture for RevokeCall {
    type Output = Result<(), Error>;
    type IntoFuture = RevokeFuture;

    fn into_future(self) -> RevokeFuture {
        self.carry_out().boxed()
    }
}

/// Keeps revocations for workers that are away, and records the end of the tasks.
pub async fn keep_revocations(client: &Client, ids: &[TaskId], terminate: bool) -> Result<(), BackendError> {
    if let Some(kv) = client.kv() {
        let value = to_json(&Revocation::new(terminate));
        let puts = ids.iter().map(Revocation::key).map(|key| {
            let (kv, value) = (kv.clone(), value.clone());
            async move { kv.put(&key, value, Some(KEPT_FOR)).await }
        });
        let puts: Vec<_> = puts.collect();
        stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    }
    let Ok(results) = client.results() else { return Ok(()) };
    for some in ids.chunks(TASKS_PER_MESSAGE) {
        let now = client.clock().now();
        let stored = read_each(&**results, some).await?;
        let records: Vec<_> = stored
            .into_iter()
            .zip(some)
            .filter(|(stored, _)| !stored.as_ref().is_some_and(|record| record.state.is_terminal()))
            .filter_map(|(stored, id)| revoked(id, stored.as_ref(), terminate, now))
            .collect();
        results.write(&records).await?;
    }
    Ok(())
}

/// The records of these tasks. One that this program cannot read counts as none.
async fn read_each(results: &dyn ResultBackend, ids: &[TaskId]) -> Result<Vec<Option<Record>>, BackendError> {
    match results.read(ids).await {
        Err(BackendError::UnreadableResult { .. }) => {}
        read => return read,
    }
    let mut read = Vec::with_capacity(ids.len());
    for id in ids {
        read.push(results.read_known(id).await?);
    }
    Ok(read)
}

/// The record of a revoked task, over the one that is stored.
fn revoked(id: &TaskId, stored: Option<&Record>, terminate: bool, now: DateTime<Utc>) -> Option<Record> {
    let task = stored.and_then(|record| record.task.clone()).unwrap_or_default();
    let envelope = Envelope::new(id.clone(), task.clone(), Payload::default());
    let record = Verdict::revoked(terminate).record(&envelope, now)?;
    Some(record.with(|record| {
        record.task = stored.and_then(|stored| stored.task.clone());
        record.worker = stored.and_then(|stored| stored.worker.clone());
        record.started_at = stored.and_then(|stored| stored.started_at);
        record.attempt = stored.map_or(0, |stored| stored.attempt);
        record.generation = stored.map_or(0, |stored| stored.generation);
    }))
}

/// The revocations that are kept. Those of a newer format are passed over.
pub async fn kept_revocations(kv: &dyn Kv) -> Result<Vec<(TaskId, Revocation)>, BackendError> {
    let mut kept = Vec::new();
    for (key, value) in kv.scan(Revocation::PREFIX).await? {
        let id = key.strip_prefix(Revocation::PREFIX).and_then(|id| TaskId::parse(id).ok());
        match (id, from_versioned_json(&key, &value, Revocation::NEWEST)) {
            (Some(id), Ok(Versioned::Known(revocation))) => kept.push((id, revocation)),
            (_, Ok(_)) => {}
            (_, Err(error)) => tracing::warn!(%error, "a revocation cannot be read and is passed over"),
        }
    }
    Ok(kept)
}
