//! The part of a Kv that belongs to one group of beats, so that programs that share a Kv do not take each other for one
//! scheduler.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use taskq::backend::{BackendError, Kv, Put, SharedKv};

/// The prefix of all keys of beats.
const PREFIX: &str = "beat/";

/// A view of a Kv in which the keys `beat/…` stand for `beat:GROUP/…`.
#[derive(Debug)]
pub(super) struct Group {
    kv: SharedKv,
    /// The prefix of the group: `beat:GROUP/`.
    own: String,
}

impl Group {
    pub(super) fn new(kv: SharedKv, name: &str) -> Self {
        Self { kv, own: format!("beat:{name}/") }
    }

    /// Returns the key of the group for a key of beats.
    fn own(&self, key: &str) -> String {
        let rest = key.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{key:?} is a key of beats"));
        format!("{}{rest}", self.own)
    }
}

impl Kv for Group {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, BackendError>> {
        Box::pin(async move { self.kv.get(&self.own(key)).await })
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move { self.kv.put(&self.own(key), value, ttl).await })
    }

    fn compare_and_put<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move { self.kv.compare_and_put(&self.own(key), expected, value, ttl).await })
    }

    fn delete<'a>(&'a self, key: &'a str, expected: Option<Bytes>) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move { self.kv.delete(&self.own(key), expected).await })
    }

    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, BackendError>> {
        Box::pin(async move {
            let found = self.kv.scan(&self.own(prefix)).await?.into_iter();
            Ok(found.map(|(key, value)| (format!("{PREFIX}{}", &key[self.own.len()..]), value)).collect())
        })
    }
}
