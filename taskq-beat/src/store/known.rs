//! Since when the entries of the program have been known.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use taskq::backend::BackendError;

use super::keys::KNOWN;
use super::store::{Saved, Store};
use crate::entry::Entry;

/// The entries of the program whose beat led last. An entry has no slots from before it was known with its schedule, so
/// one that is new, that was changed, or that was absent for a while, begins anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    entries: BTreeMap<String, KnownEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownEntry {
    /// The text of the schedule.
    schedule: String,
    /// Since when the entry has been known with this schedule.
    at: DateTime<Utc>,
}

impl Known {
    /// Returns what is known once these entries are the program's: new and changed ones are known since `now`, and
    /// disabled ones are not known.
    pub(crate) fn with<'a>(&self, entries: impl Iterator<Item = &'a Entry>, now: DateTime<Utc>) -> Self {
        let since = entries.filter(|entry| entry.enabled).map(|entry| {
            let schedule = entry.schedule.to_string();
            let same = self.entries.get(&entry.name).filter(|known| known.schedule == schedule);
            (entry.name.clone(), same.cloned().unwrap_or(KnownEntry { schedule, at: now }))
        });
        Self { entries: since.collect() }
    }

    /// Returns the names of the known entries that are not among `entries`.
    pub(crate) fn missing_in<V>(&self, entries: &BTreeMap<String, V>) -> Vec<&str> {
        self.entries.keys().filter(|name| !entries.contains_key(*name)).map(String::as_str).collect()
    }

    /// Returns the names of those of `entries` that are enabled and not known.
    pub(crate) fn lacks<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a str> {
        let enabled = entries.filter(|entry| entry.enabled).map(|entry| entry.name.as_str());
        enabled.filter(|name| !self.entries.contains_key(*name)).collect()
    }

    /// Returns since when the entry of this name has been known.
    pub(crate) fn since(&self, name: &str) -> Option<DateTime<Utc>> {
        self.entries.get(name).map(|known| known.at)
    }
}

impl Store {
    /// Returns the known entries, with the bytes that stand for them in a later replacement.
    pub(crate) async fn known(&self) -> Result<(Known, Option<Bytes>), BackendError> {
        let read = self.read_with_bytes(KNOWN).await?;
        Ok(read.map_or_else(Default::default, |(known, bytes)| (known, Some(bytes))))
    }

    /// Replaces the known entries, if `expected` is stored.
    pub(crate) async fn save_known(&self, expected: Option<&Bytes>, known: &Known) -> Result<Saved, BackendError> {
        self.replace(KNOWN, expected, known).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Origin;
    use crate::schedule::Schedule;

    #[test]
    fn an_entry_begins_anew_with_its_schedule() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("a moment");
        let entry = |name: &str, line: &str| {
            Entry::new(name, "t", Schedule::cron(line, "UTC").expect("a line"), Origin::RunTime)
        };
        let first = Known::default().with([entry("a", "0 * * * *"), entry("b", "0 * * * *")].iter(), at(1));
        let disabled = Entry { enabled: false, ..entry("c", "0 * * * *") };
        let second = first.with([entry("a", "0 * * * *"), entry("b", "1 * * * *"), disabled].iter(), at(2));
        assert_eq!(["a", "b", "c"].map(|name| second.since(name)), [Some(at(1)), Some(at(2)), None]);
        let without = second.with([entry("b", "1 * * * *")].iter(), at(3));
        let disabled = Entry { enabled: false, ..entry("d", "0 * * * *") };
        let others = [entry("b", "5 * * * *"), entry("e", "0 * * * *"), disabled];
        assert_eq!((first.lacks(others.iter()), Known::default().lacks([].iter())), (vec!["e"], vec![]));
        assert_eq!(second.missing_in(&BTreeMap::from([("b".to_owned(), 0)])), ["a"]);
        assert_eq!(without.with([entry("a", "0 * * * *")].iter(), at(4)).since("a"), Some(at(4)));
    }
}
