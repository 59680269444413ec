//! Tests of tasks: assert what was enqueued and run it, without a server, a worker or a sleep.
//!
//! For dev-dependencies, with the feature `testing`.
//!
//! ```standalone_crate
//! use taskq::{task, testing};
//!
//! #[task(queue = "mail", retries = 1)]
//! async fn welcome(ctx: &taskq::Context, user: u64) -> Result<String, String> {
//!     if ctx.retries() == 0 { Err("the mail server is away".into()) } else { Ok(format!("welcome, {user}")) }
//! }
//!
//! /// The code that is tested. It names no client.
//! async fn signup(user: u64) -> Result<taskq::Handle<String>, taskq::Error> {
//!     welcome(user).countdown("10s").await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let queue = testing::start();
//! let handle = signup(42).await.unwrap();
//! testing::assert_enqueued!(welcome(42).queue("mail").countdown("10s"));
//!
//! assert!(queue.drain().await.runs.is_empty()); // it is not due yet
//! queue.advance("10s");
//! let report = queue.drain().await; // runs it, here
//! assert!(matches!(report.runs[0].end, testing::End::Retried { .. }), "{report}");
//!
//! queue.advance("1s"); // the retry is due by then
//! queue.drain().await.assert_ok();
//! assert_eq!(handle.get().await.unwrap(), "welcome, 42");
//! # }
//! ```
//!
//! [`start`] makes a [`TestQueue`]: a client with a broker and a result backend of its own in memory, and a clock that
//! stands until it is moved. Until it is dropped, calls that name no client go there, from everywhere on the tokio
//! runtime that it was started on. Each `#[tokio::test]` has a runtime of its own, of either flavour, so tests that run
//! side by side do not see each other's calls, and calls from spawned tasks and blocking threads are found, too.
//!
//! # Mistakes that are reported
//!
//! * A call from outside (another runtime, a thread of its own without one, or after the queue was dropped) does not
//!   connect to a server: it is [`Error::OutsideTest`](crate::Error::OutsideTest), from the first `start` in a process
//!   on. A client that was installed, or that the call names, is used.
//! * A second `start` on a runtime whose queue is still there panics. Where several tests share a runtime, use
//!   [`Builder::detached`] and [`TestQueue::scope`].
//! * `drain` panics after 10,000 runs, and names the task that ran most often.
//! * `Handle::get` waits for five seconds (not an hour), since nothing runs unless it is drained.
//!
//! # The clock
//!
//! The following use the test's clock: countdowns and etas, expiry, the delays of retries and snoozes, the times in
//! records, and the lifetimes of unique keys and results. Real time governs sleeps and timeouts in the tasks and in the
//! tests themselves, time limits, `Handle::get`, and code that asks `Utc::now()` or `Instant::now()`. For those,
//! `#[tokio::test(start_paused = true)]` helps.
//!
//! # Differences from a worker
//!
//! The worker's own code ([`attempt`](crate::attempt)) decides what a message means, how an attempt begins, what its
//! end means, what is recorded and what follows. Panics are caught, plain functions run on tokio's blocking pool,
//! limits are enforced, dead tasks are in [`Client::dead`](crate::Client::dead). Not supported are: several tasks at
//! once (a task that waits for another one's result waits in vain), claims (no other process could have the message),
//! and states of tasks that are still running.

mod builder;
mod check;
mod current;
mod drain;
mod enqueued;
mod parts;
mod queue;
mod report;

pub use builder::Builder;
pub use enqueued::Enqueued;
pub use queue::TestQueue;
pub use report::{End, Report, Run};

#[doc(hidden)]
pub use check::{check_enqueued, check_not_enqueued};
#[doc(inline)]
pub use {
    crate::__taskq_assert_enqueued as assert_enqueued, crate::__taskq_assert_not_enqueued as assert_not_enqueued,
};

/// Starts a queue for this test: it receives all calls without a client that are made on this tokio runtime, until it
/// is dropped.
///
/// # Panics
///
/// If there is no runtime here, if there is a queue on it already, or if two linked tasks have equal names.
#[track_caller]
pub fn start() -> TestQueue {
    builder().start()
}

/// Returns a builder of a queue with state for the tasks, settings, a registry, or a start time.
pub fn builder() -> Builder {
    Builder::default()
}
