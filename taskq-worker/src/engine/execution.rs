//! One attempt, from the claim to the hand-over: a column of steps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskq::client::dead_message;
use taskq::definition::{AckMode, Definition, RetryPolicy};
use taskq::internal::attempt::{self, Conclusion, Outcome, Start, Stop, Verdict, conclude};
use taskq::internal::codec;
use taskq::message::{Envelope, Record, TaskState};
use tokio::sync::OwnedSemaphorePermit;

use super::body::Made;
use super::copies::{self, Seen};
use super::run::{NewRun, Run};
use super::services::Services;
use super::settle::{End, Follow, Holder, Settlement};
use super::{body, crash, settle};

/// A delivery that is to be run.
pub(super) struct Attempt {
    pub(super) run: Arc<Run>,
    /// It may be a copy, and is looked into first; this is what the broker says of it.
    pub(super) copy: Option<Seen>,
}

/// Runs one attempt and hands its end over to the settler.
pub(super) async fn execute(services: Arc<Services>, attempt: Attempt, slot: OwnedSemaphorePermit) {
    let Attempt { run, copy } = attempt;
    if let Some(early) = attempt::early_by(&run.envelope, services.now()) {
        tokio::time::sleep(early).await;
    }
    if let Some(seen) = copy
        && !copies::may_run(&services, &run, seen).await
    {
        return;
    }
    // It may have been given back while it waited.
    if run.is_concluded() {
        return;
    }
    if run.definition.options.ack == AckMode::Early
        && let Some(acker) = run.take_acker()
    {
        acker.ack();
    }
    let policy = RetryPolicy::of(&run.definition.options);
    let (outcome, slot) = match start(&services, &run, &policy) {
        Ok(made) => body::run(&services, &run, made, slot).await,
        Err(outcome) => (outcome, Some(slot)),
    };
    crash::point("run.ended");
    if run.conclude() {
        let conclusion = conclude(outcome, &policy, &run.envelope);
        finish(&services, run, conclusion).await;
    } else {
        let (task, id) = (run.definition.name, &run.key.id);
        tracing::info!(task, %id, "a task that was past its time has ended; its end had been recorded before");
    }
    // Held until here: a worker whose settler is full takes nothing new.
    drop(slot);
}

/// Ends a run that was told to stop and does not listen. For whoever looks after it from outside.
pub(super) async fn finish_stopped(services: &Arc<Services>, run: Arc<Run>, why: Stop) {
    let policy = RetryPolicy::of(&run.definition.options);
    let conclusion = conclude(Outcome::Stopped(why, run.limits.hard), &policy, &run.envelope);
    finish(services, run, conclusion).await;
}

/// Says what a run came to, and hands it over. Only for whoever has [concluded](Run::conclude) it.
pub(super) async fn finish(services: &Arc<Services>, run: Arc<Run>, conclusion: Conclusion) {
    log(&run, &conclusion.verdict);
    count(services, &conclusion.verdict);
    hand_over(services, run, conclusion).await;
}

/// The run of a delivery, entered among those in hand.
pub(super) fn run_of(
    services: &Services,
    envelope: Envelope,
    definition: &'static Definition,
    queue: Arc<str>,
    acker: taskq::broker::Acker,
) -> Arc<Run> {
    let options = &definition.options;
    let run = Arc::new(Run::new(NewRun {
        nonce: services.counters.next_nonce(),
        limits: attempt::limits(&envelope, options),
        stores_result: services.results.is_some() && !attempt::ignores_result(&envelope, options),
        envelope,
        definition,
        queue,
        acker,
    }));
    services.in_flight.insert(Arc::clone(&run));
    run
}

/// The same message once more, held back by the broker.
pub(super) fn moved(envelope: &Envelope, queue: &Arc<str>, delay: Duration) -> Follow {
    let copy = Envelope { moved: true, ..envelope.clone() };
    Follow { queue: Arc::clone(queue), message: codec::encode(copy), delay: Some(delay) }
}

/// Decodes the arguments and makes the body. That runs the user's code as well, so from here on the run is in the
/// flight recorder.
fn start(services: &Services, run: &Run, policy: &RetryPolicy) -> Result<Made, Outcome> {
    let at = services.now();
    let recorded = body::enter_recorder(services, run, at);
    let _mark = recorded.mark();
    let start = Start {
        definition: run.definition,
        envelope: &run.envelope,
        policy,
        limits: run.limits,
        now: at,
        cancelled: run.cancel.subscribe(),
        progress: Arc::clone(&run.progress),
        state: Arc::clone(&services.state),
    };
    let (body, context) = start.start()?;
    Ok(Made { body, context, recorded, at })
}

/// Hands the end of a run over. Waits while the settler is full.
async fn hand_over(services: &Arc<Services>, run: Arc<Run>, conclusion: Conclusion) {
    if conclusion.verdict == Verdict::GiveBack {
        if let (Some(claim), Some(kv)) = (run.take_claim(), services.client.kv())
            && let Err(error) = claim.give_up(kv).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a claim could not be given up; it runs out by itself"
            );
        }
        copies::give_back(services, &run).await;
        return;
    }
    let end = end_of_run(services, run, conclusion);
    let nothing_to_do = end.records.is_empty() && end.follow.is_none();
    match &end.holder {
        // The shortest way: nothing is stored, nothing follows, nobody else can have it.
        Holder::Run(run) if nothing_to_do && run.claim().is_none() && run.holds_delivery() => {
            services.in_flight.acknowledge(run);
            crash::point("settle.acknowledged");
        }
        _ => settle(services, end).await,
    }
}

/// What is to be settled at the end of a run.
fn end_of_run(services: &Services, run: Arc<Run>, conclusion: Conclusion) -> End {
    let Conclusion { verdict, value, traceback } = conclusion;
    let now = services.now();
    let mut records = Vec::new();
    if run.stores_result
        && let Some(mut record) = verdict.record(&run.envelope, now)
    {
        // The last progress comes before the end, or watchers would never see it.
        records.extend(progress_record(services, &run));
        record.value = value;
        record.traceback = traceback;
        record.started_at = run.began_at();
        record.worker = Some(services.node.to_string());
        records.push(record);
    }
    let follow = follow_of(services, &run.envelope, &run.queue, &verdict);
    let kept = run.claim().is_some() || follow.is_some();
    End { records, verdict: kept.then_some(verdict), follow, holder: Holder::Run(run) }
}

/// The record of the progress that a run has reported and that was not yet written.
pub(super) fn progress_record(services: &Services, run: &Run) -> Option<Record> {
    let progress = run.progress.take()?;
    let value = serde_json::value::to_raw_value(&progress).expect("numbers and a text can be written as JSON");
    Some(Record { value: Some(value), ..running_record(services, run, TaskState::Progress) })
}

/// A record of a run that goes on.
pub(super) fn running_record(services: &Services, run: &Run, state: TaskState) -> Record {
    Record {
        attempt: run.key.attempt,
        generation: run.key.generation,
        task: Some(run.definition.name.to_owned()),
        worker: Some(services.node.to_string()),
        started_at: run.began_at(),
        ..Record::new(run.key.id.clone(), state)
    }
}

/// The message that follows a verdict.
pub(super) fn follow_of(
    services: &Services,
    envelope: &Envelope,
    queue: &Arc<str>,
    verdict: &Verdict,
) -> Option<Follow> {
    if let Verdict::Fail { reason, failure } = verdict {
        let message = dead_message(envelope, queue, *reason, failure, services.now());
        return Some(Follow { queue: Arc::clone(&services.dead_queue), message, delay: None });
    }
    let (next, delay) = verdict.next_message(envelope, services.now())?;
    Some(Follow { queue: Arc::clone(queue), message: codec::encode(next), delay: Some(delay) })
}

/// A terminal end without a run: expired, unknown.
pub(super) fn end_without_run(
    services: &Services,
    envelope: &Envelope,
    queue: &Arc<str>,
    verdict: &Verdict,
    holder: Holder,
) -> End {
    let stored = services.results.is_some() && envelope.ignore_result != Some(true);
    let mut records = Vec::new();
    if stored && let Some(mut record) = verdict.record(envelope, services.now()) {
        record.worker = Some(services.node.to_string());
        records.push(record);
    }
    let follow = follow_of(services, envelope, queue, verdict);
    End { records, verdict: None, follow, holder }
}

/// Gives an end to the settler, and waits while it is full. What needs no record passes it by: while the result backend is
/// away, a delivery that is only moved would grow old behind those that wait for it.
pub(super) async fn settle(services: &Services, end: End) {
    if end.records.is_empty() && matches!(end.holder, Holder::Delivery(..)) {
        return settle::pass_on(services, end.follow, end.holder).await;
    }
    if services.settler.send(Settlement::End(Box::new(end))).await.is_err() {
        // The worker is gone; the delivery was not acknowledged and comes back.
        tracing::debug!("an attempt ended after its worker had closed");
    }
}

fn log(run: &Run, verdict: &Verdict) {
    let (task, id, attempt) = (run.definition.name, &run.key.id, run.key.attempt);
    match verdict {
        Verdict::Succeed => tracing::debug!(task, %id, attempt, "succeeded"),
        Verdict::Retry { delay_ms, failure } => {
            tracing::warn!(task, %id, attempt, %failure, delay_ms, "failed; will be retried");
        }
        Verdict::Snooze { delay_ms } => tracing::info!(task, %id, attempt, delay_ms, "put itself off"),
        Verdict::Fail { failure, .. } => tracing::error!(task, %id, attempt, %failure, "failed for good"),
        Verdict::Revoke { failure } => tracing::info!(task, %id, attempt, %failure, "revoked"),
        Verdict::GiveBack => tracing::info!(task, %id, attempt, "interrupted; given back"),
    }
}

fn count(services: &Services, verdict: &Verdict) {
    let counters = &services.counters;
    let counter = match verdict {
        Verdict::Succeed => &counters.succeeded,
        Verdict::Retry { .. } => &counters.retried,
        Verdict::Fail { .. } => &counters.failed,
        Verdict::Revoke { .. } => &counters.revoked,
        Verdict::Snooze { .. } | Verdict::GiveBack => return,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}
