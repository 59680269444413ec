//! What may be a copy is looked into before it runs: is it running or finished elsewhere (`claim`), and have processes died
//! of it (`blame`)?

use std::sync::Arc;

use taskq::broker::{QUARANTINE_SUFFIX, QueueSpec};
use taskq::internal::attempt::{Conclusion, Stop, Verdict};
use taskq::internal::codec;
use taskq::message::Envelope;

use super::blame::{self, Evidence, Judgement};
use super::claim::{self, Claim, Claimed};
use super::execution::{finish, follow_of, moved, settle};
use super::losses::{self, Losses};
use super::run::Run;
use super::services::Services;
use super::settle::{End, Follow, Holder, until_done};
use super::supervision::WorkerEvent;

/// What the broker says of a delivery that may be a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// It may have been given to somebody before.
    pub(super) redelivered: bool,
    /// How often it came back, where that is counted.
    pub(super) returns: Option<u32>,
    /// It comes from a queue for tasks that run alone.
    pub(super) put_aside: bool,
}

/// The end of a delivery whose task waits in `queue`, anew, to be run alone.
fn set_aside(run: &Arc<Run>, queue: &str) -> End {
    let copy = Envelope { moved: true, origin_queue: Some(run.queue.to_string()), returns: 0, ..run.envelope.clone() };
    let follow = Follow { queue: queue.into(), message: codec::encode(copy), delay: None };
    End { records: Vec::new(), verdict: None, follow: Some(follow), holder: Holder::Run(Arc::clone(run)) }
}

/// Gives a run back that was interrupted. One that ran alone goes into its queue anew, so that the broker does not count
/// it among its returns: those are taken for deaths there.
pub(super) async fn give_back(services: &Services, run: &Arc<Run>) {
    if services.runs_alone() {
        settle(services, set_aside(run, &alone_queue(&run.queue))).await;
    } else {
        services.in_flight.give_back(run);
    }
}

/// The queue in which tasks of `queue` wait to be run alone.
pub(super) fn alone_queue(queue: &str) -> String {
    format!("{queue}{QUARANTINE_SUFFIX}")
}

/// Puts a claim on a run that is under way, so that whoever is given its message knows. Tries once.
pub(super) async fn claim_running(services: &Services, run: &Run) {
    let Some(kv) = services.client.kv() else { return };
    let claim = Claim::new(&run.key, &services.instance, run.nonce);
    match claim.take(kv).await {
        Ok(Claimed::Ours(claim)) if run.claim().is_none() => run.set_claim(claim),
        // Somebody was faster; settling decides whose run counts.
        Ok(_) => {}
        Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "no claim yet"),
    }
}

/// Whether the run may begin. If not, somebody has taken care of its delivery.
pub(super) async fn may_run(services: &Arc<Services>, run: &Arc<Run>, seen: Seen) -> bool {
    let found = tokio::select! {
        found = look(services, run, seen) => found,
        // The result backend is away and the worker is going down: the message goes back as it came.
        Stop::Interrupted | Stop::TimeLimit = run.stopped() => {
            if run.conclude() {
                give_back(services, run).await;
            }
            return false;
        }
    };
    let (claimed, losses) = found;
    let claim = match claimed {
        None => None,
        Some(Claimed::Ours(claim)) => Some(claim),
        Some(Claimed::Overtaken) => return drop_copy(services, run, None).await,
        Some(Claimed::Elsewhere) => {
            let later = moved(&run.envelope, &run.queue, claim::look_again_after(&run.envelope));
            return drop_copy(services, run, Some(later)).await;
        }
        Some(Claimed::Finished(verdict)) => {
            let follow = follow_of(services, &run.envelope, &run.queue, &verdict);
            return drop_copy(services, run, follow).await;
        }
    };
    blame(services, run, seen, claim, &losses).await
}

/// Claims first and reads the losses then: a process is known to be gone only when its losses are written down, so whoever
/// takes over a dead process's lease counts its death. Without a Kv store there is neither.
async fn look(services: &Services, run: &Run, seen: Seen) -> (Option<Claimed>, Losses) {
    let (Some(kv), Some(results)) = (services.client.kv(), &services.results) else {
        return (None, Losses::default());
    };
    let claim = Claim::new(&run.key, &services.instance, run.nonce);
    let claimed = until_done("claiming a task that may be running elsewhere", || {
        claim.clone().make(kv, &**results, &run.envelope, services.now())
    })
    .await;
    let losses = if may_have_been_lost(&run.envelope, seen) {
        until_done("reading what was lost with a task", || losses::read(kv, &run.key.id, run.key.generation)).await
    } else {
        Losses::default()
    };
    (Some(claimed), losses)
}

/// Whether a process may have died while it ran this task. What is only delayed or resent has not run yet.
fn may_have_been_lost(envelope: &Envelope, seen: Seen) -> bool {
    seen.redelivered || seen.put_aside || envelope.moved || envelope.attempt > 0 || envelope.snoozes > 0
}

/// Settles a copy that need not run.
async fn drop_copy(services: &Services, run: &Arc<Run>, follow: Option<Follow>) -> bool {
    if !run.conclude() {
        return false;
    }
    tracing::debug!(id = %run.key.id, attempt = run.key.attempt, "a copy of a task that has run or is running");
    settle(services, End { records: Vec::new(), verdict: None, follow, holder: Holder::Run(Arc::clone(run)) }).await;
    false
}

/// Lets the run begin, puts it aside, or ends it, by what was lost with it.
async fn blame(services: &Arc<Services>, run: &Arc<Run>, seen: Seen, claim: Option<Claim>, losses: &Losses) -> bool {
    let is_supervised = services.supervision.is_some();
    let evidence = Evidence {
        losses: &losses.losses,
        // Without a supervisor there is nobody who could run it alone, and returns by themselves prove nothing.
        returns: seen.returns.filter(|_| is_supervised),
        alone: services.runs_alone(),
        has_kv: services.client.kv().is_some(),
    };
    let judgement = blame::judge(evidence);
    let (task, id) = (run.definition.name, &run.key.id);
    if judgement == Judgement::RunAlone
        && !services.runs_alone()
        && let Some(queue) = place_aside(services, run, seen)
    {
        let why = match evidence.losses.len() {
            0 => format!("it came back unfinished {} times", seen.returns.unwrap_or_default()),
            count => format!("{count} processes have died while they ran it"),
        };
        return put_aside(services, run, claim, queue, &why).await;
    }
    if let Some(claim) = claim {
        run.set_claim(claim);
    }
    if judgement == Judgement::Dead {
        let how = blame::describe(evidence);
        tracing::error!(task, %id, how, "a task of which processes died; it is not run again");
        if run.conclude() {
            let verdict = Verdict::worker_lost(&how);
            finish(services, Arc::clone(run), Conclusion { verdict, value: None, traceback: None }).await;
        }
        return false;
    }
    true
}

/// The queue in which a suspect is to wait, or `None` if it has to run here after all.
fn place_aside(services: &Services, run: &Run, seen: Seen) -> Option<String> {
    let (task, id) = (run.definition.name, &run.key.id);
    if services.supervision.is_none() {
        // Put aside it might wait for ever: who knows whether a supervised worker will come.
        tracing::warn!(task, %id, "processes have died while they ran this task; it runs here, where nobody supervises it");
        return None;
    }
    // Somebody has this worker consume from such a queue; sent there again it would go round for ever.
    if seen.put_aside {
        return None;
    }
    let queue = alone_queue(&run.queue);
    match QueueSpec::check_name(&queue) {
        Ok(()) => Some(queue),
        Err(error) => {
            tracing::warn!(task, %id, %error, "a suspect runs beside others, since it cannot be put aside");
            None
        }
    }
}

/// Moves a suspect to where it is run alone, and asks for somebody who does.
async fn put_aside(services: &Arc<Services>, run: &Arc<Run>, claim: Option<Claim>, queue: String, why: &str) -> bool {
    if !run.conclude() {
        return false;
    }
    let (task, id) = (run.definition.name, &run.key.id);
    tracing::warn!(task, %id, queue, why, "this task will be run alone");
    if let (Some(claim), Some(kv)) = (claim, services.client.kv())
        && let Err(error) = claim.give_up(kv).await
    {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "a claim could not be given up; it runs out by itself");
    }
    settle(services, set_aside(run, &queue)).await;
    if let Some(supervision) = &services.supervision {
        supervision.tell(WorkerEvent::AloneWanted { queues: vec![queue] });
    }
    false
}
