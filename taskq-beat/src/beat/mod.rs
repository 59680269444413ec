//! The acting part: a beat waits until it leads, and then for what is due.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = taskq::Client::from_env().await?;
//! let beat = taskq_beat::Beat::builder(client).build().await?;
//! let control = beat.control();
//! let running = tokio::spawn(beat.run());
//! // … and when the program ends:
//! control.stop();
//! println!("{} slots fired", running.await?.fired);
//! # Ok(())
//! # }
//! ```
//!
//! [`desk`] knows which entry is next and what is to be done about it, [`fire`] does it, [`news`] hears what is said at run
//! time, [`tidy`] removes what is over, and [`lead`](lead::lead) holds them together for as long as the lease lasts.

mod builder;
mod desk;
mod fire;
mod lead;
mod news;
mod strangers;
mod tidy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use taskq::TaskId;
use taskq::backend::BackendError;
use taskq::client::Client;
use taskq::definition::Registry;
use tokio::sync::watch;

pub use builder::{BeatBuilder, BeatError, store_of};

use crate::entry::Entry;
use crate::leader::{Candidate, LOOK_EVERY, with_cause};
use crate::store::{Event, Store, What};
use fire::Counts;
use strangers::Strangers;

/// Sends tasks when they are due. Any number may run, in any number of processes; one of them leads.
#[derive(Debug)]
pub struct Beat {
    client: Client,
    registry: Registry,
    entries: Arc<BTreeMap<String, Arc<Entry>>>,
    store: Store,
    node: String,
    counts: Arc<Counts>,
    stop: Arc<watch::Sender<bool>>,
    status: Arc<watch::Sender<BeatStatus>>,
}

/// Stops a beat, and says how it is. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct BeatControl {
    stop: Arc<watch::Sender<bool>>,
    status: watch::Receiver<BeatStatus>,
}

/// How a beat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BeatStatus {
    /// Whether it is the one that fires.
    pub leads: bool,
    /// How many entries it has; 0 if it does not lead.
    pub entries: usize,
}

/// What a beat did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BeatSummary {
    /// Slots that it sent.
    pub fired: u64,
    /// Slots that it found missed.
    pub missed: u64,
}

impl Beat {
    /// A beat of this client, yet to be configured.
    pub fn builder(client: Client) -> BeatBuilder {
        BeatBuilder::new(client)
    }

    /// The entries of its program.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|entry| &**entry)
    }

    /// Its name among beats: `beat@host`, unless it was given another.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What stops it.
    pub fn control(&self) -> BeatControl {
        BeatControl { stop: Arc::clone(&self.stop), status: self.status.subscribe() }
    }

    /// Runs until it is stopped, on the thread of the connections, where no code of tasks can hold it up. What has been begun
    /// is finished first, and the lease is given back, so that another beat goes on within a second.
    pub async fn run(self) -> BeatSummary {
        taskq::internal::io::run(self.work()).await
    }

    /// The same on the runtime of the caller.
    pub(crate) async fn work(self) -> BeatSummary {
        let mut stop = self.stop.subscribe();
        let clock = self.client.clock().clone();
        let name = TaskId::new().to_string();
        let mut candidate = Candidate::new(self.store.kv().clone(), clock, name, self.node.clone());
        let mut is_away = false;
        let mut strangers = Strangers::default();
        loop {
            let answer = tokio::select! {
                _ = stop.wait_for(|is_asked| *is_asked) => break,
                answer = candidate.try_once() => answer,
            };
            match answer {
                Ok(Some(lease)) => {
                    is_away = false;
                    lead::lead(&self, &lease, stop.clone()).await;
                    self.status.send_replace(BeatStatus::default());
                    tracing::info!(node = self.node, term = lease.term(), "beat: this one leads no more");
                }
                Ok(None) => {
                    if std::mem::take(&mut is_away) {
                        tracing::info!("beat: the store is back");
                    }
                    strangers.look(&self.store, self.entries()).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(
                            error = with_cause(&error),
                            "beat: the store cannot be reached; nothing is fired until it is back"
                        );
                    }
                }
            }
            tokio::select! {
                _ = stop.wait_for(|is_asked| *is_asked) => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        BeatSummary { fired: count(&self.counts.fired), missed: count(&self.counts.missed) }
    }
}

impl BeatControl {
    /// Asks it to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// How it is now.
    pub fn status(&self) -> BeatStatus {
        *self.status.borrow()
    }
}

/// Sends what an entry sends, with an id of its own, for whoever wants a run now, beside its slots; the entry's history says
/// so. `node` is where that is wanted.
pub async fn run_now(
    client: &Client,
    store: &Store,
    registry: &Registry,
    entry: &Entry,
    node: &str,
) -> Result<TaskId, RunError> {
    let id = store.id(&format!("{}@{}", entry.name, TaskId::new()));
    fire::call(entry, registry, entry.expires)?.id(id.as_str()).send(client).await?;
    // Afterwards: what could not be sent is not there.
    let event = Event { at: client.clock().now(), by: node.to_owned(), what: What::Asked { id: id.clone() } };
    match store.append(&entry.name, &[event]).await {
        Ok(()) => Ok(id),
        Err(source) => Err(RunError::NotNoted { id, source }),
    }
}

/// Why an entry was not run now, or not noted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It was not sent.
    #[error(transparent)]
    NotSent(#[from] taskq::Error),
    /// It was, and the history lacks it.
    #[error("it was sent as {id}, and its history could not be written")]
    NotNoted {
        /// The id of what was sent.
        id: TaskId,
        /// Why.
        source: BackendError,
    },
}

#[cfg(test)]
mod tests;
