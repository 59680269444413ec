//! Facts: the state of an entry.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use taskq::TaskId;
use taskq::backend::BackendError;

use super::keys::FACTS;
use super::store::{Saved, Store};
use crate::due::{Firing, Handled, Missed};
use crate::versioned::decode;

/// The state of an entry some of whose slots have been handled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Facts {
    /// The slots that have been handled. Pending slots are among them.
    pub handled: Handled,
    /// The slots that were claimed and are not known to have been sent, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// The newest slot that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Fired>,
    /// The newest slots that were missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// The number of slots that were sent.
    #[serde(default)]
    pub fired_count: u64,
    /// The number of slots that were missed.
    #[serde(default)]
    pub missed_count: u64,
    /// The term of the leader that wrote these facts.
    pub term: u64,
}

/// A slot that was claimed and is not known to have been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pending {
    /// The slot.
    pub slot: DateTime<Utc>,
    /// When the slot was due.
    pub due: DateTime<Utc>,
    /// The moment after which the slot is no longer wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime<Utc>>,
}

/// A slot that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fired {
    /// The slot.
    pub slot: DateTime<Utc>,
    /// When the task was sent.
    pub at: DateTime<Utc>,
    /// The lateness of the slot in milliseconds.
    pub late_ms: i64,
    /// The id of the task that was sent.
    pub id: TaskId,
}

impl Facts {
    /// Returns the facts of an entry of which nothing is known but the handled slots.
    pub(crate) fn new(handled: Handled) -> Self {
        Self { handled, pending: Vec::new(), last: None, missed: None, fired_count: 0, missed_count: 0, term: 0 }
    }

    /// Notes slots that were missed.
    pub(crate) fn note_missed(&mut self, missed: &[Missed]) {
        self.missed_count += missed.iter().map(|missed| missed.count).sum::<u64>();
        if let Some(newest) = missed.last() {
            self.missed = Some(newest.clone());
        }
    }

    /// Notes a slot that was sent.
    pub(crate) fn note_fired(&mut self, fired: &Fired) {
        self.fired_count += 1;
        self.last = Some(fired.clone());
    }
}

impl Pending {
    /// Returns the claim of a slot.
    pub(crate) fn of(firing: &Firing) -> Self {
        Self { slot: firing.slot, due: firing.due, expires: firing.expires }
    }

    /// Returns the lateness of the slot at `now`.
    pub(crate) fn late(&self, now: DateTime<Utc>) -> TimeDelta {
        now - self.due
    }
}

/// The facts of an entry, with the bytes that stand for them in a later replacement.
#[derive(Debug, Clone)]
pub(crate) struct StoredFacts {
    pub(crate) facts: Facts,
    pub(crate) bytes: Bytes,
}

impl Store {
    /// Returns the facts of all entries by name.
    ///
    /// Facts that cannot be read are left out. A leader that takes them for absent is refused when it tries to replace
    /// them, and so fires nothing.
    pub(crate) async fn stored_facts(&self) -> Result<Vec<(String, StoredFacts)>, BackendError> {
        let all = self.read_all(FACTS).await?.into_iter();
        Ok(all.map(|(name, facts, bytes)| (name, StoredFacts { facts, bytes })).collect())
    }

    /// Returns the facts of all entries by name. Facts that cannot be read are left out.
    pub async fn facts(&self) -> Result<Vec<(String, Facts)>, BackendError> {
        Ok(self.stored_facts().await?.into_iter().map(|(name, stored)| (name, stored.facts)).collect())
    }

    /// Returns the facts of one entry; `None` if none of its slots has been handled.
    pub async fn facts_of(&self, name: &str) -> Result<Option<Facts>, BackendError> {
        self.read(&format!("{FACTS}{name}")).await
    }

    /// Replaces the facts of an entry, if `expected` is stored.
    pub(crate) async fn save_facts(
        &self,
        name: &str,
        expected: Option<&Bytes>,
        facts: &Facts,
    ) -> Result<Saved, BackendError> {
        self.replace(&format!("{FACTS}{name}"), expected, facts).await
    }
}

/// Parses the stored facts of an entry.
pub(crate) fn facts_from(name: &str, bytes: &[u8]) -> Result<Facts, BackendError> {
    decode(bytes).map_err(|error| error.at(&format!("{FACTS}{name}")))
}
