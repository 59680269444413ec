//! From a client to a beat.

use std::collections::BTreeMap;
use std::sync::Arc;

use taskq::backend::{self, BackendError, BackendOptions};
use taskq::client::{Client, host_name};
use taskq::definition::{Registry, RegistryError};
use tokio::sync::watch;

use super::fire::Counts;
use super::{Beat, BeatStatus};
use crate::entry::{Entry, Mistakes, check_overlap, collect};
use crate::store::Store;

/// Makes a [`Beat`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is awaited"]
pub struct BeatBuilder {
    client: Client,
    entries: Option<BTreeMap<String, Entry>>,
    registry: Option<Registry>,
    store: Option<Store>,
    node: Option<String>,
}

/// Why a beat cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// Entries are wrong.
    #[error(transparent)]
    Entries(#[from] Mistakes),
    /// The tasks of the program are wrong.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// There is no place for the facts.
    #[error(
        "beat needs a place for what it has fired and for who leads, and results are kept nowhere; set \
         TASKQ_RESULT_URL=redis://host:6379/0, or, for beats on this machine alone, TASKQ_BEAT_STORE=sqlite:beat.db"
    )]
    NoStore,
    /// The place cannot be reached.
    #[error(transparent)]
    Store(#[from] BackendError),
}

impl BeatBuilder {
    pub(super) fn new(client: Client) -> Self {
        Self { client, entries: None, registry: None, store: None, node: None }
    }

    /// The entries of the program. Default: those of its tasks' attributes and of the client's settings.
    pub fn entries(mut self, entries: BTreeMap<String, Entry>) -> Self {
        self.entries = Some(entries);
        self
    }

    /// The tasks of the program, against which entries are checked. Default: all that are linked into it.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Where facts are kept. Default: where the setting `beat_store` says, else where results are.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Its name among beats. Default: `beat@HOST`.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Checks the entries and connects to the store. Nothing is fired before the beat runs.
    pub async fn build(self) -> Result<Beat, BeatError> {
        let registry = self.registry.map_or_else(Registry::collect, Ok)?;
        let entries = match self.entries {
            Some(entries) => entries,
            None => collect(&registry, self.client.settings())?,
        };
        let store = match self.store {
            Some(store) => store,
            None => store_of(&self.client).await?,
        };
        let keeps_results = self.client.results().is_ok();
        let mistakes = entries.values().filter_map(|entry| check_overlap(entry, keeps_results).err());
        Mistakes::none(mistakes.collect())?;
        Ok(Beat {
            client: self.client,
            registry,
            entries: Arc::new(entries.into_iter().map(|(name, entry)| (name, Arc::new(entry))).collect()),
            store,
            node: self.node.unwrap_or_else(|| format!("beat@{}", host_name())),
            counts: Arc::new(Counts::default()),
            stop: Arc::new(watch::channel(false).0),
            status: Arc::new(watch::channel(BeatStatus::default()).0),
        })
    }
}

/// Where the beats of a client keep their facts: as the setting `beat_store` says, else where its results are; apart from those of
/// others if the setting `beat_group` says so.
pub async fn store_of(client: &Client) -> Result<Store, BeatError> {
    let settings = client.settings();
    let kv = match settings.beat_store() {
        None => return Err(BeatError::NoStore),
        Some(url) if settings.result_url() == Some(url) => client.kv().cloned().ok_or(BeatError::NoStore)?,
        Some(url) => backend::connect(url, BackendOptions::default()).await?.kv,
    };
    Ok(match settings.beat_group() {
        None => Store::new(kv),
        Some(group) => Store::of_group(kv, group),
    })
}
