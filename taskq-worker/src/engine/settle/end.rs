//! Ends of deliveries, and their constructors. Pure.

use std::sync::Arc;
use std::time::Duration;

use taskq::broker::{Acker, Delivery};
use taskq::internal::attempt::{Conclusion, EarlierRun, Verdict};
use taskq::internal::clock::Clock;
use taskq::internal::codec;
use taskq::internal::dead::{Refusal, RefusedMessage, dead_message};
use taskq::message::{Envelope, Record, TaskId, TaskState, WireMessage};

use super::super::custody::UnrunGuard;
use super::super::quarantine::quarantine_queue;
use super::super::run::Run;
use super::super::supervision::Role;

/// The end of a delivery: the records to write, the messages that follow, and the delivery to acknowledge.
pub(crate) struct End {
    /// The progress that was reported and not yet written, then the record of the end itself. Empty if nothing is
    /// stored.
    pub(crate) records: Vec<Record>,
    /// The verdict that is noted with the claim of a run.
    pub(crate) verdict: Option<Verdict>,
    /// The messages to publish before the acknowledgement.
    pub(crate) follows: Vec<Follow>,
    /// The rule that replaces `follows` if the record of an earlier run stays.
    pub(crate) concession: Option<Concession>,
    /// The delivery that is acknowledged in the end.
    pub(crate) settles: Settles,
}

/// The rule for a delivery that was not run and whose record lost to that of an earlier run: that run's worker may have
/// died before it published what follows, so what follows is derived from the record that stays.
pub(crate) struct Concession {
    ends: Ends,
    envelope: Envelope,
    queue: Arc<str>,
}

impl Concession {
    /// The task whose record stays.
    pub(crate) fn id(&self) -> &TaskId {
        &self.envelope.id
    }

    /// The messages that follow from the record that stays.
    pub(crate) fn follows(&self, stored: &Record) -> Vec<Follow> {
        match EarlierRun::of(stored, &self.envelope, self.ends.clock.now()) {
            Some(EarlierRun::Finished(verdict)) => {
                self.ends.follow(&self.envelope, &self.queue, &verdict).into_iter().collect()
            }
            Some(EarlierRun::Overtaken) | None => Vec::new(),
        }
    }
}

/// A message that follows from an end.
pub(crate) struct Follow {
    pub(crate) queue: Arc<str>,
    pub(crate) message: WireMessage,
    /// The time for which the broker holds the message back.
    pub(crate) delay: Option<Duration>,
    /// Whether it derives from a message that was verified, and may be signed.
    pub(crate) is_vouched_for: bool,
    /// The remedy if the message can never be published.
    pub(crate) otherwise: Otherwise,
}

/// The remedy if a message that follows from a task can never be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// The task has failed, and goes to the dead set.
    GiveUp,
    /// The task may be running elsewhere, so nothing is said about it: its delivery is given back.
    GiveBack,
    /// The dead letter itself, which is made lighter until it can be published.
    Lighten,
}

/// The end of a task that cannot go on.
pub(crate) struct GivenUp {
    pub(crate) verdict: Verdict,
    /// The record; `None` if nothing is stored.
    pub(crate) record: Option<Record>,
    /// The message for the dead set.
    pub(crate) letter: Follow,
}

/// The delivery that an end settles.
pub(crate) enum Settles {
    /// The delivery of a run, which is in custody.
    Run(Arc<Run>),
    /// A delivery that was not run.
    Delivery(Acker, UnrunGuard),
}

/// Constructors of ends, with what is alike in all ends of a worker. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Ends {
    /// The worker's node name.
    pub(crate) node: Arc<str>,
    /// The queue of dead messages, as the broker port takes it.
    pub(crate) dead_queue: Arc<str>,
    /// Whether there is a result backend.
    pub(crate) stores_results: bool,
    pub(crate) role: Role,
    pub(crate) clock: Clock,
}

impl Follow {
    /// The message of `envelope` once more in `queue`, held back by the broker for `delay`.
    pub(crate) fn moved(envelope: &Envelope, queue: &Arc<str>, delay: Duration) -> Self {
        let copy = envelope.clone().with(|copy| copy.moved = true);
        let otherwise = Otherwise::GiveUp;
        Self {
            queue: Arc::clone(queue),
            message: codec::encode(copy),
            delay: Some(delay),
            is_vouched_for: true,
            otherwise,
        }
    }

    /// The message of a possible duplicate, which is looked at again after `delay`.
    pub(crate) fn looked_at_again(envelope: &Envelope, queue: &Arc<str>, delay: Duration) -> Self {
        Self { otherwise: Otherwise::GiveBack, ..Self::moved(envelope, queue, delay) }
    }

    /// A message for the dead set.
    fn dead(queue: &Arc<str>, message: WireMessage) -> Self {
        Self { queue: Arc::clone(queue), message, delay: None, is_vouched_for: true, otherwise: Otherwise::Lighten }
    }

    /// The message of a run in the quarantine queue `queue`. Its count of returns begins anew there.
    fn quarantined(run: &Run, queue: &str) -> Self {
        let copy = run.envelope.clone().with(|copy| {
            copy.moved = true;
            copy.origin_queue = Some(run.queue.to_string());
            copy.returns = 0;
        });
        Self {
            queue: queue.into(),
            message: codec::encode(copy),
            delay: None,
            is_vouched_for: true,
            otherwise: Otherwise::GiveUp,
        }
    }
}

impl End {
    /// The end of a delivery of which nothing is recorded.
    pub(crate) fn unrecorded(follows: impl IntoIterator<Item = Follow>, settles: Settles) -> Self {
        let follows = follows.into_iter().collect();
        Self { records: Vec::new(), verdict: None, follows, concession: None, settles }
    }

    /// Whether nothing is left to do but to acknowledge.
    pub(crate) fn is_simple(&self) -> bool {
        self.records.is_empty() && self.follows.is_empty()
    }
}

impl Ends {
    /// The end of a run that was concluded.
    pub(crate) fn of_run(&self, run: Arc<Run>, conclusion: Conclusion) -> End {
        let Conclusion { verdict, value, traceback, .. } = conclusion;
        let mut records = Vec::new();
        if run.stores_result
            && let Some(mut record) = verdict.record(&run.envelope, self.clock.now())
        {
            // The last progress comes before the end, or watchers would never see it.
            records.extend(self.progress(&run));
            record.value = value;
            record.traceback = traceback;
            record.started_at = run.began_at();
            record.worker = Some(self.node.to_string());
            records.push(record);
        }
        let follows = self.follow(&run.envelope, &run.queue, &verdict).into_iter().collect();
        End { records, verdict: Some(verdict), follows, concession: None, settles: Settles::Run(run) }
    }

    /// The end of a delivery that is not run and has a verdict all the same: expired, unknown.
    pub(crate) fn without_run(
        &self,
        envelope: &Envelope,
        queue: &Arc<str>,
        verdict: &Verdict,
        acker: Acker,
        guard: UnrunGuard,
    ) -> End {
        let record = self.stores_unrun(envelope).then(|| self.record(verdict, envelope)).flatten();
        let records: Vec<Record> = record.into_iter().collect();
        let follows = self.follow(envelope, queue, verdict).into_iter().collect();
        let concession = (!records.is_empty()).then(|| Concession {
            ends: self.clone(),
            envelope: envelope.clone(),
            queue: Arc::clone(queue),
        });
        End { records, verdict: None, follows, concession, settles: Settles::Delivery(acker, guard) }
    }

    /// The end of a message that is refused: it goes to the dead set as it is, with the reason. If it is no task
    /// message and has an id, its record tells its caller.
    pub(crate) fn refused(&self, refusal: &Refusal, delivery: Delivery, guard: UnrunGuard) -> End {
        let RefusedMessage { message, record, .. } = RefusedMessage::new(&delivery, refusal, self.clock.now());
        let records = record.filter(|_| self.stores_results).into_iter().collect();
        let is_vouched_for = !matches!(refusal, Refusal::Signature(_));
        let follows = vec![Follow { is_vouched_for, ..Follow::dead(&self.dead_queue, message) }];
        End { records, verdict: None, follows, concession: None, settles: Settles::Delivery(delivery.acker, guard) }
    }

    /// The end of a delivery whose task goes on in the quarantine queue `queue`.
    pub(crate) fn quarantined(&self, run: Arc<Run>, queue: &str) -> End {
        End::unrecorded([Follow::quarantined(&run, queue)], Settles::Run(run))
    }

    /// The end of a run that was interrupted in quarantine: it goes into its queue anew, so that the broker does not
    /// count it among the returns, which are taken for deaths there. `None` elsewhere: the delivery is simply given
    /// back.
    pub(crate) fn interrupted(&self, run: &Arc<Run>) -> Option<End> {
        self.role.is_quarantine().then(|| {
            let anew = Follow::quarantined(run, &quarantine_queue(&run.queue));
            End::unrecorded([Follow { otherwise: Otherwise::GiveBack, ..anew }], Settles::Run(Arc::clone(run)))
        })
    }

    /// The message that follows a verdict.
    pub(crate) fn follow(&self, envelope: &Envelope, queue: &Arc<str>, verdict: &Verdict) -> Option<Follow> {
        if let Verdict::Fail { reason, failure, .. } = verdict {
            let message = dead_message(envelope, queue, *reason, failure, self.clock.now());
            return Some(Follow::dead(&self.dead_queue, message));
        }
        let (next, delay) = verdict.next_message(envelope, self.clock.now())?;
        let (queue, message, delay) = (Arc::clone(queue), codec::encode(next), Some(delay));
        Some(Follow { queue, message, delay, is_vouched_for: true, otherwise: Otherwise::GiveUp })
    }

    /// Replaces an end whose record the result backend does not take, for the reason `why`. Returns whether there is a
    /// record to write in its place: a task that succeeded has failed then, since its caller would never see the
    /// result. Any other end stays what it is, without a record.
    pub(crate) fn replace_refused(&self, end: &mut End, why: &str) -> bool {
        if let (Some(Verdict::Succeed), Settles::Run(run)) = (&end.verdict, &end.settles) {
            let conclusion = Conclusion { verdict: Verdict::result_refused(why), value: None, traceback: None };
            *end = self.of_run(Arc::clone(run), conclusion);
            return true;
        }
        end.records.clear();
        false
    }

    /// The end of a delivery whose next message can never be published, for the reason `why`: the verdict, the record
    /// and the message for the dead set. `None` if the message is not understood.
    pub(crate) fn give_up(
        &self,
        settles: &Settles,
        ended: Option<&Verdict>,
        unpublished: &Follow,
        why: &str,
    ) -> Option<GivenUp> {
        let (envelope, queue, is_stored) = match settles {
            Settles::Run(run) => (run.envelope.clone(), &run.queue, run.stores_result),
            Settles::Delivery(..) => {
                let envelope = codec::decode(&unpublished.message).ok()?;
                let is_stored = self.stores_unrun(&envelope);
                (envelope, &unpublished.queue, is_stored)
            }
        };
        let verdict = Verdict::unsendable(why, ended);
        let record = is_stored.then(|| self.record(&verdict, &envelope)).flatten();
        let letter = self.follow(&envelope, queue, &verdict)?;
        Some(GivenUp { verdict, record, letter })
    }

    /// Whether the end of a message that is not run is stored.
    fn stores_unrun(&self, envelope: &Envelope) -> bool {
        self.stores_results && envelope.ignore_result != Some(true)
    }

    /// The record of a verdict without a run, by this worker.
    fn record(&self, verdict: &Verdict, envelope: &Envelope) -> Option<Record> {
        let record = verdict.record(envelope, self.clock.now())?;
        Some(record.with(|record| record.worker = Some(self.node.to_string())))
    }

    /// The record of the progress that a run has reported and that was not yet written.
    pub(crate) fn progress(&self, run: &Run) -> Option<Record> {
        let progress = run.progress.take()?;
        let value = serde_json::value::to_raw_value(&progress).expect("numbers and a text can be written as JSON");
        let mut record = self.running(run, TaskState::Progress);
        record.value = Some(value);
        Some(record)
    }

    /// The record of a run that has begun, in the form that Celery's workers write.
    pub(crate) fn started(&self, run: &Run) -> Record {
        let who = serde_json::json!({ "pid": std::process::id(), "hostname": &*self.node });
        let value = serde_json::value::to_raw_value(&who).expect("a number and a text can be written as JSON");
        let mut record = self.running(run, TaskState::Started);
        record.value = Some(value);
        record
    }

    /// A record of a run that goes on.
    fn running(&self, run: &Run, state: TaskState) -> Record {
        let mut record = Record::new(run.key.id.clone(), state);
        record.attempt = run.key.attempt;
        record.generation = run.key.generation;
        record.task = Some(run.definition.name.to_owned());
        record.worker = Some(self.node.to_string());
        record.started_at = run.began_at();
        record
    }
}
