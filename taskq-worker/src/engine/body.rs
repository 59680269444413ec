//! Running a task's body: its end, however it comes.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use taskq::Context;
use taskq::task::{Body, TaskResult};
use tokio::sync::OwnedSemaphorePermit;

use super::inflight::{Run, Stop};
use super::panics;
use super::verdict::Outcome;

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
    let caught = AssertUnwindSafe(future).catch_unwind();
    tokio::select! {
        biased;
        ended = caught => match ended {
            Ok(result) => ended_by_itself(result, run),
            Err(payload) => {
                let (failure, place) = panics::failure(&*payload);
                Outcome::Panicked(failure, place)
            }
        },
        why = run.stopped() => stopped(why, run),
    }
}

async fn run_blocking(
    function: impl FnOnce() -> TaskResult + Send + 'static,
    run: &Run,
    slot: OwnedSemaphorePermit,
) -> Ended {
    let thread = tokio::task::spawn_blocking(move || {
        let ended = std::panic::catch_unwind(AssertUnwindSafe(function)).map_err(|payload| panics::failure(&*payload));
        (ended, slot)
    });
    tokio::select! {
        biased;
        ended = thread => match ended {
            Ok((Ok(result), slot)) => (ended_by_itself(result, run), Some(slot)),
            Ok((Err((failure, place)), slot)) => (Outcome::Panicked(failure, place), Some(slot)),
            // The runtime is going down, and the function was never called.
            Err(_) => (Outcome::Stopped(Stop::Interrupted, None), None),
        },
        why = run.stopped() => (stopped(why, run), None),
    }
}

fn ended_by_itself(result: TaskResult, run: &Run) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(value),
        Err(error) if run.soft_limit_hit.load(Ordering::Acquire) => Outcome::SoftLimit(error),
        Err(error) => Outcome::Failed(error),
    }
}

fn stopped(why: Stop, run: &Run) -> Outcome {
    Outcome::Stopped(why, run.hard_limit)
}
