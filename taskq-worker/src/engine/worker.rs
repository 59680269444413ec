//! A worker: run, until it is drained.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskq::Client;
use taskq::broker::Consumption;
use taskq::definition::RegistryError;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::builder::WorkerBuilder;
use super::control::{Phase, WorkerControl, advance, reached};
use super::dispatcher::Dispatcher;
use super::drain::drain;
use super::prefetch::Prefetch;
use super::services::{Counters, Services};
use super::{alone, held, pulse, reach};

/// A worker that is connected and consumes, once it is [`run`](Self::run).
///
/// ```no_run
/// # async fn example(client: taskq::Client) -> Result<(), taskq_worker::WorkerError> {
/// taskq_worker::Worker::builder(client).concurrency(8).queues(["default", "mail"]).run().await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    pub(super) services: Arc<Services>,
    pub(super) queues: Vec<String>,
    pub(super) consumption: Consumption,
    pub(super) slots: Arc<Semaphore>,
    pub(super) prefetch: Prefetch,
    pub(super) settling: JoinHandle<()>,
    pub(super) grace: Duration,
    pub(super) phase: watch::Sender<Phase>,
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
        WorkerBuilder::new(client)
    }

    /// Steers this worker from elsewhere.
    pub fn control(&self) -> WorkerControl {
        WorkerControl::new(self.phase.clone(), &self.services, &self.consumption.control)
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
        let Self { services, consumption, slots, prefetch, settling, grace, phase, queues } = self;
        let Consumption { deliveries, control } = consumption;
        let watch = alone::watch(Arc::clone(&services), queues, Arc::clone(&control), phase.clone());
        let beside = [
            taskq::internal::io::spawn(pulse::beat(Arc::clone(&services), prefetch, Arc::clone(&control))),
            taskq::internal::io::spawn(watch),
            taskq::internal::io::spawn(reach::look(Arc::clone(&services))),
        ];
        // Held on the runtime of the tasks: with it, they would go on renewing leases of runs that are gone.
        let beside = AbortOnDrop(beside.map(|task| task.abort_handle()));
        let reading = held::Reading(Arc::clone(&services));
        let beside = tokio::spawn(async move {
            let _beside = (beside, reading);
            std::future::pending::<()>().await;
        });
        let dispatcher = Dispatcher { services: Arc::clone(&services), deliveries, slots };
        let mut dispatching = tokio::spawn(dispatcher.run());

        let mut phases = phase.subscribe();
        // From the I/O thread: where tasks block the runtime that this runs on, it must drain all the same.
        taskq::internal::io::run(async move {
            // A worker that is up and takes nothing would be the worst of all; better it is down and somebody sees it.
            let ended_by_itself = tokio::select! {
                () = reached(&mut phases, Phase::Finishing) => false,
                _ = &mut dispatching => true,
            };
            if ended_by_itself {
                // Nobody has asked it to, and nobody will: the grace begins now.
                advance(&phase, Phase::Draining);
            }
            tracing::info!(running = services.in_flight.len(), "draining: no new work, finishing what has begun");
            let interrupted = drain(&services, &*control, dispatching, &mut phases, grace).await;

            // Nothing is in hand any more, so the settler has nothing left to do; what is left are acknowledgements on
            // their way.
            if let Some(holding) = &services.holding {
                holding.close(&services).await;
            }
            beside.abort();
            settling.abort();
            control.close().await;
            if ended_by_itself {
                Err(WorkerError::ConsumptionEnded)
            } else {
                Ok(summary(&services.counters, interrupted))
            }
        })
        .await
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

/// Tasks that end with this.
struct AbortOnDrop([AbortHandle; 3]);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
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
