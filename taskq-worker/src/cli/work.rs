//! The life of a process that runs tasks: connect, run tasks, end; alone or under a supervisor.

use taskq::broker::BrokerInfo;
use taskq::definition::Registry;
use taskq::{Client, internal::io};
use taskq_beat::{Beat, BeatControl, BeatSummary};
use tokio::task::{JoinError, JoinHandle};

use super::exit::Exit;
use super::failure::Failure;
use super::host::WorkerHost;
use super::lifecycle_lines::WorkerFacts;
use super::reload::Executable;
use super::session::Session;
use super::setup::Setup;
use super::signals::Stops;
use super::worker_options::WorkerOptions;
use crate::engine::{self, WorkerControl};

/// The work of one process.
pub(super) struct Work<'a, H> {
    pub(super) session: &'a Session,
    pub(super) setup: &'a Setup,
    pub(super) registry: Registry,
    pub(super) options: &'a WorkerOptions,
    pub(super) host: H,
}

/// The end of a process's work.
pub(super) enum Ending {
    /// The process was told to stop, or could not go on.
    For(Exit),
    /// A new build is to take over.
    NewBuild(Executable),
}

/// A worker that is about to take messages.
struct StartedWorker {
    client: Client,
    worker: engine::Worker,
    beat: Option<Beat>,
    facts: WorkerFacts,
}

impl<H: WorkerHost> Work<'_, H> {
    /// Runs tasks until the process is told to stop.
    pub(super) async fn run(self) -> Result<Ending, Failure> {
        let watches = self.options.watch && self.host.watches_for_builds();
        let watched = if watches { Some(Executable::of_this_process()?) } else { None };
        let stops = Stops::listen().map_err(|error| Failure::cannot_start(&error))?;
        let mut first = stops.clone();
        self.host.listen(&stops);
        let started = tokio::select! {
            started = self.start() => Some(started?),
            // Nothing has been taken yet, so there is nothing to finish.
            () = first.asked(1) => None,
        };
        let Some(StartedWorker { client, worker, beat, facts }) = started else {
            self.host.stopped_before_ready().await;
            return Ok(Ending::For(Exit::Ok));
        };
        self.host.ready(self.session, &facts, &client, worker.control()).await?;
        let duties = Duties::begin(&worker.control(), beat, &stops, watched.clone());
        let summary = worker.run().await?;
        duties.end().await?;
        client.close().await;
        self.host.ended(self.session, &facts.node, &summary).await?;
        Ok(match watched {
            // Drained, and not by a signal: by a new build.
            Some(executable) if !first.have_been_asked() => Ending::NewBuild(executable),
            _ if summary.interrupted == 0 => Ending::For(Exit::Ok),
            _ => Ending::For(Exit::Interrupted),
        })
    }

    /// Connects, and builds the worker.
    async fn start(&self) -> Result<StartedWorker, Failure> {
        let options = self.options;
        let client = self.session.client_announced(self.host.is_first()).await?;
        let info = client.broker().info().await?;
        log_servers(&client, &info).await?;
        let mut builder = self.setup.apply(engine::Worker::builder(client.clone())).await?;
        // The command line wins over the program's setup.
        builder = builder.concurrency(options.concurrency).grace(options.grace).registry(self.registry.clone());
        builder = builder.events(options.events);
        if let Some(threads) = options.blocking_threads {
            builder = builder.blocking_threads(usize::from(threads));
        }
        if !options.queues.is_empty() {
            builder = builder.queues(options.queues.clone());
        }
        if let Some(name) = &options.node {
            builder = builder.name(name);
        }
        builder = self.host.build(builder, options.concurrency)?;
        // Before the worker takes anything: a wrong entry has to be known before work is taken.
        let beat = if options.beat {
            Some(Beat::builder(client.clone()).registry(self.registry.clone()).build().await?)
        } else {
            None
        };
        let worker = builder.build().await?;
        let facts = WorkerFacts {
            node: worker.node().to_owned(),
            broker: format!("{} {}", info.product, info.version),
            queues: worker.queues().to_vec(),
            tasks: self.registry.len(),
            concurrency: options.concurrency,
        };
        Ok(StartedWorker { client, worker, beat, facts })
    }
}

/// The tasks that run beside a worker: its beat, and those that drain it when it is asked to stop or rebuilt. All of
/// them run on the thread of the connections, which code in tasks cannot block.
struct Duties {
    beat: Option<(BeatControl, JoinHandle<Result<BeatSummary, JoinError>>)>,
    others: [JoinHandle<()>; 3],
}

impl Duties {
    fn begin(worker: &WorkerControl, beat: Option<Beat>, stops: &Stops, watched: Option<Executable>) -> Self {
        let beat = beat.map(|beat| (beat.control(), io::spawn(run_beat(beat, worker.clone()))));
        let stop_beat = beat.as_ref().map(|(control, _)| control.clone());
        let others = [
            io::spawn(steer(worker.clone(), stops.clone())),
            io::spawn(stop_beat_early(stop_beat, stops.clone())),
            io::spawn(drain_for_new_build(watched, worker.clone())),
        ];
        Self { beat, others }
    }

    /// Ends them. Fails if the beat had ended by a fault.
    async fn end(self) -> Result<(), Failure> {
        if let Some((control, running)) = self.beat {
            control.stop();
            running.await.and_then(|ended| ended).map_err(|error| beat_failed(&error))?;
        }
        for duty in self.others {
            duty.abort();
        }
        Ok(())
    }
}

/// The failure of a program whose beat has panicked.
pub(super) fn beat_failed(error: &JoinError) -> Failure {
    Failure::new(Exit::BeatFailed, format!("the beat has ended by a fault: {error}; start it again"))
}

/// Runs the beat of a worker. When it ends the worker drains: either that ends too, or the beat has ended by a fault,
/// and a worker that should be a beat must not go on without one.
async fn run_beat(beat: Beat, worker: WorkerControl) -> Result<BeatSummary, JoinError> {
    let ended = io::spawn(beat.run()).await;
    worker.drain();
    ended
}

/// Drains the worker at the first request to stop, cancels it at the second. The third is handled by the listener.
async fn steer(worker: WorkerControl, mut stops: Stops) {
    stops.asked(1).await;
    worker.drain();
    stops.asked(2).await;
    tracing::warn!("asked again: what still runs is told to stop and given back");
    worker.cancel();
}

/// Stops the beat at the first request to stop, so that another beat leads while this worker finishes its tasks.
async fn stop_beat_early(beat: Option<BeatControl>, mut stops: Stops) {
    stops.asked(1).await;
    if let Some(beat) = beat {
        beat.stop();
    }
}

/// Drains the worker when there is a new build of its program.
async fn drain_for_new_build(watched: Option<Executable>, worker: WorkerControl) {
    let Some(executable) = watched else { return };
    executable.replaced().await;
    tracing::info!("there is a new build; it takes over when what runs is finished");
    worker.drain();
}

/// Logs what the servers are and can do, and warns of problems in their configuration.
async fn log_servers(client: &Client, broker: &BrokerInfo) -> Result<(), Failure> {
    tracing::info!(version = broker.version, capabilities = broker.capabilities.join("; "), "{}", broker.product);
    if let Ok(results) = client.results() {
        let mut facts = results.info().await.map_err(taskq::Error::from)?.into_iter();
        // Taken before it is logged: arguments of a line that is not logged are not evaluated.
        let product = facts.next().unwrap_or_default();
        tracing::info!("{product}");
        for warning in facts {
            tracing::warn!("{warning}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_beat_that_panics_is_worth_another_start() {
        let fault = tokio::spawn(async { panic!("out of slots") }).await.map(|()| 0).expect_err("it panics");
        let failure = beat_failed(&fault);
        assert_eq!(failure.exit, Exit::BeatFailed);
        assert!(failure.message().is_some_and(|text| text.contains("out of slots")), "{failure:?}");
    }
}
