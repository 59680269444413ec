//! One attempt, from the look-up of duplicates to the hand-over: a column of steps.

use std::sync::Arc;
use std::time::Duration;

use taskq::definition::{AckMode, RetryPolicy};
use taskq::internal::attempt::{self, Conclusion, Outcome, Stop, Verdict, conclude};
use tokio::sync::OwnedSemaphorePermit;

use super::crash;
use super::duplicates::{self, DeliveryHints, Finding};
use super::observe::Moment;
use super::run::Run;
use super::settle::{End, Follow, Settles};
use super::shared::Shared;

/// A delivery that is to be run.
pub(super) struct Attempt {
    pub(super) run: Arc<Run>,
    /// The broker's hints, for a delivery that may be a duplicate and is looked up first.
    pub(super) hints: Option<DeliveryHints>,
}

/// Runs one attempt and hands its end over to the settler.
pub(super) async fn execute(shared: Arc<Shared>, attempt: Attempt, slot: OwnedSemaphorePermit) {
    let Attempt { run, hints } = attempt;
    if let Some(early) = attempt::early_by(&run.envelope, shared.client.clock().now()) {
        tokio::time::sleep(early).await;
    }
    if let Some(hints) = hints
        && !passes(&shared, &run, hints).await
    {
        return;
    }
    // It may have been given back while it waited.
    if run.is_concluded() {
        return;
    }
    if run.definition.options.ack == AckMode::Early {
        shared.in_flight.acknowledge_early(&run);
    }
    let policy = RetryPolicy::of(&run.definition.options);
    let (outcome, slot) = match shared.bodies.prepare(&run, &policy).await {
        Ok(prepared) => shared.bodies.run(&run, prepared, slot).await,
        Err(outcome) => {
            if let Outcome::BadArguments(error) = &outcome
                && error.may_fit_another_build()
            {
                shared.observers.observe(&Moment::Unfit { subject: run.subject(), error });
            }
            (outcome, Some(slot))
        }
    };
    crash::point("run.ended");
    if run.conclude() {
        let outcome = match run.revoked() {
            Some((why, _)) => Outcome::Stopped(why, None),
            None => outcome,
        };
        let conclusion = conclude(outcome, &policy, &run.envelope, shared.client.settings().unknown_task_grace);
        finish(&shared, run, conclusion).await;
    } else {
        shared.observers.observe(&Moment::EndedLate { subject: run.subject(), frees_thread: false });
    }
    // Held until here: a worker whose settler is full takes nothing new.
    drop(slot);
}

/// Ends a run from outside that was told to stop and does not listen.
pub(super) async fn finish_stopped(shared: &Shared, run: Arc<Run>, why: Stop) {
    let policy = RetryPolicy::of(&run.definition.options);
    let conclusion = conclude(Outcome::Stopped(why, run.limits.hard), &policy, &run.envelope, Duration::ZERO);
    finish(shared, run, conclusion).await;
}

/// Looks a possible duplicate up and acts on the finding. Returns whether the run may begin; if not, its delivery is
/// taken care of.
async fn passes(shared: &Shared, run: &Arc<Run>, hints: DeliveryHints) -> bool {
    let facts = tokio::select! {
        facts = shared.duplicates.look_up(run, hints) => facts,
        why = run.stopped() => {
            if run.conclude() {
                match why {
                    Stop::Revoked { .. } => finish_stopped(shared, Arc::clone(run), why).await,
                    // The result backend is away and the worker is going down: the message goes back as it came.
                    Stop::Interrupted | Stop::TimeLimit => give_back(shared, run).await,
                }
            }
            return false;
        }
    };
    match duplicates::judge(facts, &run.envelope, &run.queue) {
        Finding::Run { claim, not_quarantined } => {
            if let Some(why) = &not_quarantined {
                shared.observers.observe(&Moment::NotQuarantined { subject: run.subject(), why });
            }
            if let Some(claim) = claim {
                shared.in_flight.set_claim(run, claim);
            }
            return true;
        }
        Finding::Overtaken => drop_duplicate(shared, run, None).await,
        Finding::Finished(verdict) => {
            let follow = shared.ends.follow(&run.envelope, &run.queue, &verdict);
            drop_duplicate(shared, run, follow).await;
        }
        Finding::LookAgain(delay) => {
            drop_duplicate(shared, run, Some(Follow::looked_at_again(&run.envelope, &run.queue, delay))).await;
        }
        Finding::Quarantine { claim, queue, why } => {
            if run.conclude() {
                if let Some(claim) = claim {
                    shared.duplicates.give_up(&claim).await;
                }
                shared.settler.settle(shared.ends.quarantined(Arc::clone(run), &queue)).await;
                // Only now: a process that came earlier might find the queue empty and go again.
                let subject = run.subject();
                shared.observers.observe(&Moment::Quarantined { subject, queue: &queue, why: &why });
            }
        }
        Finding::WorkerLost { claim, how } => {
            if let Some(claim) = claim {
                shared.in_flight.set_claim(run, claim);
            }
            shared.observers.observe(&Moment::WorkerLost { subject: run.subject(), how: &how });
            if run.conclude() {
                let conclusion = Conclusion { verdict: Verdict::worker_lost(&how), value: None, traceback: None };
                finish(shared, Arc::clone(run), conclusion).await;
            }
        }
    }
    false
}

/// Settles a duplicate that need not run.
async fn drop_duplicate(shared: &Shared, run: &Arc<Run>, follow: Option<Follow>) {
    if run.conclude() {
        shared.observers.observe(&Moment::Duplicate { subject: run.subject() });
        shared.settler.settle(End::unrecorded(follow, Settles::Run(Arc::clone(run)))).await;
    }
}

/// Tells the meaning of a run's end, and hands it over. Only for the caller that has [concluded](Run::conclude) the
/// run. Waits while the settler is full.
async fn finish(shared: &Shared, run: Arc<Run>, conclusion: Conclusion) {
    shared.observers.observe(&Moment::Concluded {
        subject: run.subject(),
        verdict: &conclusion.verdict,
        value: conclusion.value.as_deref(),
        traceback: conclusion.traceback.as_deref(),
        took: run.since_began(),
    });
    if conclusion.verdict == Verdict::GiveBack {
        if let Some(claim) = shared.in_flight.take_claim(&run) {
            shared.duplicates.give_up(&claim).await;
        }
        return give_back(shared, &run).await;
    }
    let end = shared.ends.of_run(run, conclusion);
    match &end.settles {
        // The shortest way: nothing is stored, nothing follows, and the message is with no other worker.
        Settles::Run(run) if end.is_simple() && shared.in_flight.acknowledge_if_simple(run) => {
            crash::point("settle.acknowledged");
        }
        _ => shared.settler.settle(end).await,
    }
}

/// Gives a run back that was interrupted.
async fn give_back(shared: &Shared, run: &Arc<Run>) {
    match shared.ends.interrupted(run) {
        Some(end) => shared.settler.settle(end).await,
        None => shared.in_flight.give_back(run),
    }
}
