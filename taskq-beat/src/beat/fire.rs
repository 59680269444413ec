//! From a due slot to a confirmed message: claim, send, mark.
//!
//! A claim adds the slots to the facts of the entry as pending, and a mark removes them. Each replaces the facts only
//! if their stored value is the one that this beat knows. A beat that dies in between leaves them pending; the next
//! leader cannot know whether they were sent, and follows the `on_doubt` policy of the entry.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use taskq::TaskId;
use taskq::backend::{BackendError, ResultBackendExt};
use taskq::broker::{BrokerError, PublishError};
use taskq::client::Client;
use taskq::definition::Registry;
use taskq::internal::fault::full_message;

use super::call::call;
use super::planner::{EntryState, FinishedJob, Job};
use super::status::Counts;
use crate::due::{Decision, MissReason, Missed, due};
use crate::entry::{Entry, OnDoubt, Overlap};
use crate::leader::Lease;
use crate::store::{Event, EventKind, Fired, Pending, Saved, Store, facts_from};

/// The time after which a blocked job is tried again.
const AGAIN_AFTER: TimeDelta = TimeDelta::seconds(1);

/// The time after which a run without a record counts as finished, if results are not kept for a shorter time.
const UNSEEN_MAX: TimeDelta = TimeDelta::days(1);

/// The part of a leader that carries out jobs.
#[derive(Debug)]
pub(super) struct Firer {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) lease: Arc<Lease>,
    pub(super) node: String,
    pub(super) counts: Arc<Counts>,
}

/// The reason why a job cannot be finished now.
#[derive(Debug)]
enum Blocked {
    /// The store does not answer, or holds a value that cannot be read.
    Store(BackendError),
    /// The broker does not take the message.
    Broker(taskq::Error),
    /// The lease may belong to another beat by now.
    NotTrusted,
    /// The entry was removed a moment ago, which the planner will learn soon.
    Removed,
}

impl From<BackendError> for Blocked {
    fn from(error: BackendError) -> Self {
        Self::Store(error)
    }
}

impl Firer {
    /// Carries out a job as far as possible.
    pub(super) async fn run(&self, job: Job) -> FinishedJob {
        let Job { entry, is_added, mut state } = job;
        let name = entry.name.clone();
        let again_after = match self.carry_out(&entry, is_added, &mut state).await {
            Ok(()) => TimeDelta::zero(),
            Err(blocked) => {
                match blocked {
                    Blocked::Store(error) => {
                        let error = full_message(&error);
                        tracing::warn!(
                            entry = name,
                            error,
                            "beat: the state of an entry cannot be used; it is tried again"
                        );
                    }
                    Blocked::Broker(error) => {
                        let error = full_message(&error);
                        tracing::warn!(entry = name, error, "beat: a slot could not be sent; it is tried again");
                    }
                    Blocked::NotTrusted | Blocked::Removed => {}
                }
                AGAIN_AFTER
            }
        };
        FinishedJob { name, state, again_after }
    }

    fn now(&self) -> DateTime<Utc> {
        self.client.clock().now()
    }

    /// Finishes what an earlier job left open, or decides, claims and sends.
    async fn carry_out(&self, entry: &Entry, is_added: bool, state: &mut EntryState) -> Result<(), Blocked> {
        // The removal of an entry deletes its facts, and they should not be written again afterwards.
        if is_added && !self.store.has_added(&entry.name).await? {
            return Err(Blocked::Removed);
        }
        if state.is_unsaved {
            self.save(entry, state).await?;
        }
        if state.facts.pending.is_empty() {
            let decision = self.decide(entry, state).await?;
            if decision.fire.is_empty() && decision.missed.is_empty() {
                state.facts.handled = decision.handled;
                return Ok(());
            }
            self.claim(entry, state, decision).await?;
        }
        self.send_pending(entry, state).await
    }

    /// Decides which slots to fire, and asks for the previous run only if its end matters.
    async fn decide(&self, entry: &Entry, state: &EntryState) -> Result<Decision, Blocked> {
        let now = self.now();
        let decision = due(entry, &state.facts.handled, now, false);
        if entry.overlap == Overlap::Skip
            && !decision.fire.is_empty()
            && self.is_running(state.facts.last.as_ref()).await?
        {
            return Ok(due(entry, &state.facts.handled, now, true));
        }
        Ok(decision)
    }

    /// Whether the previous run is unfinished. A run that waits in its queue is.
    async fn is_running(&self, last: Option<&Fired>) -> Result<bool, Blocked> {
        let (Some(last), Ok(results)) = (last, self.client.results()) else { return Ok(false) };
        Ok(match results.read_known(&last.id).await? {
            Some(record) => !record.state.is_terminal(),
            None => {
                let kept_for = self.client.settings().result_ttl.and_then(|ttl| TimeDelta::from_std(ttl).ok());
                self.now() - last.at < kept_for.unwrap_or(UNSEEN_MAX).min(UNSEEN_MAX)
            }
        })
    }

    /// Claims slots, and notes those that were missed. Afterwards the state is the stored one, whichever beat wrote it.
    async fn claim(&self, entry: &Entry, state: &mut EntryState, decision: Decision) -> Result<(), Blocked> {
        if !self.lease.is_trusted() {
            return Err(Blocked::NotTrusted);
        }
        if state.stored.is_none() {
            // Facts that cannot be read were left out when the term began. They block the entry before its history is
            // written: slots that those facts count as handled must not be listed as missed.
            self.store.facts_of(&entry.name).await?;
        }
        // Before the facts: a beat that dies in between has listed them, and the next one does not list them again.
        let events: Vec<Event> =
            decision.missed.iter().map(|missed| self.event(EventKind::Missed(missed.clone()))).collect();
        if !events.is_empty() {
            self.store.append(&entry.name, &events).await?;
        }
        let mut facts = state.facts.clone();
        facts.handled = decision.handled;
        facts.pending = decision.fire.iter().map(Pending::of).collect();
        facts.note_missed(&decision.missed);
        facts.term = self.lease.term();
        match self.store.save_facts(&entry.name, state.stored.as_ref(), &facts).await? {
            Saved::Done(stored) => {
                self.count_missed(&entry.name, &decision.missed);
                *state = EntryState::new(facts, Some(stored));
                Ok(())
            }
            Saved::Other(there) => self.adopt(entry, state, there),
        }
    }

    /// Adopts facts that another beat has written: an earlier leader that was slow, or a later one; or notes that there
    /// are none.
    fn adopt(&self, entry: &Entry, state: &mut EntryState, there: Option<Bytes>) -> Result<(), Blocked> {
        let Some(value) = there else {
            // The facts of this beat are better than none.
            state.stored = None;
            return Ok(());
        };
        let facts = facts_from(&entry.name, &value)?;
        let is_later = facts.term > self.lease.term();
        *state = EntryState::new(facts, Some(value));
        if is_later {
            // The later leader is sending the slots that are pending there.
            self.lease.lose();
            return Err(Blocked::NotTrusted);
        }
        Ok(())
    }

    /// Sends pending slots, oldest first, and marks them.
    async fn send_pending(&self, entry: &Entry, state: &mut EntryState) -> Result<(), Blocked> {
        // Slots that another leader claimed may have been sent or not.
        let is_inherited = state.facts.term != self.lease.term();
        let mut blocked = None;
        let mut missed = Vec::new();
        while let Some(pending) = state.facts.pending.first().cloned() {
            if !self.lease.is_trusted() {
                blocked = Some(Blocked::NotTrusted);
                break;
            }
            let reason = if pending.expires.is_some_and(|expires| expires <= self.now()) {
                Some(MissReason::Expired)
            } else if is_inherited && entry.on_doubt == OnDoubt::Skip {
                Some(MissReason::InDoubt)
            } else {
                match self.send(entry, &pending).await {
                    Ok(id) => {
                        let fired = self.fired(&pending, id);
                        state.facts.note_fired(&fired);
                        let Fired { slot, late_ms, .. } = fired;
                        state.unwritten.push(self.event(EventKind::Fired { slot, late_ms, again: is_inherited }));
                        None
                    }
                    Err(error) => match reason_to_give_up(&error, entry.on_doubt) {
                        Some(reason) => {
                            let error = full_message(&error);
                            tracing::error!(entry = entry.name, slot = %pending.slot, error, "beat: a slot is not sent");
                            Some(reason)
                        }
                        None => {
                            blocked = Some(Blocked::Broker(error));
                            break;
                        }
                    },
                }
            };
            if let Some(reason) = reason {
                let slot = pending.slot;
                let one = Missed { first: slot, last: slot, count: 1, is_more: false, reason };
                state.unwritten.push(self.event(EventKind::Missed(one.clone())));
                missed.push(one);
            }
            state.facts.pending.remove(0);
            state.is_unsaved = true;
        }
        state.facts.note_missed(&missed);
        self.count_missed(&entry.name, &missed);
        if state.is_unsaved {
            self.save(entry, state).await?;
        }
        blocked.map_or(Ok(()), Err)
    }

    /// Counts and logs a slot that was sent.
    fn fired(&self, pending: &Pending, id: TaskId) -> Fired {
        let now = self.now();
        let late = pending.late(now);
        self.counts.count_fired();
        tracing::debug!(%id, late_ms = late.num_milliseconds(), "beat: fired");
        Fired { slot: pending.slot, at: now, late_ms: late.num_milliseconds(), id }
    }

    /// Counts and logs slots that were missed.
    fn count_missed(&self, name: &str, missed: &[Missed]) {
        for Missed { first, last, count, reason, .. } in missed {
            self.counts.count_missed(*count);
            tracing::warn!(entry = name, %first, %last, count, "beat: slots were missed: {reason}");
        }
    }

    fn event(&self, kind: EventKind) -> Event {
        Event { at: self.now(), by: self.node.clone(), kind }
    }

    /// Stores the history and the facts. If another beat has written the facts meanwhile, its facts hold: it has sent
    /// again the slots that this beat sent.
    async fn save(&self, entry: &Entry, state: &mut EntryState) -> Result<(), Blocked> {
        if !state.unwritten.is_empty() {
            self.store.append(&entry.name, &state.unwritten).await?;
            state.unwritten.clear();
        }
        state.facts.term = self.lease.term();
        loop {
            match self.store.save_facts(&entry.name, state.stored.as_ref(), &state.facts).await? {
                Saved::Done(stored) => {
                    state.stored = Some(stored);
                    state.is_unsaved = false;
                    return Ok(());
                }
                Saved::Other(None) if state.stored.is_some() => state.stored = None,
                Saved::Other(there) => return self.adopt(entry, state, there),
            }
        }
    }

    /// Sends the task of a slot, and waits until the broker has confirmed it.
    async fn send(&self, entry: &Entry, pending: &Pending) -> Result<TaskId, taskq::Error> {
        let id = self.store.id(entry.firing_id(pending.slot).as_str());
        let left = pending.expires.map(|expires| (expires - self.now()).to_std().unwrap_or_default());
        let call = call(entry, &self.registry, left)?.id(id.as_str()).scheduled();
        call.send(&self.client).await.map(|_| id)
    }
}

/// Returns the reason to give up a slot that could not be sent; `None` if it is tried again, under the same id.
fn reason_to_give_up(error: &taskq::Error, on_doubt: OnDoubt) -> Option<MissReason> {
    use taskq::Error as E;
    match error {
        E::Call { .. } | E::Broker(BrokerError::QueueName { .. }) => Some(MissReason::Refused),
        E::Publish(error) if error.is_permanent() => Some(MissReason::Refused),
        // The message may have arrived.
        E::Publish(PublishError::TimedOut { .. } | PublishError::Broker(_)) if on_doubt == OnDoubt::Skip => {
            Some(MissReason::InDoubt)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskq::broker::QueueSpec;

    use super::*;

    #[test]
    fn a_call_that_can_never_be_sent_is_given_up_and_another_is_tried_again() {
        let too_large = || taskq::Error::Publish(PublishError::TooLarge { size: 2, limit: 1, setting: "" });
        let timed_out = || taskq::Error::Publish(PublishError::TimedOut { after: Duration::from_secs(1) });
        let full = || taskq::Error::Publish(PublishError::Nacked { queue: "q".to_owned() });
        let named = || taskq::Error::from(QueueSpec::check_named("taskq.dead").expect_err("it is taskq's own"));
        for (error, again, skip) in [
            (too_large(), Some(MissReason::Refused), Some(MissReason::Refused)),
            (named(), Some(MissReason::Refused), Some(MissReason::Refused)),
            (timed_out(), None, Some(MissReason::InDoubt)),
            (full(), None, None),
        ] {
            let given_up = |on_doubt| reason_to_give_up(&error, on_doubt);
            assert_eq!((given_up(OnDoubt::Again), given_up(OnDoubt::Skip)), (again, skip), "{error}");
        }
    }
}
