//! The loop of the upkeep.

use std::sync::Arc;
use std::time::Duration;

use taskq::broker::ConsumptionControl;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::claims::Claims;
use super::super::custody::DeliveryRenewer;
use super::super::execution::finish_stopped;
use super::super::observe::Counters;
use super::super::prefetch::{Prefetch, WAIT_MAX};
use super::super::reachability::Reachability;
use super::super::run::{Slots, Ticks};
use super::super::shared::Shared;
use super::super::snapshot::Question;
use super::answers::{Answers, WorkerFigures};
use super::fetching::Fetching;
use super::{leases, limits, progress};

/// The time between two ticks: the grain of limits and progress.
const TICK_EVERY: Duration = Duration::from_millis(100);

/// The time after which a run that was told to stop and has not is ended from here. With two ticks it makes half a
/// second.
const LISTENS_WITHIN: Duration = Duration::from_millis(300);

/// The upkeep of one worker.
pub(crate) struct Upkeep {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) claims: Option<Claims>,
    pub(crate) renewer: Option<Arc<DeliveryRenewer>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) reachability: Arc<Reachability>,
    pub(crate) ticks: Ticks,
    pub(crate) prefetch: Prefetch,
    pub(crate) control: Arc<dyn ConsumptionControl>,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) answers: Answers,
}

impl Upkeep {
    /// Looks after the worker until it is dropped.
    pub(crate) async fn run(self) {
        let Self { shared, slots, claims, renewer, counters, reachability, ticks, prefetch, control, .. } = self;
        let Self { mut questions, answers, .. } = self;
        let mut fetching = Fetching::new(prefetch, control, counters.bodies());
        let mut times = tokio::time::interval(TICK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = times.tick() => {}
                Some(question) = questions.recv() => {
                    let (concurrency, prefetch) = (fetching.concurrency(), fetching.prefetch());
                    let (done, problem) = (counters.bodies().0, reachability.problem(fetching.is_live()));
                    answers.give(question, WorkerFigures { concurrency, prefetch, done, problem });
                    continue;
                }
            }
            let tick = ticks.tick();
            let in_flight = &shared.in_flight;
            let mut long = 0;
            for run in in_flight.runs().iter().filter(|run| !run.is_concluded()) {
                long += usize::from(run.running_for().is_some_and(|age| age >= WAIT_MAX));
                if limits::hold(in_flight, &shared.observers, run, tick) {
                    progress::note(&shared.ends, &shared.settler, run);
                }
            }
            for (run, why) in in_flight.overdue(LISTENS_WITHIN) {
                limits::tell_if_stuck(&shared.observers, &run, why);
                if run.conclude() {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move { finish_stopped(&shared, run, why).await });
                }
            }
            if let Some(claims) = &claims {
                if renewed.elapsed() >= claims.renew_every() {
                    renewed = Instant::now();
                    leases::renew(claims, in_flight);
                }
                leases::claim_lost(claims, in_flight);
            }
            if let Some(renewer) = &renewer {
                fetching.renew_deliveries(renewer, || in_flight.renewed());
            }
            // A quarantine process holds the task that it runs, and nothing that would come to harm with it.
            if !shared.ends.role.is_quarantine() {
                fetching.follow(counters.bodies(), long, in_flight.renewed());
                fetching.give_way(slots.busy_for(tick));
            }
        }
    }
}
