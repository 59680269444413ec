//! The result backend in Redis: one document per task.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use redis::{Pipeline, Value};

use super::backend::RedisBackend;
use super::connection::Repeat;
use super::documents::{KEYS_PER_COMMAND_MAX, documents};
use super::journal::Write;
use super::refusal::failed;
use super::{keys, server, writing};
use crate::backend::{BackendError, Changes, ResultBackend, Written};
use crate::codec::result;
use crate::message::{Record, TaskId};

impl ResultBackend for RedisBackend {
    fn write<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<Written>, BackendError>> {
        Box::pin(async move {
            let ttl_ms = keys::ttl_ms(self.options.result_ttl);
            let written = writing::write(&self.connection, records, ttl_ms).await;
            written.map_err(failed(|| format!("the writing of {} records", records.len())))
        })
    }

    fn read<'a>(&'a self, ids: &'a [TaskId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, BackendError>> {
        Box::pin(async move {
            let stored = documents(&self.connection, ids).await;
            let stored = stored.map_err(failed(|| format!("the reading of {} records", ids.len())))?;
            let read = |(id, document): (&TaskId, Option<Vec<u8>>)| {
                Ok(document.map(|document| result::decode(id, &document)).transpose()?)
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
            deleted.map_err(failed(|| format!("the deletion of {} records", ids.len())))?;
            let deletions = ids.iter().map(|id| Write::Deletion { key: keys::result(id) });
            self.connection.journal().add(self.connection.number(), deletions);
            Ok(())
        })
    }

    fn info(&self) -> BoxFuture<'_, Result<Vec<String>, BackendError>> {
        Box::pin(server::info(&self.connection))
    }
}
