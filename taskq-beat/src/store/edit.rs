//! Changes to the schedule at run time.

use chrono::{DateTime, Utc};
use taskq::backend::{BackendError, Put};

use super::history::KEPT_FOR;
use super::keys::{ENTRY, FACTS, HISTORY, PAUSE};
use super::overrides::{Added, Pause};
use super::store::Store;
use crate::entry::Entry;
use crate::versioned::{UnreadableValue, decode, encode};

impl Store {
    /// Adds an entry, whose slots begin after `now`. Returns `false` if an entry of its name was added at run time
    /// before.
    ///
    /// After an error, the entry may have been added all the same. Adding it again is harmless, and makes sure that
    /// beats hear of it.
    pub async fn add(&self, entry: &Entry, now: DateTime<Utc>) -> Result<bool, BackendError> {
        let added = Added::new(entry, now);
        let put = self.kv().compare_and_put(&format!("{ENTRY}{}", entry.name), None, encode(&added), None).await?;
        self.note_change(&entry.name).await?;
        Ok(put == Put::Done)
    }

    /// Removes an entry that was added at run time, and everything known of it. Returns `false` if there is none.
    pub async fn remove(&self, name: &str) -> Result<bool, BackendError> {
        let key = format!("{ENTRY}{name}");
        let was_there = self.kv().get(&key).await?.is_some();
        self.kv().delete(&key, None).await?;
        // Beats hear of it first: a leader that still has the entry would write its facts once more.
        self.note_change(name).await?;
        for prefix in [PAUSE, FACTS, HISTORY] {
            self.kv().delete(&format!("{prefix}{name}"), None).await?;
        }
        Ok(was_there)
    }

    /// Removes an entry without further slots, if `added` is still stored. Its history is kept for 30 days. Returns
    /// `false` if the entry is gone, or another was added under its name.
    pub(crate) async fn retire(&self, name: &str, added: &Added) -> Result<bool, BackendError> {
        let key = format!("{ENTRY}{name}");
        let there = self.kv().get(&key).await?;
        let Some(value) = there.filter(|value| decode::<Added>(value).is_ok_and(|there| there == *added)) else {
            return Ok(false);
        };
        if self.kv().delete(&key, Some(value)).await? != Put::Done {
            return Ok(false);
        }
        self.note_change(name).await?;
        for prefix in [PAUSE, FACTS] {
            self.kv().delete(&format!("{prefix}{name}"), None).await?;
        }
        let key = format!("{HISTORY}{name}");
        if let Some(history) = self.kv().get(&key).await? {
            // A refusal means that the entry was added again just now, and keeps its history.
            self.kv().compare_and_put(&key, Some(history.clone()), history, Some(KEPT_FOR)).await?;
        }
        Ok(true)
    }

    /// Pauses an entry, or resumes it from `now` on; slots in between are not its own. Returns `false` if nothing
    /// changed.
    ///
    /// Pausing or resuming again after an error is harmless. A pause that cannot be read is replaced when the entry is
    /// resumed, except one of a newer version, which is an error.
    pub async fn pause(&self, name: &str, is_on: bool, now: DateTime<Utc>) -> Result<bool, BackendError> {
        let key = format!("{PAUSE}{name}");
        let there = self.kv().get(&key).await?;
        let (was_on, from) = match there.as_deref().map(decode::<Pause>) {
            None => (false, None),
            Some(Ok(pause)) => (pause.is_on, pause.is_on.then_some(pause.at)),
            Some(Err(error @ UnreadableValue::Newer { .. })) => return Err(error.at(&key)),
            Some(Err(UnreadableValue::Malformed(_))) => (true, None),
        };
        if was_on != is_on {
            self.kv().put(&key, encode(&Pause { is_on, at: now, from }), None).await?;
        }
        self.note_change(name).await?;
        Ok(was_on != is_on)
    }
}
