//! Looking after what is running, ten times a second: limits, progress, leases, prefetch.
//!
//! One look at all runs is cheaper than timers for each: a task of a microsecond pays nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskq::attempt::Stop;
use taskq::broker::ConsumptionControl;
use taskq::message::{Record, State};
use tokio::time::{Instant, MissedTickBehavior};

use super::claim::{Claim, Claimed, RENEW_EVERY};
use super::execution::{progress_record, running_record};
use super::inflight::Run;
use super::prefetch::Prefetch;
use super::services::Services;
use super::settle::Settlement;

/// How often it looks: the grain of limits and progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A run that is older than this is noted as `STARTED`; faster ones are not worth a write.
const NOTE_AFTER: Duration = Duration::from_millis(100);

/// Looks after the runs until it is dropped.
pub(super) async fn beat(services: Arc<Services>, mut prefetch: Prefetch, control: Arc<dyn ConsumptionControl>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed = Instant::now();
    loop {
        looks.tick().await;
        let runs = services.in_flight.runs();
        for run in &runs {
            look_after(&services, run);
        }
        if renewed.elapsed() >= RENEW_EVERY {
            renewed = Instant::now();
            renew(&services, &runs);
        }
        claim_what_lost_its_delivery(&services, &runs);
        let (count, total) = services.counters.take_ended();
        if let Some(wanted) = prefetch.observe(count, total) {
            tracing::debug!(prefetch = wanted, "prefetch follows the work");
            control.set_prefetch(wanted);
        }
    }
}

/// Limits, progress, and the note that it has started.
fn look_after(services: &Services, run: &Run) {
    let Some(age) = run.running_for() else { return };
    if run.limits.hard.is_some_and(|limit| age >= limit) {
        run.stop(Stop::TimeLimit);
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

/// Who runs it, in the form that Celery's workers write.
fn started_record(services: &Services, run: &Run) -> Record {
    let who = serde_json::json!({ "pid": std::process::id(), "hostname": &*services.node });
    let value = serde_json::value::to_raw_value(&who).expect("a number and a text can be written as JSON");
    Record { value: Some(value), ..running_record(services, run, State::Started) }
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
        taskq::io::spawn(async move {
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

/// A run whose connection was lost may be delivered to somebody else at any moment; a claim tells them that it is
/// still going on. If the message comes back to this worker, the run simply takes it over.
fn claim_what_lost_its_delivery(services: &Arc<Services>, runs: &[Arc<Run>]) {
    let lost = runs.iter().filter(|run| run.running_for().is_some() && run.claim().is_none() && !run.holds_delivery());
    for run in lost {
        let (services, run) = (Arc::clone(services), Arc::clone(run));
        taskq::io::spawn(async move {
            let Some(kv) = services.client.kv() else { return };
            let claim = Claim::new(&run.key, &services.instance, services.counters.next_nonce());
            match claim.make_unread(kv).await {
                Ok(Claimed::Ours(claim)) if run.claim().is_none() => run.set_claim(claim),
                // Somebody was faster; settling decides whose run counts.
                Ok(_) => {}
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "no claim yet"),
            }
        });
    }
}
