//! Reads the stored result documents of many tasks at once.

use std::sync::Arc;

use redis::{FromRedisValue, Pipeline};

use super::connection::{Connection, Repeat};
use super::keys;
use crate::fault::BoxError;
use crate::message::TaskId;

/// The maximum number of keys in one command. Between two commands the server serves other clients.
pub(super) const KEYS_PER_COMMAND_MAX: usize = 256;

/// Returns the stored documents of these tasks, in order; `None` where nothing is stored.
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
