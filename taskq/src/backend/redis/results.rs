//! The results.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use redis::{FromRedisValue, Pipeline, Value};

use super::connection::{Connection, Repeat};
use super::{RedisBackend, keys, scripts, server};
use crate::backend::{BackendError, Changes, ResultBackend, Written};
use crate::codec::result;
use crate::fault::BoxError;
use crate::message::{Record, TaskId};

/// How many documents one command asks for. Others are served between two commands.
const KEYS_PER_COMMAND_MAX: usize = 256;

impl ResultBackend for RedisBackend {
    fn write<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<Written>, BackendError>> {
        Box::pin(async move {
            if records.is_empty() {
                return Ok(Vec::new());
            }
            let ttl_ms = keys::ttl_ms(self.options.result_ttl).unwrap_or(0);
            let mut calls = Pipeline::with_capacity(records.len());
            for record in records {
                let mut call = scripts::WRITE_RECORD.call(&keys::result(&record.id));
                call.arg(result::encode(record)).arg(record.generation).arg(ttl_ms);
                calls.add_command(call);
            }
            let answers = scripts::call(&self.connection, calls).await;
            let written = answers.and_then(|answers| answers.into_iter().map(written).collect());
            written.map_err(failed(|| format!("the writing of {} records", records.len())))
        })
    }

    fn read<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, BackendError>> {
        Box::pin(async move {
            let stored = documents(&self.connection, ids).await;
            let stored = stored.map_err(failed(|| format!("the reading of {} records", ids.len())))?;
            let read = |(id, document): (&TaskId, Option<Vec<u8>>)| match document {
                None => Ok(None),
                Some(document) => result::decode(id, &document).map(Some).map_err(|error| BackendError::Nonsense {
                    what: format!("the result of task {id}"),
                    source: error.into(),
                }),
            };
            ids.iter().zip(stored).map(read).collect()
        })
    }

    fn changes<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<Changes, BackendError>> {
        Box::pin(
            async move { self.watch.subscribe(id).await.map_err(failed(|| format!("the subscription to task {id}"))) },
        )
    }

    fn forget<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            if ids.is_empty() {
                return Ok(());
            }
            let mut commands = Pipeline::new();
            for ids in ids.chunks(KEYS_PER_COMMAND_MAX) {
                commands.cmd("DEL").arg(ids.iter().map(keys::result).collect::<Vec<_>>());
            }
            let answers = self.connection.send(Arc::new(commands), Repeat::Safe).await;
            let deleted = answers.and_then(|answers| Ok(Value::Array(answers).extract_error()?));
            deleted.map(drop).map_err(failed(|| format!("the deletion of {} records", ids.len())))
        })
    }

    fn info(&self) -> BoxFuture<'_, Result<Vec<String>, BackendError>> {
        Box::pin(server::info(&self.connection))
    }
}

/// What is stored of these tasks, in order.
pub(super) async fn documents(connection: &Connection, ids: &[TaskId]) -> Result<Vec<Option<Vec<u8>>>, BoxError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut commands = Pipeline::new();
    for ids in ids.chunks(KEYS_PER_COMMAND_MAX) {
        commands.cmd("MGET").arg(ids.iter().map(keys::result).collect::<Vec<_>>());
    }
    let mut documents = Vec::with_capacity(ids.len());
    for answer in connection.send(Arc::new(commands), Repeat::Safe).await? {
        documents.extend(Vec::<Option<Vec<u8>>>::from_redis_value(answer.extract_error()?)?);
    }
    Ok(documents)
}

fn written(answer: Value) -> Result<Written, BoxError> {
    match answer.extract_error()? {
        Value::Int(1) => Ok(Written::Stored),
        Value::Int(0) => Ok(Written::Kept),
        other => Err(format!("the script answered {other:?}").into()),
    }
}

/// Makes a cause into an error that says what was not done.
pub(super) fn failed(what: impl FnOnce() -> String) -> impl FnOnce(BoxError) -> BackendError {
    move |source| BackendError::Failed { what: what(), source }
}
