//! Looking after what is running, ten times a second: limits, blocked threads, progress, leases, prefetch.
//!
//! One look at all runs is cheaper than timers for each: a task of a microsecond pays nothing. It looks from the I/O
//! thread, so that whatever tasks do to the threads they run on, limits hold and leases are renewed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskq::broker::ConsumptionControl;
use taskq::internal::attempt::Stop;
use taskq::message::{Record, TaskState};
use tokio::time::{Instant, MissedTickBehavior};

use super::claim::RENEW_EVERY;
use super::copies::claim_running;
use super::execution::{finish_stopped, progress_record, running_record};
use super::held;
use super::prefetch::Prefetch;
use super::run::Run;
use super::services::Services;
use super::settle::Settlement;
use super::supervision::WorkerEvent;

/// How often it looks: the grain of limits and progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A run that is older than this is noted as `STARTED`; faster ones are not worth a write.
const NOTE_AFTER: Duration = Duration::from_millis(100);

/// A run that was told to stop and has not after this long is ended from here. With two looks it makes half a second.
const LISTENS_WITHIN: Duration = Duration::from_millis(300);

/// A poll that lasts for more looks than this, a second, keeps others waiting.
const POLL_LOOKS_MAX: u32 = 10;

/// Looks after the runs until it is dropped.
pub(super) async fn beat(services: Arc<Services>, mut prefetch: Prefetch, control: Arc<dyn ConsumptionControl>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed = Instant::now();
    let mut seen = services.counters.ended();
    loop {
        looks.tick().await;
        let tick = services.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        let runs = services.in_flight.runs();
        for run in &runs {
            look_after(&services, run, tick);
        }
        for (run, why) in services.in_flight.overdue(LISTENS_WITHIN) {
            end_from_outside(&services, run, why);
        }
        if renewed.elapsed() >= RENEW_EVERY {
            renewed = Instant::now();
            renew(&services, &runs);
        }
        claim_what_lost_its_delivery(&services, &runs);
        hold_what_is_long(&services, &prefetch, &control);
        // A worker for suspects holds the one that it runs, and nothing that would come to harm with it.
        if services.runs_alone() {
            continue;
        }
        let ended = services.counters.ended();
        let (count, total) = (ended.0 - seen.0, ended.1.saturating_sub(seen.1));
        seen = ended;
        if let Some(wanted) = prefetch.observe(count, total) {
            tracing::debug!(prefetch = wanted, "prefetch follows the work");
            control.set_prefetch(wanted);
        }
        // What is held by a copy has a slot, and does not count among what the broker has sent.
        if let Some(wanted) = prefetch.leave_out(services.in_flight.held()) {
            tracing::debug!(prefetch = wanted, "prefetch follows what is held");
            match control.fetch_control() {
                Some(fetching) => fetching.cap_outstanding(wanted),
                None => control.set_prefetch(wanted),
            }
        }
    }
}

/// Limits, blocked threads, progress, and the note that it has started.
fn look_after(services: &Services, run: &Arc<Run>, tick: u32) {
    if run.is_concluded() {
        return;
    }
    let Some(age) = run.running_for() else { return };
    if run.poll.lasts_longer_than(POLL_LOOKS_MAX, tick) {
        let (task, id) = (run.definition.name, &run.key.id);
        tracing::warn!(
            task, %id,
            "this task has run for a second without an await and blocks the async runtime; use a plain fn or spawn_blocking"
        );
    }
    if run.limits.hard.is_some_and(|limit| age >= limit) {
        services.in_flight.stop(run, Stop::TimeLimit);
        return;
    }
    if run.limits.soft.is_some_and(|limit| age >= limit) && !run.soft_limit_hit.swap(true, Ordering::AcqRel) {
        run.cancel.send_replace(true);
    }
    if !run.stores_result {
        return;
    }
    if let Some(progress) = progress_record(services, run) {
        run.noted.store(true, Ordering::Relaxed);
        note(services, progress);
    } else if age >= NOTE_AFTER && !run.noted.swap(true, Ordering::Relaxed) {
        note(services, started_record(services, run));
    }
}

/// Ends a run that was told to stop and does not listen: async code that never awaits, a plain function, or a runtime
/// that somebody else blocks. Its thread cannot be taken back; where the process is supervised, it is replaced.
fn end_from_outside(services: &Arc<Services>, run: Arc<Run>, why: Stop) {
    // When the worker ends anyway, so does the thread.
    if run.is_running() && why == Stop::TimeLimit {
        let (task, id) = (run.definition.name, &run.key.id);
        if let Some(supervision) = &services.supervision {
            tracing::warn!(task, %id, "this task is past its hard limit and cannot be stopped; its process is replaced");
            supervision.tell(WorkerEvent::Stuck { task: task.to_owned(), id: id.to_string() });
        } else {
            tracing::error!(
                task, %id,
                "this task is past its hard limit and cannot be stopped; the thread and the slot that it runs on are lost \
                 until it ends"
            );
        }
    }
    if run.conclude() {
        let services = Arc::clone(services);
        tokio::spawn(async move { finish_stopped(&services, run, why).await });
    }
}

/// Who runs it, in the form that Celery's workers write.
fn started_record(services: &Services, run: &Run) -> Record {
    let who = serde_json::json!({ "pid": std::process::id(), "hostname": &*services.node });
    let value = serde_json::value::to_raw_value(&who).expect("a number and a text can be written as JSON");
    Record { value: Some(value), ..running_record(services, run, TaskState::Started) }
}

/// A word on the way goes through the settler, so that it cannot overtake the end; if the settler is busy with
/// ends, it is dropped.
fn note(services: &Services, record: Record) {
    if services.settler.try_send(Settlement::Note(Box::new(record))).is_err() {
        services.counters.progress_dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn renew(services: &Arc<Services>, runs: &[Arc<Run>]) {
    for claim in runs.iter().filter_map(|run| run.claim()) {
        let services = Arc::clone(services);
        tokio::spawn(async move {
            let Some(kv) = services.client.kv() else { return };
            match claim.renew(kv).await {
                Ok(true) => {}
                // Settling looks again, and decides then whose run counts.
                Ok(false) => tracing::debug!("a lease was lost or is finished"),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a lease could not be renewed");
                }
            }
        });
    }
}

/// Has the messages of runs copied that the broker would soon take back.
fn hold_what_is_long(services: &Arc<Services>, prefetch: &Prefetch, control: &Arc<dyn ConsumptionControl>) {
    let Some(holding) = &services.holding else { return };
    let due = holding.due(&services.in_flight);
    if !due.is_empty() {
        let rests = (services.in_flight.held() >= prefetch.concurrency()).then(|| Arc::clone(control));
        tokio::spawn(held::hold(Arc::clone(services), due, rests));
    }
}

/// A run whose connection was lost may be delivered to somebody else at any moment; a claim tells them that it is
/// still going on. If the message comes back to this worker, the run simply takes it over.
fn claim_what_lost_its_delivery(services: &Arc<Services>, runs: &[Arc<Run>]) {
    let lost = runs.iter().filter(|run| run.running_for().is_some() && run.claim().is_none() && !run.holds_delivery());
    for run in lost {
        let (services, run) = (Arc::clone(services), Arc::clone(run));
        tokio::spawn(async move { claim_running(&services, &run).await });
    }
}
