//! Queues for tasks that run alone: a worker beside them looks whether any wait, and a worker for them ends when none do.

use std::sync::Arc;
use std::time::Duration;

use taskq::broker::{BrokerError, ConsumptionControl};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::control::{Phase, advance};
use super::copies::alone_queue;
use super::services::Services;
use super::supervision::{Supervision, WorkerEvent};

/// How often a worker looks whether tasks wait to be run alone. Whoever puts one aside says so at once; this is for those
/// that nobody has come for.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How long the queues of a worker for suspects have to be empty before it ends.
const EMPTY_FOR: Duration = Duration::from_secs(5);

/// How often such a worker looks whether it has anything in hand.
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(250);

/// Does what a supervised worker does about suspects beside running them.
pub(super) async fn watch(
    services: Arc<Services>,
    queues: Vec<String>,
    control: Arc<dyn ConsumptionControl>,
    phase: watch::Sender<Phase>,
) {
    let Some(supervision) = &services.supervision else { return };
    if supervision.alone {
        idle(&services, &*control).await;
        tracing::info!("no task waits to be run alone any more");
        advance(&phase, Phase::Finishing);
    } else {
        look_for_suspects(&services, supervision, &queues).await;
    }
}

/// Completes when the worker has been consuming for [`EMPTY_FOR`] and nothing came: then its queues are empty.
async fn idle(services: &Services, control: &dyn ConsumptionControl) {
    let mut looks = tokio::time::interval(IDLE_LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = Instant::now();
    let mut done = services.counters.ended().0;
    loop {
        looks.tick().await;
        let now_done = services.counters.ended().0;
        if !services.in_flight.is_empty() || now_done != done || !control.is_live() {
            done = now_done;
            since = Instant::now();
        } else if since.elapsed() >= EMPTY_FOR {
            return;
        }
    }
}

async fn look_for_suspects(services: &Services, supervision: &Supervision, queues: &[String]) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let mut waiting = Vec::new();
        for queue in queues.iter().map(|queue| alone_queue(queue)) {
            match services.client.broker().stats(&queue).await {
                Ok(stats) if stats.ready > 0 => waiting.push(queue),
                // No such queue: nothing was ever put aside. No such name: nothing could be.
                Ok(_) | Err(BrokerError::NoQueue { .. } | BrokerError::QueueName { .. }) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(
                        error,
                        queue,
                        "whether tasks wait to be run alone is not known; looking again later"
                    );
                }
            }
        }
        if !waiting.is_empty() {
            supervision.tell(WorkerEvent::AloneWanted { queues: waiting });
        }
    }
}
