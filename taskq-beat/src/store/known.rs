//! Since when the program's entries have been known.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::entry::Entry;

/// The entries of the program whose beat led last. An entry has no slots from before it was known by this schedule, so one
/// that is new, that was changed, or that was away for a while, begins anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Known(BTreeMap<String, Since>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Since {
    schedule: String,
    at: DateTime<Utc>,
}

impl Known {
    /// The same for these entries, of which the new ones are known since `now`. Who is not enabled is not known.
    pub(crate) fn with<'a>(&self, entries: impl Iterator<Item = &'a Entry>, now: DateTime<Utc>) -> Self {
        let since = entries.filter(|entry| entry.enabled).map(|entry| {
            let schedule = entry.schedule.to_string();
            let same = self.0.get(&entry.name).filter(|since| since.schedule == schedule);
            (entry.name.clone(), same.cloned().unwrap_or(Since { schedule, at: now }))
        });
        Self(since.collect())
    }

    /// The names of those that are not among these.
    pub(crate) fn missing_in<V>(&self, entries: &BTreeMap<String, V>) -> Vec<&str> {
        self.0.keys().filter(|name| !entries.contains_key(*name)).map(String::as_str).collect()
    }

    /// The names of those of these entries that are not known.
    pub(crate) fn lacks<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a str> {
        let enabled = entries.filter(|entry| entry.enabled).map(|entry| entry.name.as_str());
        enabled.filter(|name| !self.0.contains_key(*name)).collect()
    }

    /// Since when the entry of this name has been known.
    pub(crate) fn since(&self, name: &str) -> Option<DateTime<Utc>> {
        self.0.get(name).map(|since| since.at)
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
