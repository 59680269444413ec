//! Running a task's body: its end, however it comes.

use std::sync::atomic::Ordering;

use taskq::Context;
use taskq::attempt::{self, Caught, Outcome, Stop};
use taskq::task::{Body, TaskResult};
use tokio::sync::OwnedSemaphorePermit;

use super::inflight::Run;

/// An end, and the slot the body ran in; `None` if a plain function was stopped and is still running in it.
pub(super) type Ended = (Outcome, Option<OwnedSemaphorePermit>);

/// Runs `body` until it ends or is stopped. A plain function that is stopped goes on, and keeps its slot until it
/// returns.
pub(super) async fn run(body: Body, context: Context, run: &Run, slot: OwnedSemaphorePermit) -> Ended {
    match body {
        Body::Async(future) => (run_async(context.scope(future), run).await, Some(slot)),
        Body::Blocking(function) => run_blocking(move || context.sync_scope(function), run, slot).await,
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

async fn run_blocking(
    function: impl FnOnce() -> TaskResult + Send + 'static,
    run: &Run,
    slot: OwnedSemaphorePermit,
) -> Ended {
    let thread = tokio::task::spawn_blocking(move || (attempt::catch_sync(function), slot));
    tokio::select! {
        biased;
        ended = thread => match ended {
            Ok((ended, slot)) => (ended_by_itself(ended, run), Some(slot)),
            // The runtime is going down, and the function was never called.
            Err(_) => (Outcome::Stopped(Stop::Interrupted, None), None),
        },
        why = run.stopped() => (stopped(why, run), None),
    }
}

fn ended_by_itself(ended: Caught, run: &Run) -> Outcome {
    Outcome::of(ended, run.soft_limit_hit.load(Ordering::Acquire))
}

fn stopped(why: Stop, run: &Run) -> Outcome {
    Outcome::Stopped(why, run.limits.hard)
}
