//! `worker`: run this program's tasks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use taskq::definition::Registry;
use tokio::runtime::Runtime;

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::supervised::Child;
use super::work::{Ending, Work};
use super::{supervised, values};
use crate::telemetry::{self, Format, Level};
use crate::torture;

/// Run this program's tasks, until it is told to stop
///
/// The process that is started runs no tasks. It starts others that do, replaces those that die, and finds out what they
/// were running. Tasks get no stdin; what they write to stdout and stderr goes where this worker's goes.
///
/// The first TERM or INT (Ctrl-C) drains: no new work, what has begun is finished, exit code 0. When --grace is over,
/// or with a second signal, running tasks are told to stop and given back to their queues. The third, or QUIT, ends
/// at once; what was running then comes back by itself and runs again. HUP replaces every process by one of the newest
/// build: the new one first, then the old one drains. In a terminal HUP drains.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  my-app worker
  my-app worker --processes 4 -c 8 --max-memory-per-child 500MiB --health :8080
  taskq -A path/to/my-app worker -c 16 -Q default,mail -n mailer --grace 2m --log-format json")]
pub(super) struct Worker {
    /// How many tasks run at once in each process [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// How many processes run tasks; one that dies takes no task of another with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), default_value = "1")]
    pub(super) processes: u16,
    /// The queues it takes tasks from, separated by commas [default: the default queue and those its tasks name]
    #[arg(short = 'Q', long, value_name = "NAMES", value_delimiter = ',')]
    queues: Vec<String>,
    /// Its node name, NAME or NAME@HOST; no two workers should share one [default: taskq@HOST]
    #[arg(short = 'n', long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// How long running tasks may go on once it drains
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "30s")]
    pub(super) grace: Duration,
    /// How many threads there are for tasks that are plain functions [default: as many as run at once, up to 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    blocking_threads: Option<u16>,
    /// Replace a process when it has run about so many tasks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_tasks_per_child: Option<u64>,
    /// Replace a process when it has more memory, for example 500MiB
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(super) max_memory_per_child: Option<u64>,
    /// Tell whether it works: FILE is there and a few seconds old, or HOST:PORT answers HTTP with 200, while it does
    #[arg(long, value_name = "FILE|ADDR")]
    pub(super) health: Option<String>,
    /// Where to note what is running, for the case of a crash [default: a folder of this user's]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// The least important lines of the log, which goes to stderr; `RUST_LOG` wins
    #[arg(short, long, value_name = "LEVEL", default_value = "info")]
    loglevel: Level,
    /// How the log is written: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// Send tasks when they are due, too, as `beat` does; of all workers and beats that do, one sends
    #[arg(short = 'B', long)]
    pub(super) beat: bool,
    /// Start anew when this program is built anew: what runs is finished, then the new build takes over
    #[arg(long)]
    pub(super) watch: bool,
    /// Run tasks in this very process; nobody starts it again when a task crashes it
    #[arg(long, conflicts_with_all = ["processes", "max_tasks_per_child", "max_memory_per_child", "health", "state_dir"])]
    unsupervised: bool,
    /// How this process reaches its supervisor, which started it
    #[arg(long, value_name = "FDS", hide = true)]
    supervised_by: Option<String>,
    /// Run the tasks of `torture` in place of this program's own, with this ledger
    #[arg(long, value_name = "LEDGER", hide = true)]
    torture: Option<PathBuf>,
}

impl Worker {
    /// The same with `--watch`.
    pub(super) fn watching(self) -> Self {
        Self { watch: true, ..self }
    }

    pub(super) fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let child = self.supervised_by.as_deref().map(Child::connect).transpose()?;
        let has_terminal = child.as_ref().map_or_else(telemetry::has_terminal, Child::has_terminal);
        telemetry::init(self.loglevel, self.log_format, has_terminal).map_err(|why| Failure::new(Exit::Config, why))?;
        if child.is_none() && !self.unsupervised && supervised::IS_POSSIBLE {
            return supervised::run(self, session);
        }
        self.run_tasks(session, child)
    }

    /// In this process.
    fn run_tasks(&self, session: &Session, child: Option<Child>) -> Result<Exit, Failure> {
        // Before anything is connected: without tasks there is nothing to connect for.
        let registry = match &self.torture {
            Some(_) => torture::registry(),
            None => Registry::collect()?.not_empty()?,
        };
        if child.as_ref().is_none_or(Child::is_first) {
            session.say_where()?;
        }
        let runtime = runtime(self.blocking_threads)?;
        let work = Work {
            session,
            registry,
            concurrency: self.concurrency.map_or_else(processors, usize::from),
            queues: self.queues.clone(),
            torture: self.torture.clone(),
            node: self.hostname.clone(),
            grace: self.grace,
            beat: self.beat,
            // Whoever is supervised is replaced by the supervisor.
            watch: self.watch && child.is_none(),
            child,
        };
        let outcome = runtime.block_on(work.run());
        // Plain functions that do not end are not waited for: their messages have been given back.
        runtime.shutdown_background();
        match outcome? {
            Ending::For(exit) => Ok(exit),
            Ending::NewBuild(executable) => Err(executable.take_over()),
        }
    }
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

/// The system does not give what a worker needs.
pub(super) fn cannot_start(error: &std::io::Error) -> Failure {
    Failure::new(Exit::CannotStart, format!("the worker cannot start: {error}"))
}
