//! Tests of tasks: what was enqueued, and what comes of it, without a server, a worker or a sleep.
//!
//! For dev-dependencies, with the feature `testing`.
//!
//! ```standalone_crate
//! use taskq::{task, testing};
//!
//! #[task(queue = "mail", retries = 1)]
//! async fn welcome(ctx: &taskq::Context, user: u64) -> Result<String, String> {
//!     if ctx.attempt() == 0 { Err("the mail server is away".into()) } else { Ok(format!("welcome, {user}")) }
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
//! [`start`] makes a [`TestQueue`]: a client with a broker and a result backend in memory that nobody else has, and a clock
//! that stands until it is moved. Until it is dropped, calls that name no client go there, from everywhere on the tokio
//! runtime that it was started on. Each `#[tokio::test]` has a runtime of its own, of either flavour, so tests that run side
//! by side do not see each other's calls, and calls from spawned tasks and blocking threads are found, too.
//!
//! # What goes wrong aloud
//!
//! * A call from outside (another runtime, a thread of its own without one, or after the queue was dropped) does not connect
//!   to a server: it is [`Error::OutsideTest`](crate::Error::OutsideTest), from the first `start` in a process on. A client that
//!   was installed, or that the call names, is used.
//! * A second `start` on a runtime whose queue is still there panics. Where several tests share a runtime, use
//!   [`Builder::detached`] and [`TestQueue::scope`].
//! * `drain` panics after 10,000 runs, and names the task that ran most often.
//! * `Handle::get` waits for five seconds (not an hour), since nothing runs unless it is drained.
//!
//! # What goes by the clock, and what does not
//!
//! By the test's clock go: countdowns and etas, expiry, the delays of retries and snoozes, the times in records, and the
//! lifetimes of unique keys and results. By time as it passes go: sleeps and timeouts in the tasks and in the tests
//! themselves, time limits, `Handle::get`, and whatever asks `Utc::now()` or `Instant::now()`. For those,
//! `#[tokio::test(start_paused = true)]` helps.
//!
//! # What is the same as in a worker, and what is not
//!
//! What a message means, how an attempt begins, what its end means, what is recorded and what follows is the same code (see
//! [`attempt`](crate::attempt)). Panics are caught, plain functions run on tokio's blocking pool, limits are kept, dead tasks
//! are in [`Client::dead`](crate::Client::dead). Not there are: several tasks at once (a task that waits for another one's result
//! waits in vain), claims (there is nobody else who could have the message), and states of tasks that are still running.

mod builder;
mod check;
mod current;
mod drain;
mod enqueued;
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

/// A queue for this test: calls that name no client go there, from everywhere on this tokio runtime, until it is dropped.
///
/// # Panics
///
/// If there is no runtime here, if there is a queue on it already, or if two linked tasks have the same name.
#[track_caller]
pub fn start() -> TestQueue {
    builder().start()
}

/// The same, with state for the tasks, settings, a registry, or a start time.
pub fn builder() -> Builder {
    Builder::default()
}
