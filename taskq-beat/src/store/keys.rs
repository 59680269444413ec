//! The keys of a store. Those that end with a slash are followed by the name of an entry.

pub(super) const FACTS: &str = "beat/facts/";
pub(super) const HISTORY: &str = "beat/history/";
pub(super) const ENTRY: &str = "beat/entry/";
pub(super) const PAUSE: &str = "beat/pause/";
pub(super) const KNOWN: &str = "beat/known";
pub(super) const CHANGES: &str = "beat/changes";
