//! The newest changes at run time, so that a leader notices them without reading everything.

use serde::{Deserialize, Serialize};
use taskq::backend::{BackendError, Put};

use super::keys::CHANGES;
use super::store::Store;
use crate::versioned::{decode, encode};

/// The number of names that are kept. A leader looks every second; more changes within that time make it read
/// everything once.
const NAMES_MAX: usize = 100;

/// The number of changes so far, and the names of the entries changed last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    count: u64,
    names: Vec<String>,
}

/// The entries that have changed since an earlier look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangedEntries {
    /// None of them.
    Nothing,
    /// The entries with these names.
    Named(Vec<String>),
    /// Possibly all of them: more have changed than is kept, or the store was emptied.
    Everything,
}

impl Changes {
    /// Notes a change of the entry `name`.
    fn note(&mut self, name: &str) {
        self.count += 1;
        self.names.push(name.to_owned());
        let old = self.names.len().saturating_sub(NAMES_MAX);
        self.names.drain(..old);
    }

    /// Returns the entries that have changed since `seen`.
    pub(crate) fn since(&self, seen: &Self) -> ChangedEntries {
        let Some(new) = self.count.checked_sub(seen.count) else { return ChangedEntries::Everything };
        let Some(old) = usize::try_from(new).ok().and_then(|new| self.names.len().checked_sub(new)) else {
            return ChangedEntries::Everything;
        };
        let (old, new) = self.names.split_at(old);
        // Other changes than those seen before mean that the store was emptied in between. Where none is left to
        // compare, it may have been.
        if !seen.names.ends_with(old) || (old.is_empty() && seen.count > 0) {
            return ChangedEntries::Everything;
        }
        if new.is_empty() {
            return ChangedEntries::Nothing;
        }
        let mut names = new.to_vec();
        names.sort();
        names.dedup();
        ChangedEntries::Named(names)
    }
}

impl Store {
    /// Returns the changes so far.
    pub(crate) async fn changes(&self) -> Result<Changes, BackendError> {
        Ok(self.read(CHANGES).await?.unwrap_or_default())
    }

    /// Notes a change of the entry `name` for the leader.
    pub(super) async fn note_change(&self, name: &str) -> Result<(), BackendError> {
        // Of all concurrent writers one succeeds each time, so each of them succeeds in the end.
        loop {
            let there = self.kv().get(CHANGES).await?;
            let changes = there.as_deref().map(|value| decode::<Changes>(value).map_err(|error| error.at(CHANGES)));
            let mut changes = changes.transpose()?.unwrap_or_default();
            changes.note(name);
            if self.kv().compare_and_put(CHANGES, there, encode(&changes), None).await? == Put::Done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_named_or_everything_is() {
        let mut changes = Changes::default();
        assert_eq!(changes.since(&Changes::default()), ChangedEntries::Nothing);
        changes.note("b");
        let seen = changes.clone();
        for name in ["c", "a", "c"] {
            changes.note(name);
        }
        assert_eq!(changes.since(&seen), ChangedEntries::Named(vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(seen.since(&changes), ChangedEntries::Everything);
        let mut other = Changes::default();
        other.note("x");
        assert_eq!(other.since(&seen), ChangedEntries::Everything);
        other.note("y");
        assert_eq!(other.since(&seen), ChangedEntries::Everything, "emptied, and there were more changes than before");
        for number in 0..=NAMES_MAX {
            changes.note(&number.to_string());
        }
        assert_eq!((changes.since(&seen), changes.names.len()), (ChangedEntries::Everything, NAMES_MAX));
    }
}
