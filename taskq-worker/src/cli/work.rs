//! The work of one process: connect, run tasks, end; for a supervisor or for itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use taskq::Client;
use taskq::broker::BrokerInfo;
use taskq::definition::Registry;
use taskq_beat::{Beat, BeatControl};

use super::announce::{self, Facts};
use super::exit::Exit;
use super::failure::Failure;
use super::reload::Executable;
use super::session::Session;
use super::signals::Stops;
use super::supervised::Child;
use super::worker::cannot_start;
use crate::engine::{self, WorkerControl, WorkerSummary};
use crate::torture;

/// What there is to do.
pub(super) struct Work<'a> {
    pub(super) session: &'a Session,
    pub(super) registry: Registry,
    pub(super) concurrency: usize,
    pub(super) queues: Vec<String>,
    /// The ledger of the `torture` that this process is for, if it is.
    pub(super) torture: Option<PathBuf>,
    pub(super) node: Option<String>,
    pub(super) grace: Duration,
    /// Whether it is a beat, too.
    pub(super) beat: bool,
    /// Whether a new build takes this process over.
    pub(super) watch: bool,
    /// This process's side of the link, if there is a supervisor.
    pub(super) child: Option<Child>,
}

/// How it ended.
pub(super) enum Ending {
    /// It was told to, or could not go on.
    For(Exit),
    /// There is a new build.
    NewBuild(Executable),
}

impl Work<'_> {
    pub(super) async fn run(self) -> Result<Ending, Failure> {
        let watched = if self.watch { Some(Executable::of_this_process()?) } else { None };
        let stops = Stops::listen().map_err(|error| cannot_start(&error))?;
        let mut first = stops.clone();
        if let Some(child) = &self.child {
            child.obey(stops.clone());
        }
        let started = tokio::select! {
            started = self.start() => Some(started?),
            // Nothing has been taken yet, so there is nothing to finish.
            () = first.asked(1) => None,
        };
        let Some((client, worker, beat, facts)) = started else {
            if let Some(child) = &self.child {
                child.ended(&WorkerSummary::default()).await;
            }
            return Ok(Ending::For(Exit::Ok));
        };
        match &self.child {
            Some(child) => child.ready(&facts, kept_in(self.session)?, &client, worker.control()).await?,
            None => announce::ready(self.session.output(), &facts, 1),
        }
        let worker_of_beat = worker.control();
        let beating = beat.map(|beat| {
            let (control, running) = (beat.control(), taskq::internal::io::spawn(beat.run()));
            let running = taskq::internal::io::spawn(async move {
                let ended = running.await;
                // With the worker, or by a fault: a worker that should be a beat and is none must not go on.
                worker_of_beat.drain();
                ended
            });
            (control, running)
        });
        let steering = taskq::internal::io::spawn(steer(worker.control(), stops.clone()));
        let stop_beat = beating.as_ref().map(|(control, _)| control.clone());
        let mut stops = stops;
        let stopping = taskq::internal::io::spawn(async move {
            stops.asked(1).await;
            // Another one leads while this worker finishes what runs.
            stop_beat.inspect(BeatControl::stop);
        });
        let (new_build, rebuilt) = (watched.clone(), worker.control());
        let watching = taskq::internal::io::spawn(async move {
            let Some(executable) = new_build else { return std::future::pending().await };
            executable.replaced().await;
            tracing::info!("there is a new build; it takes over when what runs is finished");
            rebuilt.drain();
        });
        let summary = worker.run().await?;
        if let Some((control, running)) = beating {
            control.stop();
            running.await.and_then(|ended| ended).map_err(|error| {
                Failure::new(Exit::CannotStart, format!("the beat of this worker has ended by a fault: {error}"))
            })?;
        }
        stopping.abort();
        steering.abort();
        watching.abort();
        client.close().await;
        match &self.child {
            Some(child) => child.ended(&summary).await,
            None => announce::ended(self.session.output(), &facts.node, &counts(&summary)?),
        }
        let asked_to_stop = first.have_been_asked();
        Ok(match watched {
            // Drained, and not by a signal: by a new build.
            Some(executable) if !asked_to_stop => Ending::NewBuild(executable),
            _ if summary.interrupted == 0 => Ending::For(Exit::Ok),
            _ => Ending::For(Exit::Interrupted),
        })
    }

    /// Connects and begins to take messages.
    async fn start(&self) -> Result<(Client, engine::Worker, Option<Beat>, Facts), Failure> {
        let is_first = self.child.as_ref().is_none_or(Child::is_first);
        let client = self.session.client_that_says(is_first).await?;
        let info = client.broker().info().await?;
        tell_about_servers(&client, &info).await?;
        let mut builder = engine::Worker::builder(client.clone());
        builder = match &self.torture {
            Some(ledger) => builder.state(torture::Witness::open(ledger).map_err(|error| cannot_start(&error))?),
            None => self.session.setup.apply(builder).await?,
        };
        // What the command line says wins.
        builder = builder.concurrency(self.concurrency).grace(self.grace).registry(self.registry.clone());
        if !self.queues.is_empty() {
            builder = builder.queues(self.queues.clone());
        }
        if let Some(name) = &self.node {
            builder = builder.name(name);
        }
        if let Some(child) = &self.child {
            builder = child.build(builder, self.concurrency)?;
        }
        // First of all: who has a wrong entry wants to know before work is taken.
        let beat = if self.beat {
            Some(Beat::builder(client.clone()).registry(self.registry.clone()).build().await?)
        } else {
            None
        };
        let worker = builder.build().await?;
        let facts = Facts {
            node: worker.node().to_owned(),
            broker: format!("{} {}", info.product, info.version),
            queues: worker.queues().to_vec(),
            tasks: self.registry.len(),
            concurrency: self.concurrency,
        };
        Ok((client, worker, beat, facts))
    }
}

/// What the servers are and can do, and what in their configuration somebody should know of, for the log.
async fn tell_about_servers(client: &Client, broker: &BrokerInfo) -> Result<(), Failure> {
    tracing::info!(version = broker.version, capabilities = broker.capabilities.join("; "), "{}", broker.product);
    if let Ok(results) = client.results() {
        let mut facts = results.info().await.map_err(taskq::Error::from)?.into_iter();
        // Taken before it is logged: what is not logged is not evaluated either.
        let product = facts.next().unwrap_or_default();
        tracing::info!("{product}");
        for warning in facts {
            tracing::warn!("{warning}");
        }
    }
    Ok(())
}

/// Drains with the first signal, cancels with the second. The third is the listener's own.
async fn steer(control: WorkerControl, mut stops: Stops) {
    stops.asked(1).await;
    control.drain();
    stops.asked(2).await;
    tracing::warn!("asked again: what still runs is told to stop and given back");
    control.cancel();
}

/// Where losses are kept, without passwords.
fn kept_in(session: &Session) -> Result<String, Failure> {
    let settings = session.settings()?.report();
    let kept_in = settings.into_iter().find(|(key, ..)| *key == "result_url").map(|(_, url, _)| url);
    let kept_in = kept_in.unwrap_or_default();
    // The same words elsewhere mean another file.
    Ok(match kept_in.strip_prefix("sqlite:").map(std::path::absolute) {
        Some(Ok(path)) => format!("sqlite:{}", path.display()),
        _ => kept_in,
    })
}

/// The numbers by name, as the line that ends a worker has them.
fn counts(summary: &WorkerSummary) -> Result<BTreeMap<String, u64>, Failure> {
    let named = serde_json::to_value(summary).map_err(std::io::Error::from)?;
    let counts = named.as_object().into_iter().flatten();
    Ok(counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect())
}
