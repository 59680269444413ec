//! The command line: one command per file, and the only place that knows clap.
//!
//! Every command answers on stdout, in tables for people and in JSON for programs ([`output`]); what goes wrong is one
//! line on stderr ([`failure`]) and an exit code ([`exit`]). Where to connect to is the same for all of them
//! ([`session`]).

mod announce;
mod beat;
mod bench;
mod call;
mod check;
mod confirm;
mod dead;
mod delegate;
mod dev;
mod exit;
mod failure;
mod figures;
mod outcome;
mod output;
mod queues;
mod reload;
mod result;
mod schedule;
mod session;
mod setup;
mod signals;
mod status;
mod supervised;
mod tasks;
mod torture;
mod values;
mod watch;
mod work;
mod worker;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::engine::WorkerBuilder;
use crate::telemetry::{self, Format, Level};
use exit::Exit;
use failure::Failure;
use session::Session;
use setup::Setup;
use taskq::BoxError;

const ABOUT: &str = "\
taskq, a distributed task queue.

`taskq -A path/to/app COMMAND` hands over to a program with tasks of its own; -A has to come first.
Settings come from taskq.toml (found upward from here), TASKQ_* variables and flags, the later over the earlier;
`taskq check` shows where each came from. Other users of this machine can read command lines: a password is better
kept in TASKQ_BROKER_URL, TASKQ_RESULT_URL or taskq.toml than in --broker and --results.";

#[derive(Debug, Parser)]
#[command(name = "taskq", version, about = ABOUT, after_help = exit::HELP)]
struct CommandLine {
    #[command(flatten)]
    session: Session,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Worker(worker::Worker),
    Beat(beat::Beat),
    Dev(dev::Dev),
    Call(call::Call),
    Status(status::Status),
    Result(result::Result),
    Watch(watch::Watch),
    Tasks(tasks::Tasks),
    Queues(queues::Queues),
    Dead(dead::Dead),
    Schedule(schedule::Schedule),
    Check(check::Check),
    /// How fast it is here: throughput and latency, beside a bare AMQP client in the same run
    Bench(bench::Bench),
    Torture(torture::Torture),
}

/// The command line, and all of a worker program's `main`: reads the arguments, does what they say, and gives the exit
/// code, which `--help` explains.
///
/// ```no_run
/// # mod my_app {}
/// use my_app as _; // links the crate whose tasks this worker runs
///
/// fn main() -> std::process::ExitCode {
///     taskq_worker::main()
/// }
/// ```
pub fn main() -> ExitCode {
    run(Setup::default())
}

/// [`main`] for tasks that share something: a pool, a cache, a configuration. `setup` is given each worker that is about to
/// run tasks, in the process and on the runtime on which they will run, and gives it back with what `ctx.state::<T>()` is to
/// find. Other commands, and the process that only supervises, do without it.
///
/// What flags of `worker` say (concurrency, queues, name, grace) wins over what `setup` says. Where it fails, the worker does
/// not start: exit code 4, as when a server cannot be reached.
///
/// ```no_run
/// use taskq::{Context, task};
/// use taskq_worker::WorkerBuilder;
///
/// struct Shelves(std::fs::File); // or a pool of connections
///
/// #[task]
/// async fn look(ctx: &Context) -> Result<u64, std::io::Error> {
///     Ok(ctx.state::<Shelves>().0.metadata()?.len())
/// }
///
/// async fn setup(worker: WorkerBuilder) -> Result<WorkerBuilder, std::io::Error> {
///     Ok(worker.state(Shelves(std::fs::File::open("shelves")?)))
/// }
///
/// fn main() -> std::process::ExitCode {
///     taskq_worker::main_with(setup)
/// }
/// ```
pub fn main_with<Prepared, E>(setup: impl Fn(WorkerBuilder) -> Prepared + Send + Sync + 'static) -> ExitCode
where
    Prepared: Future<Output = Result<WorkerBuilder, E>> + 'static,
    E: Into<BoxError>,
{
    run(Setup::new(setup))
}

fn run(setup: Setup) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(asked) = delegate::asked_for(&arguments) {
        return end(asked.and_then(|(program, rest)| Err(delegate::become_program(&program, rest))));
    }
    match CommandLine::try_parse_from(&arguments) {
        Ok(mut line) => {
            line.session.setup = setup;
            end(line.command.run(&line.session))
        }
        Err(usage) => {
            // Help and version come this way too, on stdout. Where the reader has gone away nobody is left to tell.
            drop(usage.print());
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(Exit::Usage.code()))
        }
    }
}

/// Whether this is a command line that [`main`] takes, its program's name first; if not, why. For tests that hold
/// documents to what is there.
#[doc(hidden)]
pub fn understands<W: AsRef<str>>(line: &[W]) -> Result<(), String> {
    let words: Vec<OsString> = line.iter().map(|word| word.as_ref().into()).collect();
    // What follows `-A program` is for that program, which has the same commands.
    let words = match delegate::asked_for(&words) {
        Some(Ok((program, rest))) => [&[program], rest].concat(),
        Some(Err(failure)) => return Err(failure.message().unwrap_or_default().to_owned()),
        None => words,
    };
    CommandLine::try_parse_from(&words).map(drop).map_err(|usage| usage.to_string())
}

impl Command {
    fn run(self, session: &Session) -> Result<Exit, Failure> {
        // These say themselves how they log.
        if !matches!(self, Self::Worker(_) | Self::Beat(_) | Self::Dev(_)) {
            telemetry::init(Level::WARN, Format::Text, telemetry::has_terminal())
                .map_err(|why| Failure::new(Exit::Config, why))?;
        }
        match self {
            Self::Worker(worker) => worker.run(session),
            Self::Dev(dev) => dev.run(session),
            Self::Beat(beat) => block_on(beat.run(session)),
            Self::Tasks(tasks) => tasks.run(session),
            Self::Bench(bench) => bench.run(session),
            Self::Torture(torture) => torture.run(session),
            Self::Call(call) => block_on(call.run(session)),
            Self::Status(status) => block_on(status.run(session)),
            Self::Result(result) => block_on(result.run(session)),
            Self::Watch(watch) => block_on(watch.run(session)),
            Self::Queues(queues) => block_on(queues.run(session)),
            Self::Dead(dead) => block_on(dead.run(session)),
            Self::Schedule(schedule) => block_on(schedule.run(session)),
            Self::Check(check) => block_on(check.run(session)),
        }
    }
}

/// Connections live on a thread of their own; a command has nothing to do beside waiting for them.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::Usage, format!("no runtime can be started: {error}")))?.block_on(command)
}

fn end(outcome: Result<Exit, Failure>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::aside(&format!("error: {message}"));
            }
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in CommandLine::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("\nExample"), "{} has none:\n{help}", command.get_name());
        }
    }

    #[test]
    fn common_lines_are_understood() {
        for line in [
            "app worker -c 4 -Q default,mail -n w1 --grace 10s -l debug --log-format json --blocking-threads 8",
            "app worker --watch",
            "app worker --processes 4 --max-tasks-per-child 1000 --max-memory-per-child 200MiB --health :8080 --state-dir /s",
            "app worker --unsupervised",
            "app dev -l debug -Q mail",
            "app worker -B",
            "app worker --beat --processes 2",
            "app beat -n night -l debug --log-format json",
            "app schedule list --json",
            "app schedule add x shop.add 2 -3 --every 30s --overlap skip",
            "app schedule add x shop.add --cron @daily --tz Europe/Berlin --kwargs {} --jitter 5m --expires 1h",
            "app schedule remove x --yes",
            "app schedule pause x y",
            "app schedule history x",
            "app call shop.add 2 -3 --wait",
            "app call shop.add --wait 30s -- 2 3",
            "app --json call shop.add --kwargs {} --queue low --countdown 10s --expires 1h --priority 7 --id x",
            "app call shop.add --eta 2030-01-31T08:00:00Z --broker amqp://h --results redis://h --config f.toml",
            "app result 7 --wait 5s",
            "app watch 7 --json",
            "app queues purge mail --yes",
            "app dead list --all",
            "app dead retry 7 8",
            "app dead drop --error 0123456789abcdef --yes",
            "app check",
            "app bench --tasks 1000 --classic",
            "app torture --fault kill --fault resets --seed 7 --tasks 500 --hold 35s --restart-broker true --json",
        ] {
            CommandLine::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "app",
            "app status",
            "app worker -c 0",
            "app worker --grace soon",
            "app worker --processes 0",
            "app worker --max-memory-per-child much",
            "app worker --unsupervised --processes 2",
            "app call shop.add --eta tomorrow",
            "app call shop.add --kwargs [1]",
            "app dead retry",
            "app dead retry 7 --all",
            "app schedule",
            "app schedule add x shop.add",
            "app schedule add x shop.add --every 1s --once 2030-01-31T08:00:00Z",
            "app torture --fault boredom",
        ] {
            assert!(CommandLine::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
