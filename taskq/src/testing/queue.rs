//! The queue of one test.

use std::convert::Infallible;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{oneshot, watch};

use super::current::{self, Seat};
use super::drain::Drain;
use super::enqueued::Expected;
use super::{Enqueued, Report};
use crate::attempt::StateMap;
use crate::broker::DEAD_QUEUE;
use crate::broker::memory::MemoryBroker;
use crate::canvas::{Call, IntoDuration};
use crate::client::Client;
use crate::definition::{Context, ContextParts, Registry, RetryPolicy};
use crate::message::{Headers, TaskId};

/// The queues, results and time of one test. Made by [`start`](super::start) or by a [`Builder`](super::Builder). Cloning is cheap and gives
/// the same one.
#[derive(Clone)]
pub struct TestQueue(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) broker: Arc<MemoryBroker>,
    pub(super) registry: Registry,
    pub(super) state: StateMap,
    pub(super) runs_max: usize,
    pub(super) begun_at: &'static Location<'static>,
    pub(super) seat: OnceLock<Seat>,
}

impl TestQueue {
    /// The client, for code that is given one, and for everything else that a client can do: `client().dead()`,
    /// `client().handle(id)`.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Runs `future` with this queue as that of the calls in it, whatever the runtime's is. Tasks that it spawns are not in
    /// the scope.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        current::scope(Arc::clone(&self.0), future)
    }

    /// A context with this queue's client and state, as the first attempt of the task of this name has it. For calling a
    /// task's function itself: `welcome::run(&queue.context(welcome::NAME), 42)`. Nobody reads what it reports.
    pub fn context(&self, task: &'static str) -> Context {
        let policy = self.0.registry.get(task).map_or(RetryPolicy::DEFAULT, |known| RetryPolicy::of(&known.options));
        let id = TaskId::new();
        Context::new(ContextParts {
            root_id: id.clone(),
            id,
            task,
            attempt: 0,
            retries_left: policy.retries,
            parent_id: None,
            headers: Headers::new(),
            deadline: None,
            cancelled: watch::channel(false).1,
            progress: Arc::default(),
            state: Arc::clone(&self.0.state),
        })
    }

    /// The time now.
    pub fn now(&self) -> DateTime<Utc> {
        self.client().clock().now()
    }

    /// Moves the clock forward by `"10s"`, `"5m"` or a [`Duration`]. What is due then can be drained.
    ///
    /// # Panics
    ///
    /// If the text is not a length of time.
    #[track_caller]
    pub fn advance(&self, by: impl IntoDuration) {
        let by = match by.into_time() {
            Ok(by) => by,
            Err(mistake) => panic!("{mistake}"),
        };
        let by = TimeDelta::from_std(by).expect("a clock is moved by less than 292 million years");
        self.client().clock().advance(by);
    }

    /// Moves the clock to the time when the next call that is held back is due, and says by how much; `None` if none is.
    pub fn advance_to_next(&self) -> Option<Duration> {
        let next = self.0.waiting().find_map(|waiting| waiting.due)?;
        let by = next - self.now();
        self.client().clock().advance(by);
        Some(by.to_std().unwrap_or_default())
    }

    /// All calls that wait, retries included: those that are due, in the order in which they came, then those that are not,
    /// by their time. Dead tasks are not among them, nor are messages that are no calls.
    pub fn enqueued(&self) -> Vec<Enqueued> {
        self.0.enqueued()
    }

    /// Those of them that are like `call`: of the same task with the same arguments, and with those options that `call`
    /// names. Delays are compared as they are now: a call that was made three seconds ago with a countdown of ten is
    /// found by one of seven.
    ///
    /// # Panics
    ///
    /// If the call could not be sent.
    #[track_caller]
    pub fn find<T>(&self, call: &Call<T>) -> Vec<Enqueued> {
        let expected = Expected::of(call, &self.0);
        self.enqueued().into_iter().filter(|there| expected.differences(there).is_empty()).collect()
    }

    /// Runs everything that is due, here and one after another, oldest first, with everything that it enqueues, until nothing
    /// is due. The clock stands still meanwhile.
    ///
    /// Async tasks are polled by this future; plain functions are called on tokio's blocking pool. Time limits are kept, by
    /// time as it passes.
    ///
    /// # Panics
    ///
    /// After 10,000 runs ([`Builder::runs_max`](super::Builder::runs_max)), naming the task that ran most often.
    pub async fn drain(&self) -> Report {
        let mut drain = Drain::of(&self.0);
        drain.run_what_is_due().await;
        drain.report
    }

    /// The same, and moves the clock from one due call to the next until nothing is enqueued at all. For tests that care
    /// about how it ends and not about when.
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

    /// Runs `future`, and everything that is due meanwhile and after it, as [`drain`](Self::drain) does. For code that waits
    /// for results itself: it would wait for a drain that comes only after it. Gives what `future` gives, and what was run.
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

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    fn waiting(&self) -> impl Iterator<Item = crate::broker::memory::Waiting> {
        self.broker.waiting().into_iter().filter(|waiting| &*waiting.queue != DEAD_QUEUE)
    }

    pub(super) fn enqueued(&self) -> Vec<Enqueued> {
        let now = self.client.clock().now();
        self.waiting().filter_map(|waiting| Enqueued::read(&waiting, now)).collect()
    }
}

impl fmt::Debug for TestQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestQueue({} enqueued, {})", self.0.waiting().count(), self.now())
    }
}
