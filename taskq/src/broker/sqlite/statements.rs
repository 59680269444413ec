//! SQL statements on messages. Each function is a part of a transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::convert::StoredMessage;
use crate::broker::QueueStats;
use crate::sqlite::Tx;

/// The maximum size of the bodies that are taken in one transaction, beyond the first message.
const TAKEN_BYTES_MAX: usize = 32 << 20;

/// A message that was taken from a queue.
#[derive(Debug)]
pub(super) struct TakenMessage {
    pub(super) id: i64,
    /// The number of times the message has returned to its queue.
    pub(super) returns: u32,
    pub(super) message: StoredMessage,
}

/// The number of the queue of this name.
pub(super) fn queue(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM queues WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0)).optional()
}

/// Creates a queue if it does not exist, and returns its number.
pub(super) fn declare(tx: &Tx<'_>, name: &str) -> rusqlite::Result<i64> {
    if let Some(number) = queue(tx, name)? {
        return Ok(number);
    }
    tx.prepare_cached("INSERT INTO queues (name) VALUES (?1)")?.insert([name])
}

/// Puts a new message at the end of a queue, or among the delayed messages.
pub(super) fn put(tx: &mut Tx<'_>, queue: i64, message: &StoredMessage, due: Option<i64>) -> rusqlite::Result<()> {
    let id = tx
        .prepare_cached("INSERT INTO messages (properties, headers, body) VALUES (?1, ?2, ?3)")?
        .insert(params![message.properties, message.headers, &message.body[..]])?;
    match due {
        None => {
            tx.prepare_cached("INSERT INTO ready (queue, rank, id, returns) VALUES (?1, ?2, ?3, 0)")?.execute([
                queue,
                message.rank,
                id,
            ])?;
            tx.committed.arrived(queue);
        }
        Some(due) => {
            tx.prepare_cached("INSERT INTO delayed (due, id, queue, rank) VALUES (?1, ?2, ?3, ?4)")?.execute([
                due,
                id,
                queue,
                message.rank,
            ])?;
        }
    }
    Ok(())
}

/// Creates a lease.
pub(super) fn begin_lease(tx: &Tx<'_>, lease: i64, until: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO leases (lease, until) VALUES (?1, ?2)")?.execute([lease, until]).map(drop)
}

/// Notes that the holder of the lease consumes from a queue.
pub(super) fn register(tx: &Tx<'_>, lease: i64, queue: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO consumers (lease, queue) VALUES (?1, ?2)")?
        .execute([lease, queue])
        .map(drop)
}

/// Notes that the holder of the lease does not consume from any queue any more.
pub(super) fn unregister(tx: &Tx<'_>, lease: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM consumers WHERE lease = ?1")?.execute([lease]).map(drop)
}

/// Extends a lease. Returns false if it has expired and was ended by another process.
pub(super) fn renew(tx: &Tx<'_>, lease: i64, until: i64) -> rusqlite::Result<bool> {
    let changed = tx.prepare_cached("UPDATE leases SET until = ?2 WHERE lease = ?1")?.execute([lease, until])?;
    Ok(changed == 1)
}

/// Takes up to `limit` messages from the front of a queue.
pub(super) fn take(tx: &Tx<'_>, lease: i64, queue: i64, limit: usize) -> rusqlite::Result<Vec<TakenMessage>> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    {
        let mut statement = tx.prepare_cached(
            "SELECT r.rank, r.id, r.returns, m.properties, m.headers, m.body
             FROM ready r JOIN messages m ON m.id = r.id WHERE r.queue = ?1 ORDER BY r.rank, r.id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![queue, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        while bytes <= TAKEN_BYTES_MAX
            && let Some(row) = rows.next()?
        {
            let body = row.get_ref(5)?.as_blob()?;
            bytes += body.len();
            let message = StoredMessage {
                rank: row.get(0)?,
                properties: row.get(3)?,
                headers: row.get(4)?,
                body: body.to_vec().into(),
            };
            taken.push(TakenMessage { id: row.get(1)?, returns: row.get(2)?, message });
        }
    }
    let Some(last) = taken.last() else { return Ok(taken) };
    let until = (last.message.rank, last.id);
    tx.prepare_cached(
        "INSERT INTO held (lease, id, queue, rank, returns)
         SELECT ?1, id, queue, rank, returns FROM ready WHERE queue = ?2 AND (rank, id) <= (?3, ?4)",
    )?
    .execute([lease, queue, until.0, until.1])?;
    tx.prepare_cached("DELETE FROM ready WHERE queue = ?1 AND (rank, id) <= (?2, ?3)")?
        .execute([queue, until.0, until.1])?;
    Ok(taken)
}

/// Whether [`take`] may have ended because of the size of these bodies, rather than at the end of the queue.
pub(super) fn are_large(taken: &[TakenMessage]) -> bool {
    taken.iter().map(|taken| taken.message.body.len()).sum::<usize>() > TAKEN_BYTES_MAX
}

/// Deletes a message that is held under this lease.
pub(super) fn forget(tx: &Tx<'_>, lease: i64, id: i64) -> rusqlite::Result<()> {
    if tx.prepare_cached("DELETE FROM held WHERE lease = ?1 AND id = ?2")?.execute([lease, id])? == 1 {
        tx.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

/// Puts a message that is held under this lease back to its place. `counts`: the message was delivered.
pub(super) fn put_back(tx: &mut Tx<'_>, lease: i64, id: i64, counts: bool) -> rusqlite::Result<()> {
    let held = tx
        .prepare_cached("DELETE FROM held WHERE lease = ?1 AND id = ?2 RETURNING queue, rank, returns")?
        .query_row([lease, id], |row| Ok([row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?]))
        .optional()?;
    if let Some([queue, rank, returns]) = held {
        tx.prepare_cached("INSERT INTO ready (queue, rank, id, returns) VALUES (?1, ?2, ?3, ?4)")?.execute([
            queue,
            rank,
            id,
            returns + i64::from(counts),
        ])?;
        tx.committed.arrived(queue);
    }
    Ok(())
}

/// Puts back all messages held under a lease, and ends it. Returns false if there is no such lease.
pub(super) fn end_lease(tx: &mut Tx<'_>, lease: i64) -> rusqlite::Result<bool> {
    tx.committed.ended.push(lease);
    {
        let mut statement = tx.connection().prepare_cached("SELECT DISTINCT queue FROM held WHERE lease = ?1")?;
        let mut rows = statement.query([lease])?;
        while let Some(row) = rows.next()? {
            tx.committed.arrived(row.get(0)?);
        }
    }
    tx.prepare_cached(
        "INSERT INTO ready (queue, rank, id, returns) SELECT queue, rank, id, returns + 1 FROM held WHERE lease = ?1",
    )?
    .execute([lease])?;
    tx.prepare_cached("DELETE FROM held WHERE lease = ?1")?.execute([lease])?;
    unregister(tx, lease)?;
    Ok(tx.prepare_cached("DELETE FROM leases WHERE lease = ?1")?.execute([lease])? == 1)
}

/// Makes messages ready whose delay is over, and ends expired leases.
pub(super) fn restore(tx: &mut Tx<'_>, now: i64) -> rusqlite::Result<()> {
    {
        let mut statement = tx.connection().prepare_cached("SELECT DISTINCT queue FROM delayed WHERE due <= ?1")?;
        let mut rows = statement.query([now])?;
        while let Some(row) = rows.next()? {
            tx.committed.arrived(row.get(0)?);
        }
    }
    tx.prepare_cached(
        "INSERT INTO ready (queue, rank, id, returns) SELECT queue, rank, id, 0 FROM delayed WHERE due <= ?1",
    )?
    .execute([now])?;
    tx.prepare_cached("DELETE FROM delayed WHERE due <= ?1")?.execute([now])?;
    let over = tx
        .prepare_cached("SELECT lease FROM leases WHERE until <= ?1")?
        .query_map([now], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    for lease in over {
        end_lease(tx, lease)?;
        tracing::warn!(
            "a consumer has not renewed its lease, so its messages go to others: it was killed or suspended"
        );
    }
    Ok(())
}

/// The numbers of all leases.
pub(super) fn leases(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached("SELECT lease FROM leases")?.query_map([], |row| row.get(0))?.collect()
}

/// The time at which [`restore`] will have something to do; the largest number if nothing is known.
pub(super) fn next_restore(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT min(coalesce((SELECT min(due) FROM delayed), ?1), coalesce((SELECT min(until) FROM leases), ?1))",
    )?;
    statement.query_row([i64::MAX], |row| row.get(0))
}

/// Whether a queue has ready messages.
pub(super) fn has_ready(connection: &Connection, queue: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM ready WHERE queue = ?1 LIMIT 1")?.exists([queue])
}

/// The content of a queue.
pub(super) fn stats(connection: &Connection, queue: i64, now: i64) -> rusqlite::Result<QueueStats> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT count(*) FROM ready WHERE queue = ?1)
              + (SELECT count(*) FROM delayed WHERE due <= ?2 AND queue = ?1),
                (SELECT count(*) FROM consumers JOIN leases USING (lease) WHERE queue = ?1 AND until > ?2)",
    )?;
    statement.query_row([queue, now], |row| {
        let count = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(QueueStats { ready: count(0)?, consumers: count(1)? })
    })
}

/// Deletes up to `limit` ready messages of a queue, and returns their number.
pub(super) fn purge(tx: &Tx<'_>, queue: i64, limit: usize) -> rusqlite::Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "DELETE FROM messages WHERE id IN (SELECT id FROM ready WHERE queue = ?1 ORDER BY rank, id LIMIT ?2)",
    )?
    .execute([queue, limit])?;
    tx.prepare_cached(
        "DELETE FROM ready WHERE (queue, rank, id) IN
         (SELECT queue, rank, id FROM ready WHERE queue = ?1 ORDER BY rank, id LIMIT ?2)",
    )?
    .execute([queue, limit])
}
