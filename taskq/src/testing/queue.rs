//! The queue of one test.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::oneshot;

use super::current;
use super::drain::Drain;
use super::enqueued::Expected;
use super::parts::QueueParts;
use super::{Enqueued, Report};
use crate::canvas::{Call, IntoDuration};
use crate::client::Client;
use crate::definition::{Context, ContextParts, Registry, RetryPolicy};
use crate::message::TaskId;

/// The queues, results and clock of one test. Made by [`start`](super::start) or by a [`Builder`](super::Builder).
/// Cloning is cheap and shares them.
#[derive(Clone)]
pub struct TestQueue(pub(super) Arc<QueueParts>);

impl TestQueue {
    /// Returns the client, for code that takes one, and for its other methods: `client().dead()`,
    /// `client().handle(id)`.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Runs `future` with this queue as that of the calls in it, in place of the runtime's. Tasks that it spawns are
    /// not in the scope.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        current::scope(Arc::clone(&self.0), future)
    }

    /// Makes a context with this queue's client and state, as the first attempt of the task with this name has it.
    ///
    /// For calling a task's function directly: `welcome::run(&queue.context(welcome::NAME), 42)`. Progress reported to
    /// it is discarded.
    pub fn context(&self, task: &'static str) -> Context {
        let policy = self.0.registry.get(task).map_or(RetryPolicy::DEFAULT, |known| RetryPolicy::of(&known.options));
        let mut parts = ContextParts::new(TaskId::new(), task);
        parts.retries_left = policy.retries;
        parts.state = Arc::clone(&self.0.state);
        Context::new(parts)
    }

    /// Returns the time by the test's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    /// Moves the clock forward by `"10s"`, `"5m"` or a [`Duration`]. Calls that are due then can be drained.
    ///
    /// # Panics
    ///
    /// If the text is not a length of time.
    #[track_caller]
    pub fn advance(&self, by: impl IntoDuration) {
        let by = match by.into_duration() {
            Ok(by) => by,
            Err(mistake) => panic!("{mistake}"),
        };
        let by = TimeDelta::from_std(by).expect("a clock is moved by less than 292 million years");
        self.client().clock().advance(by);
    }

    /// Moves the clock to the time when the next delayed call is due, and returns by how much; `None` if there is none.
    pub fn advance_to_next(&self) -> Option<Duration> {
        let next = self.0.waiting().find_map(|waiting| waiting.due)?;
        let by = next - self.now();
        self.client().clock().advance(by);
        Some(by.to_std().unwrap_or_default())
    }

    /// Returns all waiting calls, retries included: due calls in the order in which they were sent, then delayed ones
    /// by the time when they are due. Dead tasks and messages that are no calls are not among them.
    pub fn enqueued(&self) -> Vec<Enqueued> {
        let now = self.now();
        self.0.waiting().filter_map(|waiting| Enqueued::read(&waiting, now)).collect()
    }

    /// Returns the waiting calls that are like `call`: of its task, with its arguments, and with those options that
    /// `call` names. Delays are compared as they are now: a call that was made three seconds ago with a countdown of
    /// ten is found by one of seven.
    ///
    /// # Panics
    ///
    /// If the call could not be sent.
    #[track_caller]
    pub fn find<T>(&self, call: &Call<T>) -> Vec<Enqueued> {
        let expected = Expected::of(call, &self.0.registry);
        self.enqueued().into_iter().filter(|there| expected.differences(there).is_empty()).collect()
    }

    /// Runs all due calls, one after another, oldest first, including those that they enqueue, until none is due. The
    /// clock stands still meanwhile.
    ///
    /// Async tasks are polled by this future; plain functions are called on tokio's blocking pool. Time limits are
    /// enforced, in real time.
    ///
    /// # Panics
    ///
    /// After 10,000 runs ([`Builder::runs_max`](super::Builder::runs_max)), naming the task that ran most often.
    pub async fn drain(&self) -> Report {
        let mut drain = Drain::of(&self.0);
        drain.run_what_is_due().await;
        drain.report
    }

    /// Drains like [`drain`](Self::drain), and moves the clock from one due call to the next until no call is enqueued.
    /// For tests that depend on how tasks end and not on when.
    ///
    /// # Panics
    ///
    /// As [`drain`](Self::drain) does: also where a task enqueues itself with a countdown.
    pub async fn drain_all(&self) -> Report {
        let mut drain = Drain::of(&self.0);
        loop {
            drain.run_what_is_due().await;
            if self.advance_to_next().is_none() {
                return drain.report;
            }
        }
    }

    /// Runs `future` and, as [`drain`](Self::drain) does, all calls that are due meanwhile and after it. For code that
    /// itself waits for results, which a drain after it would provide too late. Returns the output of `future`,
    /// and the report of the drain.
    ///
    /// # Panics
    ///
    /// As [`drain`](Self::drain) does.
    pub async fn drain_until<F: Future>(&self, future: F) -> (F::Output, Report) {
        let mut drain = Drain::of(&self.0);
        let (running, ended) = oneshot::channel::<Infallible>();
        let future = async {
            let output = future.await;
            drop(running);
            output
        };
        let (output, ()) = tokio::join!(future, drain.run_until(ended));
        (output, drain.report)
    }

    pub(super) fn current() -> Option<Self> {
        current::current().map(Self)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.0.registry
    }
}

impl fmt::Debug for TestQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestQueue({} enqueued, {})", self.0.waiting().count(), self.now())
    }
}
