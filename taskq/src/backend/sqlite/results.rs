//! SQL statements on records.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use crate::backend::Written;
use crate::codec::result;
use crate::message::{Record, TaskId};
use crate::sqlite::{Change, Tx};

/// A sweep takes place after this many writes or this much time, whichever comes first.
const SWEEP_AFTER_WRITES: usize = 1000;
const SWEEP_AFTER_MS: i64 = 60_000;

/// A record to be written to the file.
pub(super) struct Entry {
    /// The fields of the record that decide whether it may replace another.
    outline: Record,
    document: Bytes,
}

impl Entry {
    pub(super) fn of(record: &Record) -> Self {
        let outline = Record { generation: record.generation, ..Record::new(record.id.clone(), record.state.clone()) };
        Self { outline, document: result::encode(record).into() }
    }
}

/// The maximum size in bytes of a document: that of any value in SQLite, unless it is built with another limit.
pub(super) const DOCUMENT_MAX: usize = 1_000_000_000;

/// The refusal of a document that SQLite would not take, for which it would give up the whole transaction.
fn refusal(size: usize) -> Option<Written> {
    (size > DOCUMENT_MAX).then(|| Written::Refused {
        why: format!(
            "the record has {size} bytes, and SQLite takes {DOCUMENT_MAX}; pass a reference to the data instead"
        ),
    })
}

/// Stores the records that may be stored, and returns the outcome for each.
pub(super) fn write(
    tx: &mut Tx<'_>,
    entries: &[Entry],
    writer: i64,
    expires: Option<i64>,
    now: i64,
) -> rusqlite::Result<Vec<Written>> {
    let mut number = reserve(tx, entries.len())?;
    let mut written = Vec::with_capacity(entries.len());
    for entry in entries {
        number += 1;
        if let Some(refused) = refusal(entry.document.len()) {
            written.push(refused);
            continue;
        }
        let stored = insert(tx, number, entry, writer, expires)?
            || (may_replace(tx, entry, now)? && insert(tx, number, entry, writer, expires)?);
        if stored {
            let (task, document) = (entry.outline.id.clone(), entry.document.clone());
            tx.committed.changes.push(Change { number, task, document });
        }
        written.push(if stored { Written::Stored } else { Written::Kept });
    }
    Ok(written)
}

/// Reserves `count` numbers and returns the one before the first of them.
fn reserve(tx: &Tx<'_>, count: usize) -> rusqlite::Result<i64> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    tx.prepare_cached("UPDATE counters SET value = value + ?1 WHERE name = 'results' RETURNING value")?
        .query_row([count], |row| row.get::<_, i64>(0))
        .map(|last| last - count)
}

/// Inserts a record. Returns false if the task has one already.
fn insert(tx: &Tx<'_>, number: i64, entry: &Entry, writer: i64, expires: Option<i64>) -> rusqlite::Result<bool> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO results (number, task, writer, expires, document) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (task) DO NOTHING",
    )?;
    let id = entry.outline.id.as_str();
    Ok(statement.execute(params![number, id, writer, expires, &entry.document[..]])? == 1)
}

/// Deletes the stored record if the new one may replace it.
fn may_replace(tx: &Tx<'_>, entry: &Entry, now: i64) -> rusqlite::Result<bool> {
    let id = &entry.outline.id;
    if let Some(stored) = document(tx, id, now)? {
        match result::decode(id, &stored) {
            Ok(stored) if !entry.outline.may_replace(&stored) => return Ok(false),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a stored record cannot be read, and is replaced"),
        }
    }
    forget(tx, std::slice::from_ref(id))?;
    Ok(true)
}

/// The record of a task, unless it has expired.
pub(super) fn document(connection: &Connection, id: &TaskId, now: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT document FROM results WHERE task = ?1 AND (expires IS NULL OR expires > ?2)")?
        .query_row(params![id.as_str(), now], |row| row.get(0))
        .optional()
}

/// Deletes the records of these tasks.
pub(super) fn forget(tx: &Tx<'_>, ids: &[TaskId]) -> rusqlite::Result<()> {
    let mut statement = tx.prepare_cached("DELETE FROM results WHERE task = ?1")?;
    ids.iter().try_for_each(|id| statement.execute([id.as_str()]).map(drop))
}

/// The number of the record that was stored last.
pub(super) fn last_number(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM counters WHERE name = 'results'")?.query_row([], |row| row.get(0))
}

/// Calls `take` for each record stored by another process with a number above `after` and up to `last`, in that order.
pub(super) fn stored_between(
    connection: &Connection,
    after: i64,
    last: i64,
    own: i64,
    mut take: impl FnMut(i64, &str, &[u8]),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT number, task, document FROM results
         WHERE number > ?1 AND number <= ?2 AND writer <> ?3 ORDER BY number",
    )?;
    let mut rows = statement.query([after, last, own])?;
    while let Some(row) = rows.next()? {
        take(row.get(0)?, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_blob()?);
    }
    Ok(())
}

/// An incremental deletion of expired records. Each step examines more records than have been written since the last.
///
/// It goes through the records by number, over and over. That needs no index, whose cost every write would bear.
#[derive(Default)]
pub(super) struct Sweep {
    /// The number of the last record that was examined.
    position: i64,
    writes: usize,
    last: i64,
}

impl Sweep {
    /// Counts the writes, and examines the next records if it is time. To be called with each write.
    pub(super) fn after(&mut self, tx: &Tx<'_>, writes: usize, now: i64) -> rusqlite::Result<()> {
        self.writes += writes;
        if self.writes < SWEEP_AFTER_WRITES && now.saturating_sub(self.last) < SWEEP_AFTER_MS {
            return Ok(());
        }
        let piece = i64::try_from(2 * self.writes.max(SWEEP_AFTER_WRITES)).unwrap_or(i64::MAX);
        let (end, found): (Option<i64>, i64) = tx
            .prepare_cached(
                "SELECT max(number), count(*)
                 FROM (SELECT number FROM results WHERE number > ?1 ORDER BY number LIMIT ?2)",
            )?
            .query_row([self.position, piece], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let Some(end) = end {
            tx.prepare_cached("DELETE FROM results WHERE number > ?1 AND number <= ?2 AND expires <= ?3")?
                .execute([self.position, end, now])?;
        }
        // After the last record it begins again; otherwise it would follow new records, which come faster than it can.
        let position = end.filter(|_| found == piece).unwrap_or(0);
        *self = Self { position, writes: 0, last: now };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_sqlite_would_not_take_is_refused_alone() {
        assert_eq!(refusal(DOCUMENT_MAX), None);
        let Some(Written::Refused { why }) = refusal(DOCUMENT_MAX + 1) else { panic!("it is too large") };
        assert!(why.contains("1000000001 bytes, and SQLite takes 1000000000"), "{why}");
    }

    #[test]
    fn the_limit_is_that_of_the_library() {
        let connection = Connection::open_in_memory().expect("memory can be opened");
        let takes = |size: usize| {
            connection.query_row(&format!("SELECT length(zeroblob({size}))"), [], |row| row.get::<_, i64>(0)).is_ok()
        };
        assert!(takes(DOCUMENT_MAX) && !takes(DOCUMENT_MAX + 1));
    }
}
