//! Steering a worker from elsewhere.

use std::fmt;
use std::sync::{Arc, Weak};

use taskq::broker::ConsumptionControl;
use tokio::sync::watch;

use super::services::Services;
use super::supervision::Pulse;

/// Steers a running worker. Cloning is cheap.
#[derive(Clone)]
pub struct WorkerControl {
    phase: watch::Sender<Phase>,
    /// Weak, since whoever steers a worker does not keep it.
    services: Weak<Services>,
    consumption: Weak<dyn ConsumptionControl>,
}

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It takes messages.
    Working,
    /// It takes no more, and finishes what it has begun, however long that takes.
    Finishing,
    /// The same, for as long as the grace lasts.
    Draining,
    /// It stops what it has begun, and gives it back.
    Cancelling,
}

impl WorkerControl {
    pub(super) fn new(
        phase: watch::Sender<Phase>,
        services: &Arc<Services>,
        consumption: &Arc<dyn ConsumptionControl>,
    ) -> Self {
        Self { phase, services: Arc::downgrade(services), consumption: Arc::downgrade(consumption) }
    }

    /// Takes no new work, finishes what has begun, however long that takes, then ends.
    pub(crate) fn finish(&self) {
        self.advance(Phase::Finishing);
    }

    /// Takes no new work, finishes what has begun (for at most the grace), then ends.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Does not wait any longer: tells what still runs to stop, and gives it back.
    pub fn cancel(&self) {
        self.advance(Phase::Cancelling);
    }

    /// How it is doing, without waiting. `done` is 0 once the worker is gone.
    pub(crate) fn pulse(&self) -> Pulse {
        let Some(services) = self.services.upgrade() else { return Pulse::default() };
        let is_consuming = self.consumption.upgrade().is_some_and(|consumption| consumption.is_live());
        Pulse {
            done: services.counters.ended().0,
            running: u32::try_from(services.in_flight.len()).unwrap_or(u32::MAX),
            trouble: services.reach.trouble(is_consuming),
        }
    }

    fn advance(&self, to: Phase) {
        advance(&self.phase, to);
    }
}

impl fmt::Debug for WorkerControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerControl").field("phase", &*self.phase.borrow()).finish_non_exhaustive()
    }
}

/// Goes on to `to`; never back.
pub(super) fn advance(phase: &watch::Sender<Phase>, to: Phase) {
    phase.send_if_modified(|phase| {
        let forward = to > *phase;
        *phase = to.max(*phase);
        forward
    });
}

/// Completes when the worker has come this far.
pub(super) async fn reached(phases: &mut watch::Receiver<Phase>, wanted: Phase) {
    if phases.wait_for(|phase| *phase >= wanted).await.is_err() {
        // Nobody is left who could change the phase.
        std::future::pending::<()>().await;
    }
}
