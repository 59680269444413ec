//! From a slot that is due to a message that is confirmed: claim, send, mark.
//!
//! A claim puts the slots into the entry's facts as pending, and a mark takes them out. Each replaces the facts only if they
//! are as this beat knows them. Who dies in between leaves them pending; the next leader cannot know whether they were sent,
//! and does what the entry's `on_doubt` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use taskq::backend::{BackendError, ResultBackendExt};
use taskq::broker::PublishError;
use taskq::canvas::ArgumentList;
use taskq::client::Client;
use taskq::definition::{Registry, TaskOptions};
use taskq::{Call, TaskId};

use super::desk::{Done, Job, Standing};
use crate::due::{Decision, Missed, Why, due};
use crate::entry::{Entry, OnDoubt, Overlap};
use crate::leader::{Lease, with_cause};
use crate::store::{Event, Fired, Pending, Saved, Store, What, facts_from};

/// What could not be done is tried again after this.
const AGAIN_AFTER: TimeDelta = TimeDelta::seconds(1);

/// A run of which nothing is known any more is taken to be over after this, or after the time for which results are kept.
const UNSEEN_MAX: TimeDelta = TimeDelta::days(1);

/// What was fired and missed in all.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) fired: AtomicU64,
    pub(super) missed: AtomicU64,
}

/// Fires, as the holder of a lease.
#[derive(Debug)]
pub(super) struct Firer {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) lease: Arc<Lease>,
    pub(super) node: String,
    pub(super) counts: Arc<Counts>,
}

/// Why a job is not over.
#[derive(Debug)]
enum Hindrance {
    Store(BackendError),
    Broker(taskq::Error),
    /// The lease may be another's by now.
    NotTrusted,
    /// The entry was removed a moment ago; it will soon be heard of.
    Removed,
}

impl From<BackendError> for Hindrance {
    fn from(error: BackendError) -> Self {
        Self::Store(error)
    }
}

impl Firer {
    /// Does what is to be done about an entry.
    pub(super) async fn run(&self, job: Job) -> Done {
        let Job { entry, is_added, mut standing } = job;
        let name = entry.name.clone();
        let again_after = match self.carry_out(&entry, is_added, &mut standing).await {
            Ok(()) => TimeDelta::zero(),
            Err(hindrance) => {
                match hindrance {
                    Hindrance::Store(error) => {
                        tracing::warn!(
                            entry = name,
                            error = with_cause(&error),
                            "beat: nothing can be done about the entry; it is tried again"
                        );
                    }
                    Hindrance::Broker(error) => {
                        tracing::warn!(
                            entry = name,
                            error = with_cause(&error),
                            "beat: a slot could not be sent; it is tried again"
                        );
                    }
                    Hindrance::NotTrusted | Hindrance::Removed => {}
                }
                AGAIN_AFTER
            }
        };
        Done { name, standing, again_after }
    }

    fn now(&self) -> DateTime<Utc> {
        self.client.clock().now()
    }

    async fn carry_out(&self, entry: &Entry, is_added: bool, standing: &mut Standing) -> Result<(), Hindrance> {
        // Whoever removes an entry deletes what is known of it, and nothing should be written after that.
        if is_added && !self.store.has_added(&entry.name).await? {
            return Err(Hindrance::Removed);
        }
        if standing.is_unsaved {
            self.save(entry, standing).await?;
        }
        if standing.facts.pending.is_empty() {
            let decision = self.decide(entry, standing).await?;
            if decision.fire.is_empty() && decision.missed.is_empty() {
                standing.facts.handled = decision.handled;
                return Ok(());
            }
            self.claim(entry, standing, decision).await?;
        }
        self.send_pending(entry, standing).await
    }

    async fn decide(&self, entry: &Entry, standing: &Standing) -> Result<Decision, Hindrance> {
        let now = self.now();
        let decision = due(entry, &standing.facts.handled, now, false);
        if entry.overlap == Overlap::Skip
            && !decision.fire.is_empty()
            && self.is_running(standing.facts.last.as_ref()).await?
        {
            return Ok(due(entry, &standing.facts.handled, now, true));
        }
        Ok(decision)
    }

    /// Whether the run before is not over. One that waits in its queue is not.
    async fn is_running(&self, last: Option<&Fired>) -> Result<bool, Hindrance> {
        let (Some(last), Ok(results)) = (last, self.client.results()) else { return Ok(false) };
        Ok(match results.read_one(&last.id).await? {
            Some(record) => !record.state.is_terminal(),
            None => {
                let kept_for = self.client.settings().result_ttl.and_then(|ttl| TimeDelta::from_std(ttl).ok());
                self.now() - last.at < kept_for.unwrap_or(UNSEEN_MAX).min(UNSEEN_MAX)
            }
        })
    }

    /// Claims slots, and notes those that were missed. After this the standing is what the store has, whoever wrote it.
    async fn claim(&self, entry: &Entry, standing: &mut Standing, decision: Decision) -> Result<(), Hindrance> {
        if !self.lease.is_trusted() {
            return Err(Hindrance::NotTrusted);
        }
        // Before the facts: who dies in between has listed them, and the next one does not list them again.
        let events: Vec<Event> =
            decision.missed.iter().map(|missed| self.event(What::Missed(missed.clone()))).collect();
        if !events.is_empty() {
            self.store.append(&entry.name, &events).await?;
        }
        let mut facts = standing.facts.clone();
        facts.handled = decision.handled;
        facts.pending = decision.fire.iter().map(Pending::of).collect();
        facts.note_missed(&decision.missed);
        facts.term = self.lease.term();
        match self.store.save_facts(&entry.name, standing.stored.as_ref(), &facts).await? {
            Saved::Done(stored) => {
                self.count_missed(&entry.name, &decision.missed);
                *standing = Standing::new(facts, Some(stored));
                Ok(())
            }
            Saved::Other(there) => self.adopt(entry, standing, there),
        }
    }

    /// Somebody else has written the facts: an earlier leader that was slow, or a later one. Or they are gone.
    fn adopt(&self, entry: &Entry, standing: &mut Standing, there: Option<bytes::Bytes>) -> Result<(), Hindrance> {
        let Some(value) = there else {
            // What this beat knows is better than nothing.
            standing.stored = None;
            return Ok(());
        };
        let facts = facts_from(&entry.name, &value)?;
        let is_later = facts.term > self.lease.term();
        *standing = Standing::new(facts, Some(value));
        if is_later {
            // What is pending there is being sent by its holder.
            self.lease.lose();
            return Err(Hindrance::NotTrusted);
        }
        Ok(())
    }

    /// Sends what is pending, oldest first, and marks it.
    async fn send_pending(&self, entry: &Entry, standing: &mut Standing) -> Result<(), Hindrance> {
        // Another leader claimed them, and nobody knows whether it sent them.
        let is_inherited = standing.facts.term != self.lease.term();
        let mut hindrance = None;
        let mut missed = Vec::new();
        while let Some(pending) = standing.facts.pending.first().cloned() {
            if !self.lease.is_trusted() {
                hindrance = Some(Hindrance::NotTrusted);
                break;
            }
            let why = if pending.expires.is_some_and(|expires| expires <= self.now()) {
                Some(Why::Expired)
            } else if is_inherited && entry.on_doubt == OnDoubt::Skip {
                Some(Why::InDoubt)
            } else {
                match self.send(entry, &pending).await {
                    Ok(id) => {
                        let fired = self.fired(&pending, id);
                        standing.facts.note_fired(&fired);
                        let Fired { slot, late_ms, .. } = fired;
                        standing.unwritten.push(self.event(What::Fired { slot, late_ms, again: is_inherited }));
                        None
                    }
                    Err(error) => match judge(&error, entry.on_doubt) {
                        Some(why) => {
                            let error = with_cause(&error);
                            tracing::error!(entry = entry.name, slot = %pending.slot, error, "beat: a slot is not sent");
                            Some(why)
                        }
                        None => {
                            hindrance = Some(Hindrance::Broker(error));
                            break;
                        }
                    },
                }
            };
            if let Some(why) = why {
                let slot = pending.slot;
                let one = Missed { first: slot, last: slot, count: 1, is_more: false, why };
                standing.unwritten.push(self.event(What::Missed(one.clone())));
                missed.push(one);
            }
            standing.facts.pending.remove(0);
            standing.is_unsaved = true;
        }
        standing.facts.note_missed(&missed);
        self.count_missed(&entry.name, &missed);
        if standing.is_unsaved {
            self.save(entry, standing).await?;
        }
        hindrance.map_or(Ok(()), Err)
    }

    fn fired(&self, pending: &Pending, id: TaskId) -> Fired {
        let now = self.now();
        let late = pending.late(now);
        self.counts.fired.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%id, late_ms = late.num_milliseconds(), "beat: fired");
        Fired { slot: pending.slot, at: now, late_ms: late.num_milliseconds(), id }
    }

    fn count_missed(&self, name: &str, missed: &[Missed]) {
        for Missed { first, last, count, why, .. } in missed {
            self.counts.missed.fetch_add(*count, Ordering::Relaxed);
            tracing::warn!(entry = name, %first, %last, count, "beat: slots were missed: {why}");
        }
    }

    fn event(&self, what: What) -> Event {
        Event { at: self.now(), by: self.node.clone(), what }
    }

    /// Puts what is known into the store. If somebody else has written the facts meanwhile, theirs hold: they have sent again
    /// what this one sent.
    async fn save(&self, entry: &Entry, standing: &mut Standing) -> Result<(), Hindrance> {
        if !standing.unwritten.is_empty() {
            self.store.append(&entry.name, &standing.unwritten).await?;
            standing.unwritten.clear();
        }
        standing.facts.term = self.lease.term();
        loop {
            match self.store.save_facts(&entry.name, standing.stored.as_ref(), &standing.facts).await? {
                Saved::Done(stored) => {
                    standing.stored = Some(stored);
                    standing.is_unsaved = false;
                    return Ok(());
                }
                Saved::Other(None) if standing.stored.is_some() => standing.stored = None,
                Saved::Other(there) => return self.adopt(entry, standing, there),
            }
        }
    }

    async fn send(&self, entry: &Entry, pending: &Pending) -> Result<TaskId, taskq::Error> {
        let id = self.store.id(entry.firing_id(pending.slot).as_str());
        let left = pending.expires.map(|expires| (expires - self.now()).to_std().unwrap_or_default());
        let call = call(entry, &self.registry, left)?.id(id.as_str()).scheduled();
        call.send(&self.client).await.map(|_| id)
    }
}

/// The call of an entry, which expires so long after it is sent.
pub(super) fn call(entry: &Entry, registry: &Registry, expires: Option<Duration>) -> Result<Call<Value>, taskq::Error> {
    let options = registry.get(&entry.task).map_or(&TaskOptions::DEFAULT, |task| &task.options);
    let arguments = ArgumentList::from_json(&entry.args, &entry.kwargs)
        .map_err(|error| taskq::Error::Call { task: entry.task.clone(), mistake: error.to_string() })?;
    let mut call = Call::named(&entry.task, arguments);
    if let Some(queue) = entry.queue.clone().or(options.queue.map(str::to_owned)) {
        call = call.queue(queue);
    }
    if let Some(priority) = entry.priority.or(options.priority) {
        call = call.priority(priority);
    }
    if let Some(after) = expires.or(options.expires) {
        call = call.expires(after);
    }
    if entry.overlap == Overlap::Skip {
        // Whether the run is over is told by its record, also where nobody else wants one.
        call = call.ignore_result(false);
    }
    Ok(call)
}

/// Why a slot that could not be sent is given up; `None`: it is tried again, under the same id.
fn judge(error: &taskq::Error, on_doubt: OnDoubt) -> Option<Why> {
    use taskq::Error as E;
    match error {
        E::Call { .. } | E::Publish(PublishError::TooLarge { .. }) => Some(Why::Refused),
        // It may have arrived.
        E::Publish(PublishError::TimedOut { .. } | PublishError::Broker(_)) if on_doubt == OnDoubt::Skip => {
            Some(Why::InDoubt)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_given_up_and_what_may_work_is_tried_again() {
        let too_large = || taskq::Error::Publish(PublishError::TooLarge { size: 2, limit: 1 });
        let timed_out = || taskq::Error::Publish(PublishError::TimedOut { after: Duration::from_secs(1) });
        let full = || taskq::Error::Publish(PublishError::Nacked { queue: "q".to_owned() });
        for (error, again, skip) in [
            (too_large(), Some(Why::Refused), Some(Why::Refused)),
            (timed_out(), None, Some(Why::InDoubt)),
            (full(), None, None),
        ] {
            assert_eq!((judge(&error, OnDoubt::Again), judge(&error, OnDoubt::Skip)), (again, skip), "{error}");
        }
    }
}
