//! All entries: those of this program, and those that were added at run time.

use std::collections::BTreeMap;

use taskq::Client;
use taskq::definition::Registry;
use taskq::internal::nearest;
use taskq_beat::entry::{self, Entry};
use taskq_beat::open_store;
use taskq_beat::store::{Override, Store};

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::session::Session;

/// The entries, with the store in which they are looked at and changed.
pub(super) struct ScheduleBook {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) store: Store,
    /// The entries of this program.
    pub(super) program: BTreeMap<String, Entry>,
    pub(super) overrides: BTreeMap<String, Override>,
}

impl ScheduleBook {
    pub(super) async fn open(session: &Session) -> Result<Self, Failure> {
        let registry = Registry::collect()?;
        let program = entry::collect(&registry, &session.settings()?)?;
        let client = session.client().await?;
        let store = open_store(&client).await?;
        let overrides = store.overrides().await?.into_iter().collect();
        Ok(Self { client, registry, store, program, overrides })
    }

    /// Returns all entries by name. An entry that was added at run time and cannot be read any more is left out, with a
    /// warning.
    pub(super) fn entries(&self) -> BTreeMap<String, Entry> {
        let mut entries = self.program.clone();
        for (name, entry_override) in &self.overrides {
            let Some(added) = entry_override.added.as_ref().filter(|_| !entries.contains_key(name)) else { continue };
            match added.read(name) {
                Ok(entry) => drop(entries.insert(name.clone(), entry)),
                Err(mistakes) => tracing::warn!(entry = name, %mistakes, "this entry cannot be used; remove it"),
            }
        }
        entries
    }

    /// Returns the entry of this name.
    pub(super) fn entry(&self, name: &str) -> Result<Entry, Failure> {
        let mut entries = self.entries();
        if let Some(entry) = entries.remove(name) {
            return Ok(entry);
        }
        let near = nearest(name, entries.keys().map(String::as_str));
        let remedy = near.map_or_else(
            || "there is none at all; entries of a program are found with `taskq -A path/to/app`".to_owned(),
            |near| format!("did you mean {near:?}?"),
        );
        Err(Failure::new(Exit::NotFound, format!("there is no entry {name:?}; {remedy}")))
    }

    /// Returns whether an entry of this name was added at run time.
    pub(super) fn was_added(&self, name: &str) -> bool {
        self.overrides.get(name).is_some_and(|entry_override| entry_override.added.is_some())
    }

    /// Returns whether the entry is paused, or disabled where it is written.
    pub(super) fn is_off(&self, entry: &Entry) -> bool {
        !entry.enabled || self.overrides.get(&entry.name).is_some_and(Override::is_paused)
    }
}
