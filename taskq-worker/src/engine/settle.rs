//! Settling: record, then what follows, then the acknowledgement. In this order: a crash between two steps repeats a
//! step and skips none.
//!
//! Ends are taken in batches, so that records go out in one pipeline. One pipeline is under way at a time, which keeps
//! what is written about a task in order. While the result backend is away a batch waits; the channel behind it is
//! bounded, attempts wait to hand over, and so the worker stops taking new work instead of dropping results.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use taskq::backend::{ResultBackendExt, SharedKv, SharedResults, Written};
use taskq::broker::{Acker, Publication};
use taskq::internal::attempt::Verdict;
use taskq::message::{Record, WireMessage};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::claim::{Claim, Claimed};
use super::crash;
use super::inflight::Hold;
use super::run::Run;
use super::services::Services;

/// How many ends may wait for the settler. With [`BATCH_MAX`] and the broker's batch of acknowledgements this bounds how
/// many attempts may be repeated when a worker dies.
pub(super) const WAITING_MAX: usize = 64;

/// How many are written in one pipeline.
const BATCH_MAX: usize = 128;

/// Bounds of the delay between tries while a server is away.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Something for the settler.
pub(super) enum Settlement {
    /// A word on a run that goes on: `STARTED` or `PROGRESS`. May be dropped.
    Note(Box<Record>),
    /// The end of a delivery. Never dropped.
    End(Box<End>),
}

/// The end of a delivery: what is to be written, what follows, and who is told.
pub(super) struct End {
    /// What was reported and not yet written, then the end itself; empty if nothing is stored.
    pub(super) records: Vec<Record>,
    /// What is noted with the claim, for runs.
    pub(super) verdict: Option<Verdict>,
    pub(super) follow: Option<Follow>,
    pub(super) holder: Holder,
}

/// What follows: a message to be published before the acknowledgement.
pub(super) struct Follow {
    pub(super) queue: Arc<str>,
    pub(super) message: WireMessage,
    pub(super) delay: Option<Duration>,
}

/// Whose delivery it is.
pub(super) enum Holder {
    /// A run's.
    Run(Arc<Run>),
    /// One that was not run.
    Delivery(Acker, Hold),
}

/// Settles until it is aborted, and everything that it has under way with it.
pub(super) async fn settle_all(services: Arc<Services>, mut incoming: mpsc::Receiver<Settlement>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    // Confirms are waited for side by side; how many is bounded by the prefetch, since none is acknowledged.
    let mut follow_ups = JoinSet::new();
    while incoming.recv_many(&mut batch, BATCH_MAX).await > 0 {
        settle_batch(&services, batch.drain(..), &mut follow_ups).await;
        while follow_ups.try_join_next().is_some() {}
    }
}

async fn settle_batch(services: &Arc<Services>, batch: impl Iterator<Item = Settlement>, follow_ups: &mut JoinSet<()>) {
    let (mut notes, mut ends) = (Vec::new(), Vec::new());
    for settlement in batch {
        match settlement {
            Settlement::Note(record) => notes.push(*record),
            Settlement::End(end) => ends.push(*end),
        }
    }
    crash::point("settle.begun");
    let ends = without_losers(services, ends).await;
    let written = write(services, notes, &ends).await;
    crash::point("settle.recorded");
    for (end, written) in ends.into_iter().zip(written) {
        if end.follow.is_none() && end.verdict.is_none() {
            acknowledge(services, end.holder);
        } else {
            follow_ups.spawn(follow_up(Arc::clone(services), end, written));
        }
    }
}

/// Leaves out runs that lost their claim, or their delivery to somebody who has claimed it since: that somebody's run
/// counts.
async fn without_losers(services: &Arc<Services>, ends: Vec<End>) -> Vec<End> {
    let verdicts = join_all(ends.iter().map(|end| still_counts(services, end))).await;
    let mut winners = Vec::with_capacity(ends.len());
    for (end, counts) in ends.into_iter().zip(verdicts) {
        match end.holder {
            Holder::Run(run) if !counts => {
                tracing::warn!(
                    id = %run.key.id, attempt = run.key.attempt,
                    "another worker has taken this task over meanwhile; its run counts, this one's result is dropped"
                );
                services.in_flight.let_go(&run);
            }
            holder => winners.push(End { holder, ..end }),
        }
    }
    winners
}

async fn still_counts(services: &Services, end: &End) -> bool {
    let (Holder::Run(run), Some(kv), Some(results)) = (&end.holder, services.client.kv(), &services.results) else {
        return true;
    };
    match run.claim() {
        Some(claim) => until_done("renewing a claim", || claim.renew(kv)).await || lease_is_free(&claim, kv).await,
        None if run.holds_delivery() => true,
        None => {
            let claim = Claim::new(&run.key, &services.instance, run.nonce);
            let make = || claim.clone().make(kv, &**results, &run.envelope, services.now());
            match until_done("claiming a task whose delivery was lost", make).await {
                Claimed::Ours(claim) => {
                    run.set_claim(claim);
                    true
                }
                Claimed::Finished(_) | Claimed::Overtaken | Claimed::Elsewhere => false,
            }
        }
    }
}

/// A lease that ran out, or that the store lost, and that nobody took is taken again.
async fn lease_is_free(claim: &Claim, kv: &SharedKv) -> bool {
    until_done("taking a claim again", || claim.take_again(kv)).await
}

/// Writes the records of a batch, however long that takes, and says for each end what became of its last record.
async fn write(services: &Services, notes: Vec<Record>, ends: &[End]) -> Vec<Option<Written>> {
    let Some(results) = &services.results else { return vec![None; ends.len()] };
    let mut records = notes;
    let mut droppable = records.len();
    let mut last_of_end = Vec::with_capacity(ends.len());
    for end in ends {
        records.extend(end.records.iter().cloned());
        last_of_end.push((!end.records.is_empty()).then(|| records.len() - 1));
    }
    if records.is_empty() {
        return vec![None; ends.len()];
    }
    let mut delay = RETRY_MIN;
    let written = loop {
        match results.write(&records).await {
            Ok(written) => break written,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    records = records.len(),
                    "results wait for the result backend"
                );
                if droppable > 0 {
                    // What is only a word on the way is not worth waiting for.
                    services.counters.progress_dropped.fetch_add(droppable as u64, Ordering::Relaxed);
                    records.drain(..droppable);
                    for index in last_of_end.iter_mut().flatten() {
                        *index -= droppable;
                    }
                    droppable = 0;
                    if records.is_empty() {
                        return vec![None; ends.len()];
                    }
                }
                services.reach.wrote(Some(&error));
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_MAX);
            }
        }
    };
    services.reach.wrote(None);
    last_of_end.into_iter().map(|index| index.map(|index| written[index])).collect()
}

/// Publishes what follows, notes the claim as finished, and acknowledges.
async fn follow_up(services: Arc<Services>, end: End, written: Option<Written>) {
    let End { verdict, follow, holder, .. } = end;
    let superseded = match (written, &services.results, &verdict, &holder) {
        (Some(Written::Kept), Some(results), Some(verdict), Holder::Run(run)) => {
            is_superseded(results, run, verdict).await
        }
        _ => false,
    };
    if let Some(follow) = follow.filter(|_| !superseded) {
        publish(&services, follow).await;
        crash::point("settle.published");
    }
    if let (Holder::Run(run), Some(kv), Some(verdict)) = (&holder, services.client.kv(), &verdict)
        && let Some(claim) = run.claim()
    {
        // Whether or not the lease was still ours, what follows is out, and the record says who won.
        until_done("finishing a claim", || claim.finish(kv, verdict, written.is_some())).await;
        crash::point("settle.finished");
    }
    acknowledge(&services, holder);
}

/// Settles a delivery that was not run, and of which nothing is recorded.
pub(super) async fn pass_on(services: &Services, follow: Option<Follow>, holder: Holder) {
    if let Some(follow) = follow {
        publish(services, follow).await;
        crash::point("settle.published");
    }
    acknowledge(services, holder);
}

/// Whether the record that was there already makes what follows superfluous.
async fn is_superseded(results: &SharedResults, run: &Run, verdict: &Verdict) -> bool {
    let stored = until_done("reading a record", || results.read_one(&run.key.id)).await;
    verdict.is_superseded_by(stored.as_ref())
}

/// Publishes, however long it takes: the message that this follows from is not acknowledged before.
async fn publish(services: &Services, follow: Follow) {
    let Follow { queue, message, delay } = follow;
    until_done("publishing what follows", || {
        let (queue, message) = (Arc::clone(&queue), message.clone());
        async move {
            // A queue that was deleted meanwhile is declared again.
            let queue = services.client.declare(&queue).await?;
            services.client.publish(Publication { queue, message, delay }).await
        }
    })
    .await;
}

fn acknowledge(services: &Services, holder: Holder) {
    match holder {
        Holder::Run(run) => services.in_flight.acknowledge(&run),
        Holder::Delivery(acker, _hold) => acker.ack(),
    }
    crash::point("settle.acknowledged");
}

/// Tries until it works, with a growing delay. For steps that must not be skipped.
pub(super) async fn until_done<T, E, F>(what: &'static str, mut step: impl FnMut() -> F) -> T
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut delay = RETRY_MIN;
    loop {
        match step().await {
            Ok(done) => return done,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "{what} did not work; trying again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_MAX);
            }
        }
    }
}
