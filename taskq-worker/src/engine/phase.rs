//! The phases of a worker's life, which only go forward.

use tokio::sync::watch;

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Takes messages.
    Working,
    /// Takes no more messages, and finishes what has begun, however long that takes.
    Finishing,
    /// Takes no more messages, and finishes what has begun within the grace.
    Draining,
    /// Stops what has begun, and gives it back.
    Cancelling,
}

/// Advances to phase `to`, if that lies ahead.
pub(crate) fn advance(phase: &watch::Sender<Phase>, to: Phase) {
    phase.send_if_modified(|phase| {
        let forward = to > *phase;
        *phase = to.max(*phase);
        forward
    });
}

/// Completes when the worker has reached phase `wanted`.
pub(crate) async fn reached(phases: &mut watch::Receiver<Phase>, wanted: Phase) {
    if phases.wait_for(|phase| *phase >= wanted).await.is_err() {
        // No sender is left that could change the phase.
        std::future::pending::<()>().await;
    }
}
