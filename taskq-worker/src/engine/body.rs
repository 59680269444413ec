//! Running a task's body: its end, however it comes.
//!
//! While a body runs it has a place in the flight recorder, and each thread that is in it carries its mark. Both are
//! given up when the body has ended: what is left to do then is settling, which cannot crash the process.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Waking, Poll};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use taskq::Context;
use taskq::definition::{Body, TaskResult};
use taskq::internal::attempt::{self, Caught, Outcome, Stop};
use tokio::sync::OwnedSemaphorePermit;

use super::run::Run;
use super::services::Services;
use crate::recorder::flight::recorded_id;
use crate::recorder::{Entry, Slot};

/// An end, and the slot the body ran in; `None` if a plain function was stopped and is still running in it.
pub(super) type Ended = (Outcome, Option<OwnedSemaphorePermit>);

/// A place in the flight recorder for a run that begins now. Without a supervisor it is a place nowhere.
pub(super) fn enter_recorder(services: &Services, run: &Run, now: DateTime<Utc>) -> Slot {
    let Some(supervision) = &services.supervision else { return Slot::default() };
    supervision.enter(&Entry {
        id: &recorded_id(run.key.id.as_str()),
        task: run.definition.name,
        generation: run.key.generation,
        attempt: run.key.attempt,
        alone: false,
        since_ms: now.timestamp_millis().max(0) as u64,
    })
}

/// A body that was made and is to be run.
pub(super) struct Made {
    pub(super) body: Body,
    pub(super) context: Context,
    /// Its place in the flight recorder: making it ran the user's code already.
    pub(super) recorded: Slot,
    /// When that was.
    pub(super) at: DateTime<Utc>,
}

/// Runs a body until it ends or is stopped. A plain function that is stopped goes on, and keeps its slot until it returns.
pub(super) async fn run(services: &Arc<Services>, run: &Arc<Run>, made: Made, slot: OwnedSemaphorePermit) -> Ended {
    let Made { body, context, recorded, at } = made;
    match body {
        Body::Async(future) => {
            run.begin(at);
            let flying = Flying { body: Some(future), recorded, services, run };
            let outcome = run_async(context.scope(flying), run).await;
            services.counters.attempt_ended(run.end());
            (outcome, Some(slot))
        }
        Body::Blocking(function) => {
            // It may have to wait for a thread, and is in the air only once it has one.
            drop(recorded);
            let (services, of_thread) = (Arc::clone(services), Arc::clone(run));
            let call = move || context.sync_scope(function);
            let thread = tokio::task::spawn_blocking(move || (run_blocking(&services, &of_thread, call), slot));
            tokio::select! {
                biased;
                ended = thread => match ended {
                    Ok((Some(ended), slot)) => (ended_by_itself(ended, run), Some(slot)),
                    Ok((None, slot)) => (Outcome::Stopped(Stop::Interrupted, None), Some(slot)),
                    // The runtime is going down, and the function was never called.
                    Err(_) => (Outcome::Stopped(Stop::Interrupted, None), None),
                },
                why = run.stopped() => (stopped(why, run), None),
            }
        }
    }
}

async fn run_async(future: impl Future<Output = TaskResult>, run: &Run) -> Outcome {
    // Dropping the future is how an async task is stopped: it ends at the await it is at.
    tokio::select! {
        biased;
        ended = attempt::catch(future) => ended_by_itself(ended, run),
        why = run.stopped() => stopped(why, run),
    }
}

/// Calls the function, on its thread; `None` if it was given up before it had one.
fn run_blocking(services: &Services, run: &Run, call: impl FnOnce() -> TaskResult) -> Option<Caught> {
    if run.is_concluded() {
        return None;
    }
    let now = services.now();
    run.begin(now);
    let recorded = enter_recorder(services, run, now);
    let mark = recorded.mark();
    let ended = attempt::catch_sync(call);
    drop(mark);
    drop(recorded);
    services.counters.attempt_ended(run.end());
    if run.is_concluded() {
        let (task, id) = (run.definition.name, &run.key.id);
        tracing::info!(task, %id, "a plain function that was stopped has returned; its thread is free again");
    }
    Some(ended)
}

fn ended_by_itself(ended: Caught, run: &Run) -> Outcome {
    Outcome::of(ended, run.soft_limit_hit.load(Ordering::Acquire))
}

fn stopped(why: Stop, run: &Run) -> Outcome {
    Outcome::Stopped(why, run.limits.hard)
}

/// An async body in the air. Whenever the user's code runs, be it polled or dropped, this thread carries its mark, and
/// the pulse can see since when.
struct Flying<'a> {
    body: Option<BoxFuture<'static, TaskResult>>,
    recorded: Slot,
    services: &'a Services,
    run: &'a Run,
}

impl Flying<'_> {
    fn touch<R>(&mut self, touch: impl FnOnce(&mut Option<BoxFuture<'static, TaskResult>>) -> R) -> R {
        let _mark = self.recorded.mark();
        let _polling = self.run.poll.begin(self.services.ticks.load(Ordering::Relaxed));
        touch(&mut self.body)
    }
}

impl Future for Flying<'_> {
    type Output = TaskResult;

    fn poll(self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<TaskResult> {
        self.get_mut().touch(|body| {
            let future = body.as_mut().expect("a future is not polled after its end");
            let ended = future.poll_unpin(waking);
            if ended.is_ready() {
                *body = None;
            }
            ended
        })
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.touch(|body| *body = None);
        }
    }
}
