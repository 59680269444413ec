//! Building a worker.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use taskq::broker::{DEAD_QUEUE, QueueSpec};
use taskq::definition::Registry;
use taskq::internal::attempt::{self, FreeSlots};
use taskq::internal::host_name;
use taskq::{Client, TaskId};
use tokio::runtime::Handle;

use super::prefetch::Prefetch;
use super::run::{PlainThreads, Slots, Ticks};
use super::supervision::{Role, Supervision};
use super::worker::{Worker, WorkerError, WorkerParts, WorkerSummary};
use crate::recorder;
use crate::recorder::flight::process_name;

/// The largest number of threads for plain functions, unless the builder is told otherwise.
const BLOCKING_THREADS_MAX: usize = 512;

/// Builds a [`Worker`].
#[must_use = "a builder does nothing until it is run"]
pub struct WorkerBuilder {
    client: Client,
    concurrency: usize,
    blocking_threads: usize,
    queues: Option<Vec<String>>,
    name: Option<String>,
    grace: Duration,
    state: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    registry: Option<Registry>,
    supervision: Option<Supervision>,
    events: bool,
}

impl WorkerBuilder {
    pub(super) fn new(client: Client) -> Self {
        Self {
            queues: None,
            client,
            concurrency: std::thread::available_parallelism().map_or(4, usize::from),
            blocking_threads: BLOCKING_THREADS_MAX,
            name: None,
            grace: Duration::from_secs(30),
            state: HashMap::new(),
            registry: None,
            supervision: None,
            events: false,
        }
    }

    /// Sets the number of attempts that run at once. Default: the number of processors.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sets the number of threads for tasks that are plain functions; more of them than that wait for each other.
    /// Default: one per running task, up to 512. What asynchronous code does on other threads is not limited by it.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.blocking_threads = threads.max(1);
        self
    }

    /// Sets the queues to take messages from. Default: the client's default queue, and those that the tasks name. Names
    /// that begin with `taskq.` belong to taskq and are refused.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the node name: `name@host`, or only the name. Default `taskq@<host>`. Two workers should not share one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how long a drain waits for the runs in hand. Default 30 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds a value that tasks ask for by its type: `ctx.state::<T>()`.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.state.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// Sets the tasks to run, in place of all that are linked.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Tells events of tasks from the beginning. Default: only once Flower, `celery events` or `taskq events` have
    /// asked for them by remote control.
    pub fn events(mut self, events: bool) -> Self {
        self.events = events;
        self
    }

    /// Sets the supervision of this process. From here on, crashes mark their culprits.
    pub(crate) fn supervised(mut self, supervision: Supervision) -> Self {
        recorder::mark_culprits();
        self.supervision = Some(supervision);
        self
    }

    /// Connects, declares the queues, and begins to consume. An error says what is missing.
    pub async fn build(self) -> Result<Worker, WorkerError> {
        if Handle::try_current().is_err() {
            return Err(WorkerError::NoRuntime);
        }
        attempt::note_panics();
        let Self {
            client,
            concurrency,
            blocking_threads,
            queues,
            name,
            grace,
            mut state,
            registry,
            supervision,
            events,
        } = self;
        let is_quarantine = Role::of(supervision.as_ref()).is_quarantine();
        let concurrency = if is_quarantine { 1 } else { concurrency };
        let settings = client.settings();
        settings.require_signing().map_err(taskq::Error::from)?;
        let registry = registry.map_or_else(Registry::collect, Ok)?.require_tasks()?.only(&settings.tasks)?;
        let mut queues = queues.unwrap_or_else(|| queues_of(&registry, &client.settings().default_queue));
        if is_quarantine {
            // The broker hands out one message of each queue. Of one queue it is the one that runs, and its returns are
            // deaths; of a second queue it would be a bystander. Other processes come for the other queues later.
            queues.truncate(1);
        }
        if queues.is_empty() {
            return Err(WorkerError::NoQueues);
        }
        for queue in &queues {
            QueueSpec::check_named(queue).map_err(taskq::Error::from)?;
        }
        let threads = PlainThreads::new(blocking_threads).map_err(taskq::Error::System)?;
        let dead_queue = client.declare(DEAD_QUEUE).await?;
        let mut names = Vec::with_capacity(queues.len());
        for queue in &queues {
            names.push(client.declare(queue).await?);
        }
        state.insert(TypeId::of::<Client>(), Arc::new(client.clone()));
        let ticks = Ticks::default();
        let slots = Slots::new(concurrency, ticks.clone());
        let of_tasks = Arc::clone(&slots);
        state.insert(TypeId::of::<FreeSlots>(), Arc::new(FreeSlots::new(move || !of_tasks.are_busy())));
        let prefetch = Prefetch::new(concurrency);
        let consuming = client.broker().consume(&names, prefetch.told()).await;
        Ok(Worker::assemble(WorkerParts {
            registry,
            queues,
            slots,
            ticks,
            grace,
            node: node_name(name).into(),
            instance: instance(supervision.as_ref()).into(),
            state: Arc::new(state),
            supervision: supervision.map(Arc::new),
            threads,
            dead_queue,
            prefetch,
            consumption: consuming.map_err(taskq::Error::from)?,
            events,
            client,
        }))
    }

    /// Builds the worker and runs it.
    pub async fn run(self) -> Result<WorkerSummary, WorkerError> {
        self.build().await?.run().await
    }

    /// Builds the worker and runs it [until `future` is done](Worker::run_until); returns the future's output.
    ///
    /// ```
    /// use taskq::{Client, task};
    /// use taskq_worker::Worker;
    ///
    /// #[task]
    /// async fn add(x: i64, y: i64) -> i64 {
    ///     x + y
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder().broker("memory:").results("memory:").build().await?.install();
    /// let sum = Worker::builder(client).run_until(add(2, 3).get()).await??;
    /// assert_eq!(sum, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_until<F: Future>(self, future: F) -> Result<F::Output, WorkerError> {
        let future = Box::pin(future);
        Box::pin(self.build()).await?.run_until(future).await
    }
}

/// The default queue and the queues that tasks name: the queues of calls that name none.
fn queues_of(registry: &Registry, default: &str) -> Vec<String> {
    let named: BTreeSet<&str> = registry.iter().filter_map(|task| task.options.queue).collect();
    let others = named.into_iter().filter(|queue| *queue != default);
    std::iter::once(default).chain(others).map(str::to_owned).collect()
}

/// The name of this process in its claims: where it is supervised, the name by which its death would be reported, so
/// that its leases end with it.
fn instance(supervision: Option<&Supervision>) -> String {
    match supervision {
        Some(Supervision { recorder, .. }) => process_name(&host_name(), std::process::id(), recorder.began_ms()),
        None => TaskId::new().to_string(),
    }
}

/// The node name in Celery's form, `name@host`.
fn node_name(name: Option<String>) -> String {
    match name {
        Some(name) if name.contains('@') => name,
        Some(name) => format!("{name}@{}", host_name()),
        None => format!("taskq@{}", host_name()),
    }
}
