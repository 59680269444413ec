//! `worker`: runs this program's tasks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::Exit;
use super::failure::Failure;
use super::host::{Unsupervised, WorkerHost};
use super::runtime::{processors, task_runtime};
use super::session::Session;
use super::setup::Setup;
use super::work::{Ending, Work};
use super::worker_options::WorkerOptions;
use super::{supervised, values};
use crate::telemetry::{self, Format, Level};

/// Run this program's tasks, until it is told to stop
///
/// The process that is started runs no tasks. It starts others that do, replaces those that die, and finds out what
/// they were running. Tasks get no stdin; what they write to stdout and stderr goes where this worker's goes.
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
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line, each by itself")]
pub struct WorkerCommand {
    /// The number of tasks that run at the same time in each process [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// The number of processes that run tasks; the death of one does not affect the tasks of another
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), default_value = "1")]
    processes: u16,
    /// The queues to take tasks from, separated by commas [default: the default queue and those the tasks name]
    #[arg(short = 'Q', long, value_name = "NAMES", value_delimiter = ',', value_parser = values::queue)]
    queues: Vec<String>,
    /// The node name, NAME or NAME@HOST; no two workers should share one [default: taskq@HOST]
    #[arg(short = 'n', long, value_name = "NAME")]
    hostname: Option<String>,
    /// How long running tasks may go on once the worker drains
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "30s")]
    grace: Duration,
    /// The number of threads for tasks that are plain functions [default: one per running task, up to 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    blocking_threads: Option<u16>,
    /// Replace a process after about this number of tasks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_tasks_per_child: Option<u64>,
    /// Replace a process that has more memory, for example 500MiB
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_memory_per_child: Option<u64>,
    /// Publish health: while the worker works, FILE exists and is a few seconds old, or HOST:PORT answers HTTP with 200
    #[arg(long, value_name = "FILE|ADDR")]
    health: Option<String>,
    /// The folder in which running tasks are recorded for the case of a crash [default: one of this user]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The least important lines of the log, which goes to stderr; `RUST_LOG` wins
    #[arg(short, long, value_name = "LEVEL", default_value = "info")]
    loglevel: Level,
    /// The format of the log: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// Also send tasks when they are due, as `beat` does; of all workers and beats that do, one sends
    #[arg(short = 'B', long)]
    beat: bool,
    /// Tell events of tasks from the beginning; Flower, `celery events` and `taskq events` also ask for them
    #[arg(short = 'E', long)]
    events: bool,
    /// Restart when this program is built again: running tasks are finished, then the new build takes over
    #[arg(long)]
    watch: bool,
    /// Run tasks in this very process; nothing restarts it when a task crashes it
    #[arg(long, conflicts_with_all = ["processes", "max_tasks_per_child", "max_memory_per_child", "health", "state_dir"])]
    unsupervised: bool,
    /// How this process reaches its supervisor, which started it
    #[arg(long, value_name = "FDS", hide = true)]
    supervised_by: Option<String>,
}

impl WorkerCommand {
    /// Switches `--watch` on, and `--beat` if `beat`.
    pub(super) fn for_development(self, beat: bool) -> Self {
        Self { watch: true, beat: self.beat || beat, ..self }
    }

    pub(super) fn run(&self, session: &Session) -> Result<Exit, Failure> {
        self.run_tasks_of(session, &session.setup)
    }

    /// Runs the tasks of `setup` until the worker is told to stop.
    pub fn run_tasks_of(&self, session: &Session, setup: &Setup) -> Result<Exit, Failure> {
        if let Some(descriptors) = &self.supervised_by {
            return supervised::with_child(descriptors, |child| self.work(session, setup, child));
        }
        if !self.unsupervised && supervised::CAN_SUPERVISE {
            self.start_log(telemetry::has_terminal())?;
            return supervised::run(&self.options(), session);
        }
        self.work(session, setup, Unsupervised)
    }

    /// Runs tasks in this process.
    fn work(&self, session: &Session, setup: &Setup, host: impl WorkerHost) -> Result<Exit, Failure> {
        self.start_log(host.has_terminal())?;
        // Before anything is connected: without tasks there is nothing to connect for.
        let registry = setup.registry()?;
        if host.is_first() {
            session.say_where()?;
        }
        let options = self.options();
        let runtime = task_runtime()?;
        let outcome = runtime.block_on(Work { session, setup, registry, options: &options, host }.run());
        // Plain functions that do not end are not waited for: their messages have been given back.
        runtime.shutdown_background();
        match outcome? {
            Ending::For(exit) => Ok(exit),
            Ending::NewBuild(executable) => {
                telemetry::sum_up_all();
                Err(executable.take_over())
            }
        }
    }

    fn start_log(&self, colours: bool) -> Result<(), Failure> {
        telemetry::init(self.loglevel, self.log_format, colours).map_err(|why| Failure::new(Exit::Config, why))
    }

    fn options(&self) -> WorkerOptions {
        WorkerOptions {
            concurrency: self.concurrency.map_or_else(processors, usize::from),
            processes: usize::from(self.processes),
            queues: self.queues.clone(),
            node: self.hostname.clone(),
            events: self.events,
            grace: self.grace,
            blocking_threads: self.blocking_threads,
            max_tasks_per_child: self.max_tasks_per_child,
            max_memory_per_child: self.max_memory_per_child,
            health: self.health.clone(),
            state_dir: self.state_dir.clone(),
            beat: self.beat,
            watch: self.watch,
        }
    }
}
