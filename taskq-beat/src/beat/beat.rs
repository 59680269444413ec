//! The life of a beat: candidate, leader, candidate again, until it is stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taskq::TaskId;
use taskq::client::Client;
use taskq::definition::Registry;
use taskq::internal::fault::full_message;
use tokio::sync::watch;

use super::foreign_leader::ForeignLeader;
use super::lead::{LeaderContext, TermEnd};
use super::status::{BeatControl, BeatStatus, BeatSummary, Counts};
use crate::entry::Entry;
use crate::leader::{Candidate, LOOK_EVERY};
use crate::store::Store;

/// The pause after a term that could not begin, because the state of the entries cannot be read. A beat of a newer
/// version may be able to read it, and has to get the lease.
const STAND_BACK: Duration = Duration::from_secs(5);

/// The scheduler: sends tasks when they are due. Any number may run, in any number of processes; one of them leads.
#[derive(Debug)]
pub struct Beat {
    context: LeaderContext,
    stop: Arc<watch::Sender<bool>>,
}

impl Beat {
    /// Returns a beat with checked entries.
    pub(super) fn new(
        client: Client,
        registry: Registry,
        entries: BTreeMap<String, Entry>,
        store: Store,
        node: String,
    ) -> Self {
        let context = LeaderContext {
            client,
            registry,
            entries: Arc::new(entries.into_iter().map(|(name, entry)| (name, Arc::new(entry))).collect()),
            store,
            node,
            counts: Arc::new(Counts::default()),
            status: Arc::new(watch::channel(BeatStatus::default()).0),
        };
        Self { context, stop: Arc::new(watch::channel(false).0) }
    }

    /// Iterates over the entries of the program.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.context.entries()
    }

    /// Returns the node name of the beat: `beat@host`, unless it was given another.
    pub fn node(&self) -> &str {
        &self.context.node
    }

    /// Returns the handle that stops the beat.
    pub fn control(&self) -> BeatControl {
        BeatControl::new(Arc::clone(&self.stop), self.context.status.subscribe())
    }

    /// Runs until the beat is stopped, on the I/O thread, where the code of tasks cannot delay it. Jobs in progress are
    /// finished first, and the lease is given back, so that another beat takes over within a second.
    pub async fn run(self) -> BeatSummary {
        taskq::internal::io::run(self.work()).await
    }

    /// Runs like [`run`](Self::run), on the runtime of the caller.
    pub(super) async fn work(self) -> BeatSummary {
        let context = &self.context;
        let mut stop = self.stop.subscribe();
        let clock = context.client.clock().clone();
        let name = TaskId::new().to_string();
        let mut candidate = Candidate::new(context.store.kv().clone(), clock, name, context.node.clone());
        let mut is_away = false;
        let mut foreign_leader = ForeignLeader::default();
        loop {
            let answer = tokio::select! {
                _ = stop.wait_for(|is_asked| *is_asked) => break,
                answer = candidate.try_once() => answer,
            };
            let mut pause = LOOK_EVERY;
            match answer {
                Ok(Some(lease)) => {
                    is_away = false;
                    match context.lead(&lease, stop.clone()).await {
                        TermEnd::Over => {}
                        TermEnd::NotBegun => pause = STAND_BACK,
                    }
                    context.status.send_replace(BeatStatus::default());
                    tracing::info!(node = context.node, term = lease.term(), "beat: this beat leads no more");
                }
                Ok(None) => {
                    if std::mem::take(&mut is_away) {
                        tracing::info!("beat: the store is back");
                    }
                    foreign_leader.look(&context.store, context.entries()).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        let error = full_message(&error);
                        tracing::warn!(error, "beat: the store does not answer; nothing is fired until it does");
                    }
                }
            }
            tokio::select! {
                _ = stop.wait_for(|is_asked| *is_asked) => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        context.counts.summary()
    }
}
