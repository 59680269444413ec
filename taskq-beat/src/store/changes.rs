//! What was said at run time, so that a leader hears of it without looking at everything.

use serde::{Deserialize, Serialize};

/// So many names are kept. A leader looks every second; who changes more in that time makes it look at everything once.
const NAMES_MAX: usize = 100;

/// How many changes there have been, and the entries of the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    count: u64,
    names: Vec<String>,
}

/// What there is to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    Of(Vec<String>),
    /// More than is kept, or the store has lost what was kept.
    Everything,
}

impl Changes {
    pub(super) fn note(&mut self, name: &str) {
        self.count += 1;
        self.names.push(name.to_owned());
        let old = self.names.len().saturating_sub(NAMES_MAX);
        self.names.drain(..old);
    }

    /// What has changed since `seen`.
    pub(crate) fn since(&self, seen: &Self) -> News {
        let Some(new) = self.count.checked_sub(seen.count) else { return News::Everything };
        let Some(old) = usize::try_from(new).ok().and_then(|new| self.names.len().checked_sub(new)) else {
            return News::Everything;
        };
        let (old, new) = self.names.split_at(old);
        // Other changes than those that were seen: the store was emptied in between. Where none is left to compare, it may be.
        if !seen.names.ends_with(old) || (old.is_empty() && seen.count > 0) {
            return News::Everything;
        }
        if new.is_empty() {
            return News::Nothing;
        }
        let mut names = new.to_vec();
        names.sort();
        names.dedup();
        News::Of(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_named_or_everything_is() {
        let mut changes = Changes::default();
        assert_eq!(changes.since(&Changes::default()), News::Nothing);
        changes.note("b");
        let seen = changes.clone();
        for name in ["c", "a", "c"] {
            changes.note(name);
        }
        assert_eq!(changes.since(&seen), News::Of(vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(seen.since(&changes), News::Everything);
        let mut other = Changes::default();
        other.note("x");
        assert_eq!(other.since(&seen), News::Everything);
        other.note("y");
        assert_eq!(other.since(&seen), News::Everything, "emptied, and there were more changes than before");
        for number in 0..=NAMES_MAX {
            changes.note(&number.to_string());
        }
        assert_eq!((changes.since(&seen), changes.names.len()), (News::Everything, NAMES_MAX));
    }
}
