//! One term of a leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use taskq::backend::BackendError;
use taskq::client::Client;
use taskq::definition::Registry;
use taskq::internal::fault::full_message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clock_watch::{ClockWatch, time_until};
use super::expire;
use super::fire::Firer;
use super::overrides::{self, OverrideUpdate};
use super::planner::Planner;
use super::status::{BeatStatus, Counts};
use crate::entry::Entry;
use crate::leader::Lease;
use crate::store::{Changes, Saved, Store};

/// The largest number of entries that are fired at the same time.
const JOBS_MAX: usize = 64;

/// Everything that a beat needs to lead, apart from the lease.
#[derive(Debug)]
pub(super) struct LeaderContext {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) entries: Arc<BTreeMap<String, Arc<Entry>>>,
    pub(super) store: Store,
    pub(super) node: String,
    pub(super) counts: Arc<Counts>,
    pub(super) status: Arc<watch::Sender<BeatStatus>>,
}

/// The end of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TermEnd {
    /// The lease was lost, or the beat was stopped.
    Over,
    /// The state of the entries could not be read.
    NotBegun,
}

impl LeaderContext {
    /// Iterates over the entries of the program.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|entry| &**entry)
    }

    /// Fires the slots that are due, until the lease is lost or the beat is stopped. Jobs in progress are finished.
    pub(super) async fn lead(&self, lease: &Arc<Lease>, mut stop: watch::Receiver<bool>) -> TermEnd {
        // Everything in here ends with this term.
        let mut companions = JoinSet::new();
        let keeper = Arc::clone(lease);
        companions.spawn(async move { keeper.keep().await });
        let end = match self.load().await {
            Ok((planner, seen)) => {
                tracing::info!(node = self.node, entries = planner.len(), term = lease.term(), "beat: this beat leads");
                let (sender, updates) = mpsc::channel(1);
                companions.spawn(overrides::watch(self.store.clone(), seen, sender));
                let clock = self.client.clock().clone();
                companions.spawn(expire::keep_removing(self.store.clone(), Arc::clone(lease), clock));
                self.fire(lease, planner, updates, &mut stop).await;
                TermEnd::Over
            }
            Err(error) => {
                let error = full_message(&error);
                tracing::warn!(error, "beat: the state of the entries cannot be read; another beat may lead");
                TermEnd::NotBegun
            }
        };
        if let Err(error) = lease.release().await {
            let error = full_message(&error);
            tracing::warn!(error, "beat: the lease could not be given back; it expires by itself");
        }
        end
    }

    /// Loads the state of all entries. Changes are read first: a later one is reported afterwards, perhaps twice.
    async fn load(&self) -> Result<(Planner, Changes), BackendError> {
        let seen = self.store.changes().await?;
        let overrides = self.store.overrides().await?;
        let facts = self.store.stored_facts().await?;
        let now = self.client.clock().now();
        let known = loop {
            let (known, there) = self.store.known().await?;
            let next = known.with(self.entries(), now);
            if next == known && there.is_some() {
                break next;
            }
            let missing = known.missing_in(&self.entries);
            if let Saved::Done(_) = self.store.save_known(there.as_ref(), &next).await? {
                if !missing.is_empty() {
                    let entries = missing.join(", ");
                    tracing::warn!(
                        entries,
                        "beat: the previous leader had entries that this beat does not know, so they are no longer \
                         sent; every beat that shares this store needs the same entries"
                    );
                }
                break next;
            }
        };
        Ok((Planner::new(Arc::clone(&self.entries), overrides, facts, &known, now), seen))
    }

    /// The loop of a leader: wait, decide, act.
    async fn fire(
        &self,
        lease: &Arc<Lease>,
        mut planner: Planner,
        mut updates: mpsc::Receiver<OverrideUpdate>,
        stop: &mut watch::Receiver<bool>,
    ) {
        let clock = self.client.clock();
        let firer = Firer {
            client: self.client.clone(),
            registry: self.registry.clone(),
            store: self.store.clone(),
            lease: Arc::clone(lease),
            node: self.node.clone(),
            counts: Arc::clone(&self.counts),
        };
        let mut jobs = FuturesUnordered::new();
        let mut clock_watch = ClockWatch::new(Instant::now(), clock.now());
        loop {
            let now = clock.now();
            if let Some(by) = clock_watch.moved(Instant::now(), now) {
                tracing::warn!(seconds = by.num_seconds(), "beat: the clock was moved, or this process stood still");
                planner.look_at_all(now);
            }
            let ends = *stop.borrow() || lease.is_lost();
            if ends && jobs.is_empty() {
                return;
            }
            let is_trusted = !ends && lease.is_trusted();
            while is_trusted
                && jobs.len() < JOBS_MAX
                && let Some(job) = planner.begin(now)
            {
                jobs.push(firer.run(job));
            }
            self.status.send_if_modified(|status| {
                let new = BeatStatus { leads: true, entries: planner.len() };
                std::mem::replace(status, new) != new
            });
            // Without trust, or with as many jobs as there may be, an entry that is due is no reason to go on at once.
            let may_begin = is_trusted && jobs.len() < JOBS_MAX;
            let wait = if may_begin { time_until(planner.next(), now) } else { Duration::from_millis(100) };
            tokio::select! {
                Some(finished) = jobs.next(), if !jobs.is_empty() => planner.end(finished, clock.now()),
                Some(update) = updates.recv() => match update {
                    OverrideUpdate::Named(overrides) => {
                        for (name, entry_override) in overrides {
                            planner.change(&name, &entry_override, clock.now());
                        }
                    }
                    OverrideUpdate::All(overrides) => planner.change_all(overrides, clock.now()),
                },
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|is_asked| *is_asked), if !ends => {}
            }
        }
    }
}
