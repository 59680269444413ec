//! `worker`: run this program's tasks.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use taskq::Client;
use taskq::broker::BrokerInfo;
use taskq::task::Registry;
use tokio::runtime::Runtime;

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::reload::Executable;
use super::session::Session;
use super::signals::Stops;
use super::values;
use crate::engine::{self, WorkerControl, WorkerSummary};
use crate::telemetry::{self, Format, Level};

/// Run this program's tasks, until it is told to stop
///
/// The first TERM or INT (Ctrl-C) drains: no new work, what has begun is finished, exit code 0. When --grace is over,
/// or with a second signal, running tasks are told to stop and given back to their queues. The third, or QUIT, ends
/// at once; what was running then comes back by itself and runs again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  my-app worker
  taskq -A path/to/my-app worker -c 16 -Q default,mail -n mailer --grace 2m --log-format json")]
pub(super) struct Worker {
    /// How many tasks run at once [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// The queues it takes tasks from, separated by commas [default: the default queue and those its tasks name]
    #[arg(short = 'Q', long, value_name = "NAMES", value_delimiter = ',')]
    queues: Vec<String>,
    /// Its node name, NAME or NAME@HOST; no two workers should share one [default: taskq@HOST]
    #[arg(short = 'n', long, value_name = "NAME")]
    hostname: Option<String>,
    /// How long running tasks may go on once it drains
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "30s")]
    grace: Duration,
    /// How many threads there are for tasks that are plain functions [default: as many as run at once, up to 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    blocking_threads: Option<u16>,
    /// The least important lines of the log, which goes to stderr; `RUST_LOG` wins
    #[arg(short, long, value_name = "LEVEL", default_value = "info")]
    loglevel: Level,
    /// How the log is written: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// Start anew when this program is built anew: what runs is finished, then the new build takes over
    #[arg(long)]
    watch: bool,
}

/// What a worker is, said when it begins to consume.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    node: &'a str,
    broker: String,
    queues: &'a [String],
    tasks: usize,
    concurrency: usize,
    pid: u32,
}

/// What a worker did, said when it has ended.
#[derive(Serialize)]
struct Ended<'a> {
    event: &'static str,
    node: &'a str,
    #[serde(flatten)]
    summary: WorkerSummary,
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

/// How a worker's work ended.
enum Ending {
    /// It was told to, or could not go on.
    For(Exit),
    /// There is a new build.
    NewBuild(Executable),
}

impl Worker {
    /// The same with `--watch`.
    pub(super) fn watching(self) -> Self {
        Self { watch: true, ..self }
    }

    pub(super) fn run(&self, session: &Session) -> Result<Exit, Failure> {
        telemetry::init(self.loglevel, self.log_format).map_err(|why| Failure::new(Exit::Config, why))?;
        // Before anything is connected: without tasks there is nothing to connect for.
        let registry = Registry::collect()?.not_empty()?;
        session.say_where()?;
        let runtime = runtime(self.blocking_threads)?;
        let outcome = runtime.block_on(self.work(session, registry));
        // Plain functions that do not end are not waited for: their messages have been given back.
        runtime.shutdown_background();
        match outcome? {
            Ending::For(exit) => Ok(exit),
            Ending::NewBuild(executable) => Err(executable.take_over()),
        }
    }

    async fn work(&self, session: &Session, registry: Registry) -> Result<Ending, Failure> {
        let watched = if self.watch { Some(Executable::of_this_process()?) } else { None };
        let stops = Stops::listen().map_err(|error| cannot_start(&error))?;
        let mut first = stops.clone();
        let starting = async {
            let client = session.client().await?;
            let info = client.broker().info().await?;
            tell_about_servers(&client, &info).await?;
            let tasks = registry.len();
            let mut builder = engine::Worker::builder(client.clone())
                .concurrency(self.concurrency())
                .grace(self.grace)
                .registry(registry);
            if !self.queues.is_empty() {
                builder = builder.queues(self.queues.clone());
            }
            if let Some(name) = &self.hostname {
                builder = builder.name(name);
            }
            let worker = builder.build().await?;
            let ready = Ready {
                event: "ready",
                node: worker.node(),
                broker: format!("{} {}", info.product, info.version),
                queues: worker.queues(),
                tasks,
                concurrency: self.concurrency(),
                pid: std::process::id(),
            };
            session.output().say(&ready, Ready::describe)?;
            Ok::<_, Failure>((client, worker))
        };
        let (client, worker) = tokio::select! {
            started = starting => started?,
            // Nothing has been taken yet, so there is nothing to finish.
            () = first.asked(1) => return Ok(Ending::For(Exit::Ok)),
        };
        let steering = taskq::io::spawn(steer(worker.control(), stops));
        let (new_build, rebuilt) = (watched.clone(), worker.control());
        let watching = taskq::io::spawn(async move {
            let Some(executable) = new_build else { return std::future::pending().await };
            executable.replaced().await;
            tracing::info!("there is a new build; it takes over when what runs is finished");
            rebuilt.drain();
        });
        let node = worker.node().to_owned();
        let summary = worker.run().await?;
        steering.abort();
        watching.abort();
        client.close().await;
        say_ended(session.output(), &node, summary)?;
        let asked_to_stop = first.have_been_asked();
        Ok(match watched {
            // Drained, and not by a signal: by a new build.
            Some(executable) if !asked_to_stop => Ending::NewBuild(executable),
            _ if summary.interrupted == 0 => Ending::For(Exit::Ok),
            _ => Ending::For(Exit::Interrupted),
        })
    }

    fn concurrency(&self) -> usize {
        self.concurrency.map_or_else(processors, usize::from)
    }
}

/// Drains with the first signal, cancels with the second. The third is the listener's own.
async fn steer(control: WorkerControl, mut stops: Stops) {
    stops.asked(1).await;
    control.drain();
    stops.asked(2).await;
    tracing::warn!("asked again: what still runs is told to stop and given back");
    control.cancel();
}

impl Ready<'_> {
    fn describe(&self) -> String {
        format!(
            "{} is ready: {}, queues {}, {} tasks, {} at once",
            self.node,
            self.broker,
            self.queues.join(", "),
            self.tasks,
            self.concurrency
        )
    }
}

fn say_ended(output: Output, node: &str, summary: WorkerSummary) -> Result<(), Failure> {
    output.say(&Ended { event: "ended", node, summary }, |_| {
        let WorkerSummary { succeeded, failed, retried, revoked, interrupted, .. } = summary;
        format!("{node} ended: {succeeded} succeeded, {failed} failed, {retried} retried, {revoked} revoked, {interrupted} given back")
    })
}

/// The runtime of tasks: a thread for each processor, and others for plain functions.
pub(super) fn runtime(blocking_threads: Option<u16>) -> Result<Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(processors()).thread_name("taskq-task").enable_all();
    if let Some(threads) = blocking_threads {
        builder.max_blocking_threads(usize::from(threads));
    }
    builder.build().map_err(|error| cannot_start(&error))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cannot_start(error: &std::io::Error) -> Failure {
    Failure::new(Exit::CannotStart, format!("the worker cannot start: {error}"))
}
