//! What beats keep between them, under `beat/` in a [`Kv`](taskq::backend::Kv): Redis, a file of SQLite, or memory. Beats of a
//! group of their own have theirs under `beat:GROUP/`.
//!
//! | key | what | who writes |
//! |---|---|---|
//! | `leader`, `term` | who fires, and how often that has changed | [`leader`](crate::leader) |
//! | `known` | since when the program's entries have been known | the leader |
//! | `facts/NAME` | which slots have been dealt with, and which are being sent | the leader |
//! | `history/NAME` | what became of the newest slots | the leader |
//! | `entry/NAME` | an entry that was added at run time | whoever adds it |
//! | `pause/NAME` | whether an entry is paused, or was | whoever pauses it |
//! | `changes` | the names of what was added, removed, paused or resumed | the same |
//!
//! Facts are only ever replaced by somebody who knows what is there, so whatever happens to leases, of two beats that both
//! believe to lead one claims a slot, and the other learns of it. Nothing but the lease ends by itself, since a yearly entry needs
//! its facts for a year; but what was added for one slot is removed a day after it.

pub(crate) mod changes;
mod facts;
mod group;
mod history;
mod known;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskq::TaskId;
use taskq::backend::kv::{from_json, to_json};
use taskq::backend::{BackendError, Put, SharedKv};

pub use changes::Changes;
pub use facts::{Facts, Fired, Pending};
use group::Group;
use history::KEPT_FOR;
pub use history::{Event, History, What};
pub(crate) use known::Known;

use crate::entry::{Entry, Mistakes, Origin};

const FACTS: &str = "beat/facts/";
const HISTORY: &str = "beat/history/";
const ENTRY: &str = "beat/entry/";
const PAUSE: &str = "beat/pause/";
const KNOWN: &str = "beat/known";
const CHANGES: &str = "beat/changes";

/// How often an addition to a history is tried again that somebody else came before: one beat leads, so that is rare.
const TRIES: usize = 20;

/// The store of beats. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Store {
    kv: SharedKv,
    group: Option<Arc<str>>,
}

/// An entry that was added at run time, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// As [`Entry::describe`] gives it.
    pub entry: Value,
    /// When it was added; earlier slots are not its own.
    pub at: DateTime<Utc>,
}

/// Whether an entry is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Whether it is; if not, it was until `at`.
    pub is_on: bool,
    /// Since when.
    pub at: DateTime<Utc>,
    /// Of one that was let go on: since when it had been paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
}

/// What is there of one entry, beside what the program says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AtRunTime {
    /// The entry, if it was added at run time.
    pub added: Option<Added>,
    /// Whether it is paused.
    pub pause: Option<Pause>,
}

/// What became of something that was to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It is there, as these bytes.
    Done(Bytes),
    /// Somebody else was there before; this is what is there.
    Other(Option<Bytes>),
}

impl Store {
    /// Over this Kv.
    pub fn new(kv: SharedKv) -> Self {
        Self { kv, group: None }
    }

    /// Over this Kv, for the beats of one group: they know nothing of others, and their ids begin with `GROUP/`.
    ///
    /// # Panics
    ///
    /// If the name is longer than the 20 bytes that the setting `beat_group` takes.
    pub fn of_group(kv: SharedKv, group: &str) -> Self {
        assert!(group.len() <= 20, "the name of the group {group:?} is too long");
        Self { kv: Arc::new(Group::new(kv, group)), group: Some(group.into()) }
    }

    /// The id of what an entry sends, from what tells its runs apart: a slot, or anything else.
    pub(crate) fn id(&self, id: &str) -> TaskId {
        let id = match &self.group {
            None => TaskId::parse(id),
            Some(group) => TaskId::parse(&format!("{group}/{id}")),
        };
        id.expect("names of entries and groups are short enough")
    }

    /// The Kv below it, or the part of it that is the group's.
    pub fn kv(&self) -> &SharedKv {
        &self.kv
    }

    /// All that was added and paused at run time, by name.
    pub async fn at_run_time(&self) -> Result<Vec<(String, AtRunTime)>, BackendError> {
        let mut found = std::collections::BTreeMap::<String, AtRunTime>::new();
        for (name, added, _) in self.read_all(ENTRY).await? {
            found.entry(name).or_default().added = Some(added);
        }
        for (name, pause, _) in self.read_all(PAUSE).await? {
            found.entry(name).or_default().pause = Some(pause);
        }
        Ok(found.into_iter().collect())
    }

    /// All that is kept under a prefix, by name, with the bytes that it is kept as. One that cannot be read, of a newer version
    /// perhaps, must not keep all others from being sent: it is left out, and said.
    async fn read_all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T, Bytes)>, BackendError> {
        let found = self.kv.scan(prefix).await?.into_iter();
        let read = |(key, value): (String, Bytes)| match from_json(&key, &value) {
            Ok(read) => Some((key[prefix.len()..].to_owned(), read, value)),
            Err(error) => {
                tracing::warn!(
                    key,
                    error = &error as &dyn std::error::Error,
                    "beat: this is left out, since it cannot be read"
                );
                None
            }
        };
        Ok(found.filter_map(read).collect())
    }

    /// Whether there is an entry of this name that was added at run time.
    pub(crate) async fn has_added(&self, name: &str) -> Result<bool, BackendError> {
        Ok(self.kv.get(&format!("{ENTRY}{name}")).await?.is_some())
    }

    /// What was said at run time of one entry.
    pub async fn at_run_time_of(&self, name: &str) -> Result<AtRunTime, BackendError> {
        let added = read(&self.kv, &format!("{ENTRY}{name}")).await?;
        Ok(AtRunTime { added, pause: read(&self.kv, &format!("{PAUSE}{name}")).await? })
    }

    /// Adds an entry, from `now` on; false if there is one of its name that was added at run time. After an error it may have
    /// been added all the same; to do it again is harmless, and makes sure that beats hear of it.
    pub async fn add(&self, entry: &Entry, now: DateTime<Utc>) -> Result<bool, BackendError> {
        let added = Added { entry: entry.describe(), at: now };
        let put = self.kv.compare_and_put(&format!("{ENTRY}{}", entry.name), None, to_json(&added), None).await?;
        self.changed(&entry.name).await?;
        Ok(put == Put::Done)
    }

    /// Removes an entry that was added at run time, and all that is known of it; false if there is none.
    pub async fn remove(&self, name: &str) -> Result<bool, BackendError> {
        let key = format!("{ENTRY}{name}");
        let was_there = self.kv.get(&key).await?.is_some();
        self.kv.delete(&key, None).await?;
        // Beats hear of it first: a leader that still has the entry would write its facts once more.
        self.changed(name).await?;
        for prefix in [PAUSE, FACTS, HISTORY] {
            self.kv.delete(&format!("{prefix}{name}"), None).await?;
        }
        Ok(was_there)
    }

    /// Removes an entry whose slots are over, if it still is what was added: all but its history, which is kept for 30 days. False
    /// if it is gone, or another was added under its name.
    pub(crate) async fn retire(&self, name: &str, added: &Added) -> Result<bool, BackendError> {
        let key = format!("{ENTRY}{name}");
        let there = self.kv.get(&key).await?;
        let Some(value) = there.filter(|value| from_json::<Added>(&key, value).is_ok_and(|there| there == *added))
        else {
            return Ok(false);
        };
        if self.kv.delete(&key, Some(value)).await? != Put::Done {
            return Ok(false);
        }
        self.changed(name).await?;
        for prefix in [PAUSE, FACTS] {
            self.kv.delete(&format!("{prefix}{name}"), None).await?;
        }
        let key = format!("{HISTORY}{name}");
        if let Some(history) = self.kv.get(&key).await? {
            // Who changes it just now has added the entry again, and keeps it.
            self.kv.compare_and_put(&key, Some(history.clone()), history, Some(KEPT_FOR)).await?;
        }
        Ok(true)
    }

    /// Pauses an entry, or lets it go on from `now`; slots in between are not its own. False if it was so already. As for
    /// [`add`](Self::add), to do it again after an error is harmless.
    pub async fn pause(&self, name: &str, is_on: bool, now: DateTime<Utc>) -> Result<bool, BackendError> {
        let key = format!("{PAUSE}{name}");
        let there: Option<Pause> = read(&self.kv, &key).await?;
        let changes = there.is_some_and(|pause| pause.is_on) != is_on;
        if changes {
            let from = there.filter(|pause| pause.is_on).map(|pause| pause.at);
            self.kv.put(&key, to_json(&Pause { is_on, at: now, from }), None).await?;
        }
        self.changed(name).await?;
        Ok(changes)
    }

    /// What has been said at run time so far.
    pub async fn changes(&self) -> Result<Changes, BackendError> {
        Ok(read(&self.kv, CHANGES).await?.unwrap_or_default())
    }

    async fn changed(&self, name: &str) -> Result<(), BackendError> {
        // Of all who change it at once one comes through each time, so everybody does.
        loop {
            let there = self.kv.get(CHANGES).await?;
            let mut changes: Changes =
                there.as_deref().map(|value| from_json(CHANGES, value)).transpose()?.unwrap_or_default();
            changes.note(name);
            if self.kv.compare_and_put(CHANGES, there, to_json(&changes), None).await? == Put::Done {
                return Ok(());
            }
        }
    }

    /// The facts of all entries, by name, with the bytes that they are kept as. Those that cannot be read are left out: who takes
    /// them for absent finds out when it would replace them, and fires nothing.
    pub(crate) async fn all_facts(&self) -> Result<Vec<(String, Facts, Bytes)>, BackendError> {
        self.read_all(FACTS).await
    }

    /// The facts of all entries, by name.
    pub async fn facts(&self) -> Result<Vec<(String, Facts)>, BackendError> {
        Ok(self.all_facts().await?.into_iter().map(|(name, facts, _)| (name, facts)).collect())
    }

    /// The facts of one entry; nothing if none of its slots has been dealt with.
    pub async fn facts_of(&self, name: &str) -> Result<Option<Facts>, BackendError> {
        read(&self.kv, &format!("{FACTS}{name}")).await
    }

    /// Replaces the facts of an entry, if `expected` is what is there.
    pub(crate) async fn save_facts(
        &self,
        name: &str,
        expected: Option<&Bytes>,
        facts: &Facts,
    ) -> Result<Saved, BackendError> {
        self.replace(&format!("{FACTS}{name}"), expected, to_json(facts)).await
    }

    /// What became of the newest slots of an entry.
    pub async fn history_of(&self, name: &str) -> Result<History, BackendError> {
        Ok(read(&self.kv, &format!("{HISTORY}{name}")).await?.unwrap_or_default())
    }

    /// Adds to the history of an entry. What is at its end already is not added again.
    pub async fn append(&self, name: &str, events: &[Event]) -> Result<(), BackendError> {
        let key = format!("{HISTORY}{name}");
        for _ in 0..TRIES {
            let there = self.kv.get(&key).await?;
            let mut history = match there.as_deref().map(|value| from_json::<History>(&key, value)) {
                Some(Ok(history)) => history,
                // It must not keep its entry from being sent.
                Some(Err(error)) => {
                    tracing::warn!(key, error = &error as &dyn std::error::Error, "beat: this history begins anew");
                    History::default()
                }
                None => History::default(),
            };
            for event in events {
                history.add(event.clone());
            }
            if let Saved::Done(_) = self.replace(&key, there.as_ref(), to_json(&history)).await? {
                return Ok(());
            }
        }
        let source = "others change it all the time; is there more than one beat that leads?".into();
        Err(BackendError::Failed { what: format!("the writing of {key:?}"), source })
    }

    pub(crate) async fn known(&self) -> Result<(Known, Option<Bytes>), BackendError> {
        let there = self.kv.get(KNOWN).await?;
        let known = there.as_deref().map(|value| from_json(KNOWN, value)).transpose()?;
        Ok((known.unwrap_or_default(), there))
    }

    pub(crate) async fn save_known(&self, expected: Option<&Bytes>, known: &Known) -> Result<Saved, BackendError> {
        self.replace(KNOWN, expected, to_json(known)).await
    }

    async fn replace(&self, key: &str, expected: Option<&Bytes>, value: Bytes) -> Result<Saved, BackendError> {
        Ok(match self.kv.compare_and_put(key, expected.cloned(), value.clone(), None).await? {
            Put::Done => Saved::Done(value),
            // The answer to an earlier try was lost.
            Put::Refused(Some(there)) if there == value => Saved::Done(value),
            Put::Refused(there) => Saved::Other(there),
        })
    }
}

impl Added {
    /// The entry.
    pub fn read(&self, name: &str) -> Result<Entry, Mistakes> {
        Entry::read(name, &self.entry, Origin::RunTime)
    }
}

pub(crate) fn facts_from(name: &str, value: &[u8]) -> Result<Facts, BackendError> {
    from_json(&format!("{FACTS}{name}"), value)
}

async fn read<T: DeserializeOwned>(kv: &SharedKv, key: &str) -> Result<Option<T>, BackendError> {
    kv.get(key).await?.map(|value| from_json(key, &value)).transpose()
}
