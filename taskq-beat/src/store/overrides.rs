//! Entries and pauses of run time, and how they are read.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskq::backend::BackendError;
use taskq::internal::fault::full_message;

use super::keys::{ENTRY, PAUSE};
use super::store::{Store, readable};
use crate::entry::{Entry, Mistakes, Origin};
use crate::versioned::decode;

/// The changes made to one entry at run time.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Override {
    /// The entry itself, if it was added at run time.
    pub added: Option<Added>,
    /// The newest pause, if the entry is or was paused.
    pub pause: Option<Pause>,
}

/// An entry that was added at run time, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Added {
    /// The description, as returned by [`Entry::describe`].
    pub entry: Value,
    /// When the entry was added; earlier slots are not its own.
    pub at: DateTime<Utc>,
}

/// A pause of an entry, or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pause {
    /// Whether the entry is paused; otherwise it was, until `at`.
    pub is_on: bool,
    /// When the entry was paused or resumed.
    pub at: DateTime<Utc>,
    /// When a pause that has ended had begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
}

impl Override {
    /// Whether the entry is paused.
    pub fn is_paused(&self) -> bool {
        self.pause.is_some_and(|pause| pause.is_on)
    }
}

impl Added {
    /// Returns the record of an entry that is added at a moment.
    pub(crate) fn new(entry: &Entry, at: DateTime<Utc>) -> Self {
        Self { entry: entry.describe(), at }
    }

    /// Parses the entry.
    pub fn read(&self, name: &str) -> Result<Entry, Mistakes> {
        Entry::read(name, &self.entry, Origin::RunTime)
    }
}

impl Pause {
    /// Returns the pause that stands for one that cannot be read. An entry that should be paused and is sent may do
    /// harm; one that is paused and could be sent is listed as paused, where it is seen.
    fn unreadable() -> Self {
        Self { is_on: true, at: DateTime::UNIX_EPOCH, from: None }
    }

    /// Parses a stored pause. One that cannot be read counts as paused, with a warning.
    fn read(key: &str, bytes: &[u8]) -> Self {
        decode(bytes).unwrap_or_else(|error| {
            let error = full_message(&error.at(key));
            tracing::warn!(error, "beat: a stored pause counts as paused");
            Self::unreadable()
        })
    }
}

impl Store {
    /// Returns everything that was added and paused at run time, by name.
    ///
    /// An added entry that cannot be read is left out, and a pause that cannot be read counts as paused.
    pub async fn overrides(&self) -> Result<Vec<(String, Override)>, BackendError> {
        let mut found = BTreeMap::<String, Override>::new();
        for (name, added, _) in self.read_all(ENTRY).await? {
            found.entry(name).or_default().added = Some(added);
        }
        for (key, bytes) in self.kv().scan(PAUSE).await? {
            found.entry(key[PAUSE.len()..].to_owned()).or_default().pause = Some(Pause::read(&key, &bytes));
        }
        Ok(found.into_iter().collect())
    }

    /// Returns the changes made to one entry at run time, like [`overrides`](Self::overrides).
    pub async fn override_of(&self, name: &str) -> Result<Override, BackendError> {
        let (entry, pause) = (format!("{ENTRY}{name}"), format!("{PAUSE}{name}"));
        let added: Option<Bytes> = self.kv().get(&entry).await?;
        let paused = self.kv().get(&pause).await?;
        Ok(Override {
            added: added.and_then(|bytes| readable(&entry, &bytes)),
            pause: paused.map(|bytes| Pause::read(&pause, &bytes)),
        })
    }

    /// Whether an entry of this name was added at run time.
    pub(crate) async fn has_added(&self, name: &str) -> Result<bool, BackendError> {
        Ok(self.kv().get(&format!("{ENTRY}{name}")).await?.is_some())
    }
}
