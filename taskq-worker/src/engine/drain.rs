//! The end of a worker's work.

use std::time::Duration;

use taskq::broker::ConsumptionControl;
use taskq::internal::attempt::Stop;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::custody::InFlight;
use super::phase::{Phase, reached};

/// The time for which a task that was asked to stop may go on before it is stopped.
const CANCEL_GRACE: Duration = Duration::from_millis(500);

/// The time between two looks of a drain whether the dispatcher has read the last message.
const DISPATCHER_LOOK_EVERY: Duration = Duration::from_millis(5);

/// The time for the last settlements, once everything else has stopped.
const SETTLE_GRACE: Duration = Duration::from_secs(5);

/// Takes no more messages, waits for the runs in hand, and in the end stops them. Returns how many were stopped.
pub(super) async fn drain(
    in_flight: &InFlight,
    control: &dyn ConsumptionControl,
    dispatching: JoinHandle<()>,
    phases: &mut watch::Receiver<Phase>,
    grace: Duration,
) -> u64 {
    control.stop();
    let finished = async {
        // The dispatcher ends with the stream, once it has a slot; until then it may still start what it has read.
        while !dispatching.is_finished() {
            tokio::time::sleep(DISPATCHER_LOOK_EVERY).await;
        }
        in_flight.empty().await;
    };
    let mut cancelling = phases.clone();
    let over = async {
        reached(phases, Phase::Draining).await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = finished => {}
        () = over => {}
        () = reached(&mut cancelling, Phase::Cancelling) => {}
    }
    dispatching.abort();
    let left = in_flight.runs();
    for run in &left {
        run.cancel.send_replace(true);
    }
    if tokio::time::timeout(CANCEL_GRACE, in_flight.empty()).await.is_ok() {
        return 0;
    }
    let left = in_flight.runs();
    tracing::warn!(left = left.len(), "the grace is over: what still runs is stopped and given back");
    for run in &left {
        in_flight.stop(run, Stop::Interrupted);
    }
    // Plain functions cannot be stopped, nor can code that never awaits; their messages are given back all the same.
    if tokio::time::timeout(SETTLE_GRACE, in_flight.empty()).await.is_err() {
        tracing::warn!("some messages could not be given back; the broker does it when the connection closes");
    }
    left.len() as u64
}
