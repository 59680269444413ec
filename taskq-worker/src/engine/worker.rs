//! A worker: run, until it is drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taskq::Client;
use taskq::broker::Consumption;
use taskq::definition::{Registry, RegistryError};
use taskq::internal::attempt::StateMap;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::builder::WorkerBuilder;
use super::claims::{Claims, LeaseTimes};
use super::control::WorkerControl;
use super::custody::{DeliveryRenewer, InFlight, RenewalReaders, RenewerParts};
use super::dispatcher::Dispatcher;
use super::drain::drain;
use super::duplicates::Duplicates;
use super::limits;
use super::observe::{Counters, EventMaker, MomentLog, Observer, Observers};
use super::phase::{Phase, advance, reached};
use super::prefetch::Prefetch;
use super::quarantine;
use super::reachability::Reachability;
use super::run::{Bodies, Decoding, PlainThreads, Slots, Ticks};
use super::settle::{Ends, Settler, SettlerHandle, WAITING_MAX};
use super::shared::Shared;
use super::snapshot::Question;
use super::supervision::{Role, Supervision};
use super::upkeep::{Answers, ExpiryTeller, Upkeep};
use crate::remote::{EventBuffer, serve, tell_events, tell_offline};

/// The time between two looks whether the consumption has ended by itself.
const ENDED_LOOK_EVERY: Duration = Duration::from_millis(500);

/// The number of questions about a worker that may wait for their answer.
const QUESTIONS_MAX: usize = 16;

/// A worker that is connected and consumes, once it is [`run`](Self::run).
///
/// ```no_run
/// # async fn example(client: taskq::Client) -> Result<(), taskq_worker::WorkerError> {
/// taskq_worker::Worker::builder(client).concurrency(8).queues(["default", "mail"]).run().await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) ticks: Ticks,
    registry: Registry,
    queues: Vec<String>,
    consumption: Consumption,
    slots: Arc<Slots>,
    prefetch: Prefetch,
    grace: Duration,
    claims: Option<Claims>,
    renewer: Option<Arc<DeliveryRenewer>>,
    counters: Arc<Counters>,
    reachability: Arc<Reachability>,
    supervision: Option<Arc<Supervision>>,
    settling: JoinHandle<()>,
    phase: watch::Sender<Phase>,
    asking: mpsc::Sender<Question>,
    questions: mpsc::Receiver<Question>,
    events: Arc<EventBuffer>,
    /// The node in whose name events are told: that of the whole worker.
    event_node: Arc<str>,
    /// Whether this process answers remote control for its worker.
    speaks: Arc<AtomicBool>,
}

/// Everything that a worker is made of, as its builder has gathered it.
pub(super) struct WorkerParts {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) queues: Vec<String>,
    /// The slots of attempts.
    pub(super) slots: Arc<Slots>,
    /// The clock of what is looked at often.
    pub(super) ticks: Ticks,
    pub(super) grace: Duration,
    /// The worker's node name.
    pub(super) node: Arc<str>,
    /// The name of this process, which no other process ever has.
    pub(super) instance: Arc<str>,
    pub(super) state: StateMap,
    pub(super) supervision: Option<Arc<Supervision>>,
    /// The threads of plain functions.
    pub(super) threads: PlainThreads,
    /// The queue of dead messages, as the broker port takes it.
    pub(super) dead_queue: Arc<str>,
    pub(super) prefetch: Prefetch,
    pub(super) consumption: Consumption,
    /// Whether events are told from the beginning.
    pub(super) events: bool,
}

/// The counts of a worker that has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct WorkerSummary {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Tasks that failed for good.
    pub failed: u64,
    /// Attempts that failed and are retried.
    pub retried: u64,
    /// Tasks that were revoked: expired, cancelled by themselves, or revoked from outside.
    pub revoked: u64,
    /// Tasks that were interrupted by the shutdown and given back.
    pub interrupted: u64,
    /// Records of progress that could not be written.
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
    /// The worker is not awaited on a tokio runtime, on which it could run tasks.
    #[error(
        "a worker runs its tasks on the tokio runtime on which it is awaited, and there is none; use `#[tokio::main]`"
    )]
    NoRuntime,
    /// The broker's adapter ended the stream of messages by itself, because nothing is left that it could recover:
    /// the file of an embedded broker was deleted. The runs in hand have been finished, as far as that was possible.
    #[error("the stream of messages ended by itself (the log says why); start the worker again")]
    ConsumptionEnded,
    /// The broker or the result backend does not do what is needed.
    #[error(transparent)]
    Client(#[from] taskq::Error),
}

impl Worker {
    /// A worker yet to be configured, with this client's broker and results.
    pub fn builder(client: Client) -> WorkerBuilder {
        WorkerBuilder::new(client)
    }

    /// Puts the components of a worker together and starts its settler.
    pub(super) fn assemble(parts: WorkerParts) -> Self {
        let WorkerParts { client, registry, queues, slots, ticks, grace, node, instance, state, .. } = parts;
        let WorkerParts { supervision, threads, dead_queue, prefetch, consumption, events: parts_events, .. } = parts;
        let results = client.results().ok().cloned();
        let role = Role::of(supervision.as_deref());
        let clock = client.clock().clone();
        let lease_times = LeaseTimes::of(client.settings().claim_lease);
        let claims = client.kv().zip(results.as_ref()).map(|(kv, results)| {
            Claims::new(Arc::clone(kv), Arc::clone(results), &instance, lease_times, clock.clone())
        });

        let counters = Arc::<Counters>::default();
        let reachability = Arc::new(Reachability::of(client.settings()));
        let log = MomentLog { is_supervised: role != Role::Unsupervised };
        let mut observers: Vec<Arc<dyn Observer>> =
            vec![Arc::new(log), Arc::clone(&counters) as _, Arc::clone(&reachability) as _];
        observers.extend(supervision.clone().map(|supervision| supervision as Arc<dyn Observer>));
        let (events, told) = EventBuffer::new(parts_events);
        let worker_name = supervision.as_ref().and_then(|supervision| supervision.worker.as_deref());
        let event_node: Arc<str> = worker_name.map_or_else(|| Arc::clone(&node), Arc::from);
        observers.push(Arc::new(EventMaker {
            buffer: Arc::clone(&events),
            node: Arc::clone(&event_node),
            clock: clock.clone(),
        }));
        taskq::internal::io::spawn(tell_events(client.clone(), Arc::clone(&event_node), told));
        let observers = Observers::new(observers);

        let in_flight = Arc::<InFlight>::default();
        let renewer = client.broker().delivery_timeout().map(|_| {
            Arc::new(DeliveryRenewer::new(RenewerParts {
                client: client.clone(),
                in_flight: Arc::clone(&in_flight),
                claims: claims.clone(),
                role,
                instance: Arc::clone(&instance),
            }))
        });
        let stores_results = results.is_some();
        let ends = Ends { node, dead_queue, stores_results, role, clock: clock.clone() };
        let settler = Arc::new(Settler {
            client: client.clone(),
            results,
            claims: claims.clone(),
            in_flight: Arc::clone(&in_flight),
            ends: ends.clone(),
            observers: observers.clone(),
        });
        let (requesting, requests) = mpsc::channel(WAITING_MAX);
        let settling = taskq::internal::io::spawn(Arc::clone(&settler).run(requests));
        let bodies = Bodies {
            state,
            supervision: supervision.clone(),
            threads,
            client: client.clone(),
            decoding: Decoding::new(client.settings().max_received_bytes),
            ticks: ticks.clone(),
            clock: clock.clone(),
            observers: observers.clone(),
        };
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        let shared = Arc::new(Shared {
            bodies: Arc::new(bodies),
            in_flight,
            duplicates: Duplicates {
                client: client.clone(),
                claims: claims.clone(),
                role,
                observers: observers.clone(),
            },
            ends,
            settler: SettlerHandle::new(requesting, settler),
            observers,
            client,
            revocations: Arc::default(),
        });
        Self {
            shared,
            ticks,
            registry,
            queues,
            consumption,
            slots,
            prefetch,
            grace,
            claims,
            renewer,
            counters,
            reachability,
            supervision,
            settling,
            phase: watch::Sender::new(Phase::Working),
            asking,
            questions,
            events,
            event_node,
            speaks: Arc::new(AtomicBool::new(role == Role::Unsupervised)),
        }
    }

    /// Steers this worker from elsewhere, and asks how it is.
    pub fn control(&self) -> WorkerControl {
        WorkerControl::new(self.phase.clone(), self.asking.clone(), Arc::clone(&self.speaks))
    }

    /// The node name, `name@host`.
    pub fn node(&self) -> &str {
        &self.shared.ends.node
    }

    /// The queues that the worker takes messages from.
    pub fn queues(&self) -> &[String] {
        &self.queues
    }

    /// Answers remote control. A process that is supervised is one of several of a node, for which one of them answers.
    fn remote(&self) -> impl Future<Output = ()> + Send + use<> {
        let (client, node, control) = (self.shared.client.clone(), self.node().to_owned(), self.control());
        let is_alone = self.shared.ends.role == Role::Unsupervised;
        async move {
            if is_alone {
                serve(client, node, control).await;
            }
        }
    }

    /// Works until it is told to [drain](WorkerControl::drain), and returns its counts.
    pub async fn run(self) -> Result<WorkerSummary, WorkerError> {
        if Handle::try_current().is_err() {
            return Err(WorkerError::NoRuntime);
        }
        let remote = self.remote();
        let Self { shared, ticks, registry, queues, consumption, slots, prefetch, grace, claims, .. } = self;
        let Self {
            renewer,
            counters,
            reachability,
            supervision,
            settling,
            phase,
            questions,
            events,
            event_node,
            speaks,
            ..
        } = self;
        let Consumption { deliveries, control, .. } = consumption;
        limits::load_revocations(&shared.client, &shared.revocations).await;
        let upkeep = Upkeep {
            shared: Arc::clone(&shared),
            slots: Arc::clone(&slots),
            claims,
            renewer: renewer.clone(),
            counters: Arc::clone(&counters),
            reachability: Arc::clone(&reachability),
            ticks,
            prefetch,
            control: Arc::clone(&control),
            questions,
            answers: Answers {
                node: Arc::clone(&shared.ends.node),
                in_flight: Arc::clone(&shared.in_flight),
                revocations: Arc::clone(&shared.revocations),
                observers: shared.observers.clone(),
                events,
                began: tokio::time::Instant::now(),
                queues: queues.clone(),
                tasks: registry.iter().map(|task| task.name.to_owned()).collect(),
            },
        };
        let watch = watch_quarantine(&shared, queues, Arc::clone(&control), Arc::clone(&counters), phase.clone());
        let look = look_at_results(shared.client.clone(), reachability);
        let teller = ExpiryTeller {
            ends: shared.ends.clone(),
            settler: shared.settler.clone(),
            in_flight: Arc::clone(&shared.in_flight),
            observers: shared.observers.clone(),
            client: shared.client.clone(),
        };
        let beside = [
            taskq::internal::io::spawn(teller.run(Arc::clone(shared.client.broker()))),
            taskq::internal::io::spawn(upkeep.run()),
            taskq::internal::io::spawn(watch),
            taskq::internal::io::spawn(look),
            taskq::internal::io::spawn(remote),
        ];
        // Held on the runtime of the tasks: with it, they would go on renewing leases of runs that are gone.
        let beside = AbortOnDrop(beside.map(|task| task.abort_handle()));
        let reading = RenewalReaders(renewer.clone());
        let beside = tokio::spawn(async move {
            let _beside = (beside, reading);
            std::future::pending::<()>().await;
        });
        let unknown_task_grace = shared.client.settings().unknown_task_grace;
        let dispatcher =
            Dispatcher { shared: Arc::clone(&shared), registry, unknown_task_grace, deliveries, slots, runs: 0 };
        let mut dispatching = tokio::spawn(dispatcher.run());

        let mut phases = phase.subscribe();
        // From the I/O thread: where tasks block the runtime that this runs on, it must drain all the same.
        taskq::internal::io::run(async move {
            // A worker that is up and takes nothing would be the worst of all; better it is down and somebody sees it.
            let ended_by_itself = tokio::select! {
                () = reached(&mut phases, Phase::Finishing) => false,
                _ = &mut dispatching => true,
                () = end_of(&*control) => true,
            };
            if ended_by_itself {
                // Nobody has asked it to, and nobody will: the grace begins now.
                advance(&phase, Phase::Draining);
            }
            let in_flight = &shared.in_flight;
            tracing::info!(running = in_flight.len(), "draining: no new work, finishing what has begun");
            tell_if_unrecorded(supervision.as_deref());
            let interrupted = drain(in_flight, &*control, dispatching, &mut phases, grace).await;

            // Nothing is in hand any more, so the settler has nothing left to do; what is left are acknowledgements on
            // their way.
            if let Some(renewer) = &renewer {
                renewer.close().await;
            }
            beside.abort();
            if speaks.load(Ordering::Relaxed) {
                tell_offline(&shared.client, &event_node, counters.bodies().0).await;
            }
            settling.abort();
            control.close().await;
            if ended_by_itself { Err(WorkerError::ConsumptionEnded) } else { Ok(summary(&counters, interrupted)) }
        })
        .await
    }

    /// Works until `future` is done, then [drains](WorkerControl::drain), and returns the future's output: for a
    /// program that wants a worker beside something else, be it one call or a server. If the worker ends before, the
    /// future is dropped, and the error says why.
    pub async fn run_until<F: Future>(self, future: F) -> Result<F::Output, WorkerError> {
        let control = self.control();
        // Boxed, since the caller would carry both futures in their own, several times over.
        let until = Box::pin(async {
            let output = future.await;
            control.drain();
            Ok(output)
        });
        let (output, _summary) = tokio::try_join!(until, Box::pin(self.run()))?;
        Ok(output)
    }
}

/// Completes when no message will arrive any more. The dispatcher sees the end of the stream only once it has a free
/// slot, and there may never be one: with the file of an embedded broker the results are gone, and runs wait for them.
async fn end_of(control: &dyn taskq::broker::ConsumptionControl) {
    while !control.has_ended() {
        tokio::time::sleep(ENDED_LOOK_EVERY).await;
    }
}

/// Watches quarantine queues beside the worker's own, and finishes a quarantine process that has nothing left to do.
fn watch_quarantine(
    shared: &Arc<Shared>,
    queues: Vec<String>,
    control: Arc<dyn taskq::broker::ConsumptionControl>,
    counters: Arc<Counters>,
    phase: watch::Sender<Phase>,
) -> impl Future<Output = ()> + Send + use<> {
    let (role, broker) = (shared.ends.role, Arc::clone(shared.client.broker()));
    let (look_every, observers) = (shared.client.settings().claim_lease, shared.observers.clone());
    let in_flight = Arc::clone(&shared.in_flight);
    async move {
        let ended = || in_flight.is_empty().then(|| counters.bodies().0);
        quarantine::watch(role, &*broker, &queues, look_every, &observers, &*control, ended).await;
        advance(&phase, Phase::Finishing);
    }
}

/// Looks at the result backend, if there is one.
async fn look_at_results(client: Client, reachability: Arc<Reachability>) {
    if let Ok(results) = client.results() {
        reachability.look(&**results).await;
    }
}

/// Says how many bodies ran unseen by the flight recorder.
fn tell_if_unrecorded(supervision: Option<&Supervision>) {
    let missed = supervision.map_or(0, |supervision| supervision.recorder.missed());
    if missed > 0 {
        tracing::warn!(missed, "some bodies found no slot in the flight recorder; had they crashed, nobody would know");
    }
}

/// Tasks that are aborted when this is dropped.
struct AbortOnDrop([AbortHandle; 5]);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

fn summary(counters: &Counters, interrupted: u64) -> WorkerSummary {
    let counts = counters.counts();
    WorkerSummary {
        succeeded: counts.succeeded,
        failed: counts.failed,
        retried: counts.retried,
        revoked: counts.revoked,
        interrupted,
        progress_dropped: counts.progress_dropped,
    }
}
