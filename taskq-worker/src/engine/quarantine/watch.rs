//! Watching quarantine queues: an ordinary worker looks whether tasks wait in them, and a quarantine process ends
//! when none do.

use std::time::Duration;

use taskq::broker::{Broker, BrokerError, ConsumptionControl};
use tokio::time::{Instant, MissedTickBehavior};

use super::super::observe::{Moment, Observers};
use super::super::supervision::Role;
use super::queues::quarantine_queue;

/// The time for which the queue of a quarantine process has to be empty before the process ends.
const EMPTY_FOR: Duration = Duration::from_secs(5);

/// The time between two looks of a quarantine process at its own work.
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(250);

/// Watches for as long as the worker's role asks for it, and returns when a quarantine process has nothing left to do.
///
/// * `queues`: the worker's queues
/// * `look_every`: the time between two looks of an ordinary worker. A worker that moves a task to quarantine says so
///   at once; the looks are for tasks that no process has come for.
/// * `ended`: the number of attempts that have ended, or `None` while something is in hand
pub(crate) async fn watch(
    role: Role,
    broker: &dyn Broker,
    queues: &[String],
    look_every: Duration,
    observers: &Observers,
    control: &dyn ConsumptionControl,
    ended: impl Fn() -> Option<u64>,
) {
    match role {
        Role::Unsupervised => std::future::pending().await,
        Role::Ordinary => look_for_suspects(broker, queues, look_every, observers).await,
        Role::Quarantine => {
            until_idle(control, ended).await;
            tracing::info!("no task waits in this quarantine queue any more");
        }
    }
}

/// Completes when the worker has been consuming for [`EMPTY_FOR`] and nothing came: then its queue is empty.
async fn until_idle(control: &dyn ConsumptionControl, ended: impl Fn() -> Option<u64>) {
    let mut looks = tokio::time::interval(IDLE_LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = Instant::now();
    let mut before = ended();
    loop {
        looks.tick().await;
        let now = ended();
        if now.is_none() || now != before || !control.is_live() {
            before = now;
            since = Instant::now();
        } else if since.elapsed() >= EMPTY_FOR {
            return;
        }
    }
}

/// Tells the observers, again and again, in which quarantine queues tasks wait.
async fn look_for_suspects(broker: &dyn Broker, queues: &[String], look_every: Duration, observers: &Observers) {
    let mut looks = tokio::time::interval(look_every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let mut waiting = Vec::new();
        for queue in queues.iter().map(|queue| quarantine_queue(queue)) {
            match broker.stats(&queue).await {
                Ok(stats) if stats.ready > 0 => waiting.push(queue),
                // No such queue: no task was ever moved there. No such name: none could be.
                Ok(_) | Err(BrokerError::NoQueue { .. } | BrokerError::QueueName { .. }) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, queue, "whether tasks wait in quarantine is not known; looking again later");
                }
            }
        }
        if !waiting.is_empty() {
            observers.observe(&Moment::QuarantineWaits { queues: &waiting });
        }
    }
}
