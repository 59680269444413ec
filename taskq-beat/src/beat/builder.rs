//! Building a beat.

use std::collections::BTreeMap;

use taskq::backend::{self, BackendError, BackendOptions};
use taskq::client::Client;
use taskq::definition::{Registry, RegistryError};
use taskq::internal::host_name;

use super::beat::Beat;
use crate::entry::{Entry, Mistakes, check_overlap, collect};
use crate::store::Store;

/// A builder of a [`Beat`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is awaited"]
pub struct BeatBuilder {
    client: Client,
    entries: Option<BTreeMap<String, Entry>>,
    registry: Option<Registry>,
    store: Option<Store>,
    node: Option<String>,
}

/// A beat that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// There are mistakes in the entries.
    #[error(transparent)]
    Entries(#[from] Mistakes),
    /// There are mistakes in the tasks of the program.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No store is configured.
    #[error(
        "beat needs a store for the slots that it has fired and for the election of a leader, and no result backend is \
         configured; set TASKQ_RESULT_URL=redis://host:6379/0, or, for beats on this machine alone, \
         TASKQ_BEAT_STORE=sqlite:beat.db"
    )]
    NoStore,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] BackendError),
}

impl Beat {
    /// Returns a builder of a beat that sends by this client.
    pub fn builder(client: Client) -> BeatBuilder {
        BeatBuilder::new(client)
    }
}

impl BeatBuilder {
    fn new(client: Client) -> Self {
        Self { client, entries: None, registry: None, store: None, node: None }
    }

    /// Sets the entries of the program. Default: those from the attributes of its tasks and from the client's settings.
    pub fn entries(mut self, entries: BTreeMap<String, Entry>) -> Self {
        self.entries = Some(entries);
        self
    }

    /// Sets the tasks of the program, against which entries are checked. Default: all tasks that are linked into it.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Sets the store. Default: the setting `beat_store`, or else the result backend.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the node name of the beat. Default: `beat@HOST`.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Checks the entries and connects to the store. Nothing is fired until the beat runs.
    pub async fn build(self) -> Result<Beat, BeatError> {
        let registry = self.registry.map_or_else(Registry::collect, Ok)?;
        let entries = match self.entries {
            Some(entries) => entries,
            None => collect(&registry, self.client.settings())?,
        };
        let store = match self.store {
            Some(store) => store,
            None => open_store(&self.client).await?,
        };
        let keeps_results = self.client.results().is_ok();
        let mistakes = entries.values().filter_map(|entry| check_overlap(entry, keeps_results).err());
        Mistakes::none(mistakes.collect())?;
        let node = self.node.unwrap_or_else(|| format!("beat@{}", host_name()));
        Ok(Beat::new(self.client, registry, entries, store, node))
    }
}

/// Opens the store of the beats of a client: the setting `beat_store`, or else the result backend, and in it the part
/// of the group if the setting `beat_group` names one.
pub async fn open_store(client: &Client) -> Result<Store, BeatError> {
    let settings = client.settings();
    let kv = match settings.beat_store() {
        None => return Err(BeatError::NoStore),
        Some(url) if settings.result_url() == Some(url) => client.kv().cloned().ok_or(BeatError::NoStore)?,
        Some(url) => {
            let options = BackendOptions::default().with(|options| {
                options.file_mode = settings.file_mode;
                options.tls = settings.tls.clone();
            });
            backend::connect(url, options).await?.kv
        }
    };
    Ok(match settings.beat_group() {
        None => Store::new(kv),
        Some(group) => Store::of_group(kv, group),
    })
}
