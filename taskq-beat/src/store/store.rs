//! Access to the state that beats share.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use taskq::TaskId;
use taskq::backend::{BackendError, Put, SharedKv};
use taskq::internal::fault::full_message;

use super::group::Group;
use crate::versioned::{decode, encode};

/// The state that the beats of one scheduler share. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Store {
    kv: SharedKv,
    group: Option<Arc<str>>,
}

/// The outcome of a conditional replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saved {
    /// The value is stored, as these bytes.
    Done(Bytes),
    /// Another beat was first; these are the stored bytes.
    Other(Option<Bytes>),
}

impl Store {
    /// Returns the store in a Kv.
    pub fn new(kv: SharedKv) -> Self {
        Self { kv, group: None }
    }

    /// Returns the store of a group in a Kv. The beats of a group know nothing of others, and their ids begin with
    /// `GROUP/`.
    ///
    /// # Panics
    ///
    /// If the name is longer than the 20 bytes that the setting `beat_group` accepts.
    pub fn of_group(kv: SharedKv, group: &str) -> Self {
        assert!(group.len() <= 20, "the name of the group {group:?} is too long");
        Self { kv: Arc::new(Group::new(kv, group)), group: Some(group.into()) }
    }

    /// Returns the Kv beneath the store, or the part of it that belongs to the group.
    pub fn kv(&self) -> &SharedKv {
        &self.kv
    }

    /// Returns the id of a task that an entry sends, given what tells its runs apart: a slot, or anything else.
    pub(crate) fn id(&self, id: &str) -> TaskId {
        let id = match &self.group {
            None => TaskId::parse(id),
            Some(group) => TaskId::parse(&format!("{group}/{id}")),
        };
        id.expect("names of entries and groups are short enough")
    }

    /// Reads the value under a key.
    pub(super) async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, BackendError> {
        Ok(self.read_with_bytes(key).await?.map(|(value, _)| value))
    }

    /// Reads the value under a key, with the bytes that stand for it in a later replacement.
    pub(super) async fn read_with_bytes<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Bytes)>, BackendError> {
        let Some(bytes) = self.kv.get(key).await? else { return Ok(None) };
        let value = decode(&bytes).map_err(|error| error.at(key))?;
        Ok(Some((value, bytes)))
    }

    /// Reads all values under a prefix, by the rest of their keys, with their bytes.
    ///
    /// A value that cannot be read, of a newer version perhaps, must not keep all other entries from being sent: it is
    /// left out, with a warning.
    pub(super) async fn read_all<T: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, T, Bytes)>, BackendError> {
        let found = self.kv.scan(prefix).await?.into_iter();
        let read = |(key, bytes): (String, Bytes)| {
            let value = readable(&key, &bytes)?;
            Some((key[prefix.len()..].to_owned(), value, bytes))
        };
        Ok(found.filter_map(read).collect())
    }

    /// Replaces the value under a key, if `expected` is stored there.
    pub(super) async fn replace<T: Serialize>(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        value: &T,
    ) -> Result<Saved, BackendError> {
        let bytes = encode(value);
        Ok(match self.kv.compare_and_put(key, expected.cloned(), bytes.clone(), None).await? {
            Put::Done => Saved::Done(bytes),
            // The answer to an earlier attempt was lost.
            Put::Refused(Some(there)) if there == bytes => Saved::Done(bytes),
            Put::Refused(there) => Saved::Other(there),
        })
    }
}

/// Parses the value under a key. One that cannot be read is `None`, with a warning.
pub(super) fn readable<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Option<T> {
    decode(bytes)
        .map_err(|error| {
            let error = full_message(&error.at(key));
            tracing::warn!(error, "beat: a stored value is left out");
        })
        .ok()
}
