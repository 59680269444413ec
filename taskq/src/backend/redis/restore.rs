//! Writes of late are made again on another server, before it is used for anything else.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};

use super::journal::{Missing, RecordWrite};
use super::timing::in_time;
use super::{keys, scripts};
use crate::codec::result;
use crate::message::Record;

/// The maximum number of writes in one pipeline, and the size in bytes of their values beyond which it ends.
const WRITES_MAX: usize = 256;
const PIPELINE_BYTES_MAX: usize = 1 << 20;

/// The number of writes that the server had lost, of those that were made again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Restored {
    pub(super) records: usize,
    pub(super) facts: usize,
    /// The writes that the server refused.
    pub(super) refused: usize,
}

/// Makes the writes again. An error means that the connection is of no use.
pub(super) async fn restore(
    connection: &mut MultiplexedConnection,
    missing: &Missing,
    limit: Duration,
) -> Result<Restored, RedisError> {
    let mut restored = Restored::default();
    for facts in chunks(&missing.facts, |fact| fact.value.len()) {
        let calls = facts.iter().map(scripts::restore_fact).collect();
        let answers = send(connection, calls, limit).await?;
        restored.count(answers, |restored| &mut restored.facts)?;
    }
    for records in chunks(&missing.records, |record| record.document.len()) {
        let ended: Vec<&RecordWrite> = records.iter().filter(|record| record.is_terminal).collect();
        let mut unended: Vec<&RecordWrite> = records.iter().filter(|record| !record.is_terminal).collect();
        if !unended.is_empty() {
            let stored = read(connection, &unended, limit).await?;
            let mut stored = stored.into_iter();
            unended.retain(|record| is_behind(stored.next().flatten().as_ref(), record));
        }
        let calls = ended.into_iter().chain(unended).map(scripts::restore_record).collect();
        let answers = send(connection, calls, limit).await?;
        restored.count(answers, |restored| &mut restored.records)?;
    }
    Ok(restored)
}

/// Whether what is stored is behind a record of a run that goes on. Another worker may have gone on since.
fn is_behind(stored: Option<&StoredState>, mine: &RecordWrite) -> bool {
    match stored {
        None => true,
        Some(StoredState::Readable { generation, .. }) if *generation != mine.generation => {
            *generation < mine.generation
        }
        Some(StoredState::Readable { attempt, is_terminal, .. }) => !is_terminal && *attempt <= mine.attempt,
        Some(StoredState::Unreadable) => false,
    }
}

/// A record that is stored, as far as it matters here.
enum StoredState {
    Readable {
        generation: u32,
        attempt: u32,
        is_terminal: bool,
    },
    /// Another program wrote it.
    Unreadable,
}

impl StoredState {
    fn of(key: &str, document: &[u8]) -> Self {
        match keys::task_of(key).and_then(|id| result::decode(&id, document).ok()) {
            Some(Record { generation, attempt, state, .. }) => {
                Self::Readable { generation, attempt, is_terminal: state.is_terminal() }
            }
            None => Self::Unreadable,
        }
    }
}

/// Reads what is stored for these records.
async fn read(
    connection: &mut MultiplexedConnection,
    records: &[&RecordWrite],
    limit: Duration,
) -> Result<Vec<Option<StoredState>>, RedisError> {
    let mut question = redis::cmd("MGET");
    question.arg(records.iter().map(|record| &record.key).collect::<Vec<_>>());
    let documents = in_time(limit, question.query_async::<Vec<Option<Vec<u8>>>>(connection)).await?;
    let stored = |(mine, document): (&&RecordWrite, Option<Vec<u8>>)| Some(StoredState::of(&mine.key, &document?));
    Ok(records.iter().zip(documents).map(stored).collect())
}

/// Pieces of a list that are sent at once.
fn chunks<T>(writes: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut chunks, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (at, write) in writes.iter().enumerate() {
        if at > first && (at - first == WRITES_MAX || bytes + size(write) > PIPELINE_BYTES_MAX) {
            chunks.push(&writes[first..at]);
            (first, bytes) = (at, 0);
        }
        bytes += size(write);
    }
    if first < writes.len() {
        chunks.push(&writes[first..]);
    }
    chunks
}

async fn send(
    connection: &mut MultiplexedConnection,
    calls: Vec<redis::Cmd>,
    limit: Duration,
) -> Result<Vec<Value>, RedisError> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::with_capacity(calls.len());
    for call in calls {
        pipeline.add_command(call);
    }
    in_time(limit, connection.send_packed_commands(&pipeline, 0, pipeline.len())).await
}

impl Restored {
    /// Counts the answers to writes of one kind.
    fn count(&mut self, answers: Vec<Value>, kind: fn(&mut Self) -> &mut usize) -> Result<(), RedisError> {
        for answer in answers {
            match answer {
                Value::Int(1) => *kind(self) += 1,
                Value::Int(_) => {}
                Value::ServerError(error) if error.code() == "READONLY" => {
                    return Err(error.into());
                }
                _ => self.refused += 1,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn unended(generation: u32, attempt: u32) -> RecordWrite {
        let (key, document) = ("celery-task-meta-a".to_owned(), Bytes::new());
        RecordWrite { key, document, generation, attempt, is_terminal: false, ttl_ms: None }
    }

    #[test]
    fn a_run_that_went_on_elsewhere_is_not_set_back() {
        let stored =
            |generation, attempt, is_terminal| Some(StoredState::Readable { generation, attempt, is_terminal });
        let mine = unended(1, 2);
        for (stored, expected) in [
            (None, true),
            (stored(0, 9, true), true),
            (stored(1, 1, false), true),
            (stored(1, 2, false), true),
            (stored(1, 3, false), false),
            (stored(1, 1, true), false),
            (stored(2, 0, false), false),
            (Some(StoredState::Unreadable), false),
        ] {
            assert_eq!(is_behind(stored.as_ref(), &mine), expected);
        }
    }

    #[test]
    fn pipelines_are_bounded_in_number_and_size() {
        let sizes = |writes: &[usize]| chunks(writes, |size| *size).iter().map(|chunk| chunk.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&[1; 600]), [256, 256, 88]);
        assert_eq!(sizes(&[PIPELINE_BYTES_MAX * 2, 1, PIPELINE_BYTES_MAX, 1]), [1, 1, 1, 1]);
    }
}
