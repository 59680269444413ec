//! The Kv port: small shared values such as leases, unique keys and counts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::BackendError;

/// The outcome of a conditional change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// The change was made.
    Done,
    /// The change was not made, since another value is stored (`None`: no value).
    Refused(Option<Bytes>),
}

/// A store of small values under text keys. Each method is one atomic step. Keys are chosen by the caller; adapters
/// prefix them with `taskq:`.
pub trait Kv: Send + Sync + std::fmt::Debug {
    /// The value under `key`.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, BackendError>>;

    /// Stores `value` under `key`, for `ttl` or without end.
    fn put<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Stores `value` under `key` if the stored value equals `expected` (`None`: if there is none).
    fn compare_and_put<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Put, BackendError>>;

    /// Deletes `key` if the stored value equals `expected`; with `None`, deletes it in any case.
    fn delete<'a>(&'a self, key: &'a str, expected: Option<Bytes>) -> BoxFuture<'a, Result<Put, BackendError>>;

    /// All keys that begin with `prefix`, with their values, in no particular order. Keys that change during the scan
    /// may or may not be included.
    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, BackendError>>;

    /// The capability to tell the time. `None` if the store goes by the clock of this machine.
    fn server_clock(&self) -> Option<&dyn ServerClock> {
        None
    }
}

/// The clock of a store that is a server.
pub trait ServerClock: Send + Sync {
    /// The time by this clock.
    fn time(&self) -> BoxFuture<'_, Result<DateTime<Utc>, BackendError>>;
}

/// Convenience methods over [`Kv`] for values in JSON.
pub trait KvExt: Kv {
    /// The value under `key`, decoded as a `T`. A value that cannot be decoded is an error that names the key.
    fn get_json<'a, T: DeserializeOwned + Send>(
        &'a self,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<T>, BackendError>> {
        Box::pin(async move { self.get(key).await?.map(|value| from_json(key, &value)).transpose() })
    }

    /// Stores `value` under `key` if there is none; otherwise returns the stored value.
    fn put_json_if_absent<'a, T: Serialize + DeserializeOwned + Send + Sync>(
        &'a self,
        key: &'a str,
        value: &'a T,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Option<T>, BackendError>> {
        Box::pin(async move {
            loop {
                match self.compare_and_put(key, None, to_json(value), ttl).await? {
                    Put::Done => return Ok(None),
                    Put::Refused(Some(there)) => return from_json(key, &there).map(Some),
                    // The value expired between the comparison and the answer.
                    Put::Refused(None) => {}
                }
            }
        })
    }
}

impl<K: Kv + ?Sized> KvExt for K {}

/// A shared Kv store.
pub type SharedKv = Arc<dyn Kv>;

/// Refuses a value for `key` that has more than `limit` bytes, which the store would not take.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(super) fn check_size(key: &str, value: &[u8], limit: usize) -> Result<(), BackendError> {
    let size = value.len();
    if size > limit {
        return Err(BackendError::TooLarge { what: format!("the value of {key:?}"), size, limit });
    }
    Ok(())
}

/// A stored value, or the version of one that a newer release has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versioned<T> {
    /// A value of a version that this release reads.
    Known(T),
    /// The version of a value that this release cannot read. Its bytes may have another meaning and must not be
    /// replaced.
    Newer(u32),
}

/// The version of stored values whose field `v` is absent.
pub fn first_version() -> u32 {
    1
}

/// Decodes the value under `key`. Its field `v` is the version of its format (1 if absent) and may be `newest` at
/// most. A value that cannot be decoded is an error that names the key.
pub fn from_versioned_json<T: DeserializeOwned>(
    key: &str,
    value: &[u8],
    newest: u32,
) -> Result<Versioned<T>, BackendError> {
    #[derive(Deserialize)]
    struct FormatVersion {
        #[serde(default = "first_version")]
        v: u32,
    }
    let FormatVersion { v } = from_json(key, value)?;
    if v > newest {
        return Ok(Versioned::Newer(v));
    }
    from_json(key, value).map(Versioned::Known)
}

/// Encodes a value as it is stored.
pub fn to_json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("facts are plain structs with text keys").into()
}

/// Decodes a stored value as a `T`.
pub fn from_json<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, BackendError> {
    serde_json::from_slice(value)
        .map_err(|source| BackendError::Nonsense { what: format!("the value of {key:?}"), source: source.into() })
}
