//! A worker: built, run, drained.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskq::attempt::{self, Stop};
use taskq::broker::{Consumption, ConsumptionControl, DEAD_QUEUE};
use taskq::client::host_name;
use taskq::task::{Registry, RegistryError};
use taskq::{Client, TaskId};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::dispatcher::Dispatcher;
use super::inflight::InFlight;
use super::prefetch::Prefetch;
use super::pulse;
use super::services::{Counters, Services};
use super::settle::{self, WAITING_MAX};

/// How long a task that was told to stop has, before it is stopped.
const CANCEL_GRACE: Duration = Duration::from_millis(500);

/// How often a drain looks whether the dispatcher has read the last message.
const DISPATCHER_LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long the last settlements have, once everything else has stopped.
const SETTLE_GRACE: Duration = Duration::from_secs(5);

/// Builds a [`Worker`].
#[must_use = "a builder does nothing until it is run"]
pub struct WorkerBuilder {
    client: Client,
    concurrency: usize,
    queues: Option<Vec<String>>,
    name: Option<String>,
    grace: Duration,
    state: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    registry: Option<Registry>,
}

/// A worker that is connected and consumes, once it is [`run`](Self::run).
///
/// ```no_run
/// # async fn example(client: taskq::Client) -> Result<(), taskq_worker::WorkerError> {
/// taskq_worker::Worker::builder(client).concurrency(8).queues(["default", "mail"]).run().await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    services: Arc<Services>,
    queues: Vec<String>,
    consumption: Consumption,
    slots: Arc<Semaphore>,
    prefetch: Prefetch,
    settling: JoinHandle<()>,
    grace: Duration,
    phase: watch::Sender<Phase>,
}

/// Steers a running worker. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct WorkerControl(watch::Sender<Phase>);

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It takes messages.
    Working,
    /// It takes no more, and finishes what it has begun.
    Draining,
    /// It stops what it has begun, and gives it back.
    Cancelling,
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct WorkerSummary {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Tasks that failed for good.
    pub failed: u64,
    /// Attempts that failed and are retried.
    pub retried: u64,
    /// Tasks that cancelled themselves.
    pub revoked: u64,
    /// Tasks that were interrupted by the shutdown and given back.
    pub interrupted: u64,
    /// Words of progress that could not be written.
    pub progress_dropped: u64,
}

/// A worker that cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The tasks of this program cannot be run as they are.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No queue to consume from.
    #[error("a worker needs at least one queue; name them with `-Q` or `.queues([…])`")]
    NoQueues,
    /// The broker's adapter ended the stream of messages by itself, because there is nothing left that it could mend: the
    /// file of an embedded broker was deleted. What was in hand has been finished, as far as that was possible.
    #[error("the stream of messages ended by itself (the log says why); start the worker again")]
    ConsumptionEnded,
    /// The broker or the result backend does not do what is needed.
    #[error(transparent)]
    Client(#[from] taskq::Error),
}

impl Worker {
    /// A worker yet to be configured, with this client's broker and results.
    pub fn builder(client: Client) -> WorkerBuilder {
        let concurrency = std::thread::available_parallelism().map_or(4, usize::from);
        WorkerBuilder {
            queues: None,
            client,
            concurrency,
            name: None,
            grace: Duration::from_secs(30),
            state: HashMap::new(),
            registry: None,
        }
    }

    /// Steers this worker from elsewhere.
    pub fn control(&self) -> WorkerControl {
        WorkerControl(self.phase.clone())
    }

    /// Its node name.
    pub fn node(&self) -> &str {
        &self.services.node
    }

    /// The queues it takes messages from.
    pub fn queues(&self) -> &[String] {
        &self.queues
    }

    /// Works until it is told to [drain](WorkerControl::drain), and says what it did.
    pub async fn run(self) -> Result<WorkerSummary, WorkerError> {
        let Self { services, consumption, slots, prefetch, settling, grace, phase, queues: _ } = self;
        let Consumption { deliveries, control } = consumption;
        let pulse = tokio::spawn(pulse::beat(Arc::clone(&services), prefetch, Arc::clone(&control)));
        let dispatcher = Dispatcher { services: Arc::clone(&services), deliveries, slots };
        let mut dispatching = tokio::spawn(dispatcher.run());

        let mut phases = phase.subscribe();
        // A worker that is up and takes nothing would be the worst of all; better it is down and somebody sees it.
        let ended_by_itself = tokio::select! {
            () = reached(&mut phases, Phase::Draining) => false,
            _ = &mut dispatching => true,
        };
        tracing::info!(running = services.in_flight.len(), "draining: no new work, finishing what has begun");
        let interrupted = drain(&services, &*control, dispatching, &mut phases, grace).await;

        // Nothing is in hand any more, so the settler has nothing left to do; what is left are acknowledgements on
        // their way.
        pulse.abort();
        settling.abort();
        control.close().await;
        if ended_by_itself { Err(WorkerError::ConsumptionEnded) } else { Ok(summary(&services.counters, interrupted)) }
    }

    /// Works until `future` is done, then [drains](WorkerControl::drain), and gives what the future gave: for a program that
    /// wants a worker beside something else, be it one call or a server. If the worker ends before, the future is dropped,
    /// and the error says why.
    pub async fn run_until<F: Future>(self, future: F) -> Result<F::Output, WorkerError> {
        let control = self.control();
        // Boxed, since whoever awaits this would carry both futures in their own, several times over.
        let until = Box::pin(async {
            let output = future.await;
            control.drain();
            Ok(output)
        });
        let (output, _summary) = tokio::try_join!(until, Box::pin(self.run()))?;
        Ok(output)
    }
}

/// Takes no more, waits for what has begun, and in the end stops it. Says how many were stopped.
async fn drain(
    services: &Services,
    control: &dyn ConsumptionControl,
    dispatching: JoinHandle<()>,
    phases: &mut watch::Receiver<Phase>,
    grace: Duration,
) -> u64 {
    control.stop();
    let finished = async {
        // It ends with the stream, once it has a slot; until then it may still start what it has read.
        while !dispatching.is_finished() {
            tokio::time::sleep(DISPATCHER_LOOK_EVERY).await;
        }
        services.in_flight.empty().await;
    };
    tokio::select! {
        () = finished => {}
        () = tokio::time::sleep(grace) => {}
        () = reached(phases, Phase::Cancelling) => {}
    }
    dispatching.abort();
    let left = services.in_flight.runs();
    for run in &left {
        run.cancel.send_replace(true);
    }
    if tokio::time::timeout(CANCEL_GRACE, services.in_flight.empty()).await.is_ok() {
        return 0;
    }
    let left = services.in_flight.runs();
    tracing::warn!(left = left.len(), "the grace is over: what still runs is stopped and given back");
    for run in &left {
        run.stop(Stop::Interrupted);
    }
    // Plain functions cannot be stopped, but their messages are given back all the same.
    if tokio::time::timeout(SETTLE_GRACE, services.in_flight.empty()).await.is_err() {
        tracing::warn!("some messages could not be given back; the broker does it when the connection closes");
    }
    left.len() as u64
}

async fn reached(phases: &mut watch::Receiver<Phase>, wanted: Phase) {
    if phases.wait_for(|phase| *phase >= wanted).await.is_err() {
        // Nobody is left who could change the phase.
        std::future::pending::<()>().await;
    }
}

fn summary(counters: &Counters, interrupted: u64) -> WorkerSummary {
    WorkerSummary {
        succeeded: counters.succeeded.load(Ordering::Relaxed),
        failed: counters.failed.load(Ordering::Relaxed),
        retried: counters.retried.load(Ordering::Relaxed),
        revoked: counters.revoked.load(Ordering::Relaxed),
        interrupted,
        progress_dropped: counters.progress_dropped.load(Ordering::Relaxed),
    }
}

impl WorkerControl {
    /// Takes no new work, finishes what has begun (for at most the grace), then ends.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Does not wait any longer: tells what still runs to stop, and gives it back.
    pub fn cancel(&self) {
        self.advance(Phase::Cancelling);
    }

    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let forward = to > *phase;
            *phase = to.max(*phase);
            forward
        });
    }
}

impl WorkerBuilder {
    /// How many attempts run at once. Default: the number of processors.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// The queues it takes messages from. Default: the client's default queue, and those that its tasks name.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// The node name: `name@host`, or only the name. Default `taskq@<host>`. Two workers should not share one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long a drain waits for what has begun. Default 30 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Something that tasks ask for by its type: `ctx.state::<T>()`.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.state.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// Runs these tasks in place of all that are linked.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Connects, declares the queues, and begins to consume. An error says what is missing.
    pub async fn build(self) -> Result<Worker, WorkerError> {
        attempt::note_panics();
        let Self { client, concurrency, queues, name, grace, mut state, registry } = self;
        let registry = registry.map_or_else(Registry::collect, Ok)?.not_empty()?;
        let queues = queues.unwrap_or_else(|| queues_of(&registry, &client.settings().default_queue));
        if queues.is_empty() {
            return Err(WorkerError::NoQueues);
        }
        let dead_queue = client.declare(DEAD_QUEUE).await?;
        let mut names = Vec::with_capacity(queues.len());
        for queue in &queues {
            names.push(client.declare(queue).await?);
        }
        state.insert(TypeId::of::<Client>(), Arc::new(client.clone()));
        let (settler, settlements) = mpsc::channel(WAITING_MAX);
        let services = Arc::new(Services {
            results: client.results().ok().cloned(),
            registry,
            in_flight: Arc::new(InFlight::default()),
            settler,
            dead_queue,
            node: node_name(name).into(),
            instance: TaskId::new().to_string(),
            state: Arc::new(state),
            unknown_task_grace: client.settings().unknown_task_grace,
            counters: Counters::default(),
            client,
        });
        let prefetch = Prefetch::new(concurrency);
        let consuming = services.client.broker().consume(&names, prefetch.current()).await;
        let consumption = consuming.map_err(taskq::Error::from)?;
        let settling = taskq::io::spawn(settle::settle_all(Arc::clone(&services), settlements));
        Ok(Worker {
            services,
            queues,
            consumption,
            slots: Arc::new(Semaphore::new(concurrency)),
            prefetch,
            settling,
            grace,
            phase: watch::Sender::new(Phase::Working),
        })
    }

    /// Builds the worker and runs it.
    pub async fn run(self) -> Result<WorkerSummary, WorkerError> {
        self.build().await?.run().await
    }

    /// Builds the worker and runs it [until `future` is done](Worker::run_until); gives what the future gave.
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

/// The default queue and the queues that tasks name: where calls of these tasks go when they say nothing else.
fn queues_of(registry: &Registry, default: &str) -> Vec<String> {
    let named: BTreeSet<&str> = registry.iter().filter_map(|task| task.options.queue).collect();
    let others = named.into_iter().filter(|queue| *queue != default);
    std::iter::once(default).chain(others).map(str::to_owned).collect()
}

/// `name@host`, Celery's form.
fn node_name(name: Option<String>) -> String {
    match name {
        Some(name) if name.contains('@') => name,
        Some(name) => format!("{name}@{}", host_name()),
        None => format!("taskq@{}", host_name()),
    }
}
