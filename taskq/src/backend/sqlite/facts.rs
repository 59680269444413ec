//! SQL statements on Kv values.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use crate::sqlite::Tx;

/// The number of expired values that are deleted with each put. It is more than one, so that their number shrinks.
const SWEPT_PER_PUT: u32 = 4;

/// The value under `key`, unless it has expired.
pub(super) fn get(connection: &Connection, key: &str, now: i64) -> rusqlite::Result<Option<Bytes>> {
    connection
        .prepare_cached("SELECT value FROM kv WHERE key = ?1 AND (expires IS NULL OR expires > ?2)")?
        .query_row(params![key, now], |row| row.get::<_, Vec<u8>>(0))
        .optional()
        .map(|value| value.map(Bytes::from))
}

/// Stores `value` under `key` until `expires`.
pub(super) fn put(tx: &Tx<'_>, key: &str, value: &[u8], expires: Option<i64>, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO kv (key, value, expires) VALUES (?1, ?2, ?3)")?
        .execute(params![key, value, expires])?;
    tx.prepare_cached(
        "DELETE FROM kv WHERE key IN (SELECT key FROM kv WHERE expires <= ?1 AND expires IS NOT NULL LIMIT ?2)",
    )?
    .execute(params![now, SWEPT_PER_PUT])?;
    Ok(())
}

/// Deletes `key`, with or without a value.
pub(super) fn delete(tx: &Tx<'_>, key: &str) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM kv WHERE key = ?1")?.execute([key]).map(drop)
}

/// All keys that begin with `prefix`, with their values.
pub(super) fn scan(connection: &Connection, prefix: &str, now: i64) -> rusqlite::Result<Vec<(String, Bytes)>> {
    // Keys are ordered by their bytes, so those with the prefix are adjacent.
    let mut statement = connection.prepare_cached("SELECT key, value, expires FROM kv WHERE key >= ?1 ORDER BY key")?;
    let mut rows = statement.query([prefix])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        if row.get::<_, Option<i64>>(2)?.is_none_or(|expires| expires > now) {
            found.push((key, Bytes::from(row.get::<_, Vec<u8>>(1)?)));
        }
    }
    Ok(found)
}
