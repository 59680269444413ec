//! The command line as a whole: reading the arguments, running a command, and the exit code.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use taskq::BoxError;
use taskq::internal::redact;

use super::exit::{self, Exit};
use super::extra_commands::{ExtraCommands, NoExtraCommands};
use super::failure::Failure;
use super::runtime::block_on;
use super::session::Session;
use super::setup::Setup;
use super::{
    beat, call, check, dead, delegate, dev, events, inspect, queues, result, revoke, schedule, signals, status, tasks,
    watch, worker,
};
use crate::engine::WorkerBuilder;
use crate::telemetry::{self, Format, Level};

const ABOUT: &str = "\
taskq, a distributed task queue.

`taskq -A path/to/app COMMAND` hands over to a program with tasks of its own; -A has to come first.
Settings come from taskq.toml (found upward from here), TASKQ_* variables and flags, the later over the earlier;
`taskq check` shows where each came from. Other users of this machine can read command lines: a password is better
kept in TASKQ_BROKER_URL, TASKQ_RESULT_URL or taskq.toml than in --broker and --results.";

/// The commands that only the program `taskq` has.
const OF_TASKQ_ALONE: [&str; 2] = ["bench", "torture"];

#[derive(Debug, Parser)]
#[command(name = "taskq", version, about = ABOUT, after_help = exit::HELP)]
pub(super) struct CommandLine<E: ExtraCommands> {
    #[command(flatten)]
    session: Session,
    #[command(subcommand)]
    command: Command<E>,
}

#[derive(Debug, Subcommand)]
enum Command<E: ExtraCommands> {
    Worker(worker::WorkerCommand),
    Beat(beat::BeatCommand),
    Dev(dev::DevCommand),
    Call(call::CallCommand),
    Status(status::StatusCommand),
    Result(result::ResultCommand),
    Watch(watch::WatchCommand),
    Revoke(revoke::RevokeCommand),
    Inspect(inspect::InspectCommand),
    Events(events::EventsCommand),
    Tasks(tasks::TasksCommand),
    Queues(queues::QueuesCommand),
    Dead(dead::DeadCommand),
    Schedule(schedule::ScheduleCommand),
    Check(check::CheckCommand),
    #[command(flatten)]
    Extra(E),
}

/// Runs the command line: the whole `main` of a worker program. Reads the arguments, runs the command that they name,
/// and returns the exit code, which `--help` explains.
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
    run::<NoExtraCommands>(Setup::default())
}

/// Runs the command line like [`main`], for tasks that share state: a pool, a cache, a configuration.
///
/// `setup` is called with each worker that is about to run tasks, in the process and on the runtime on which they will
/// run, and returns it with the values that `ctx.state::<T>()` is to find. Other commands, and the process that only
/// supervises, do not call it.
///
/// Flags of `worker` (concurrency, queues, name, grace) win over `setup`. If `setup` fails, the worker does not start:
/// exit code 4, as when a server cannot be reached.
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
    run::<NoExtraCommands>(Setup::new(setup))
}

/// Runs the command that the arguments of this process name, and returns its exit code.
pub(super) fn run<E: ExtraCommands>(setup: Setup) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(named) = delegate::named_program(&arguments) {
        return end(named.and_then(|(program, rest)| Err(delegate::become_program(&program, rest))));
    }
    match CommandLine::<E>::try_parse_from(&arguments) {
        Ok(mut line) => {
            if let Err(error) = signals::restore_inherited() {
                return end(Err(Failure::cannot_start(&error)));
            }
            line.session.setup = setup;
            end(line.command.run(&line.session))
        }
        Err(mut usage) => {
            hide_urls(&mut usage);
            if let Some(failure) = of_taskq_alone(&usage) {
                return end(Err(failure));
            }
            // Help and version come this way too, on stdout.
            if let Err(error) = usage.print()
                && !usage.use_stderr()
            {
                return end(Err(Failure::unwritten(&error)));
            }
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(Exit::Usage.code()))
        }
    }
}

/// Hides the secrets of words that were not understood: a URL without its flag is one, and this may go to a log.
fn hide_urls(usage: &mut clap::Error) {
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue] {
        if let Some(ContextValue::String(word)) = usage.get(kind) {
            let shown = ContextValue::String(redact::given(word));
            usage.insert(kind, shown);
        }
    }
}

/// Explains that a command that was asked for is one of the program `taskq`, if it is.
fn of_taskq_alone(usage: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(command)) = usage.get(ContextKind::InvalidSubcommand) else { return None };
    let is_one = usage.kind() == ErrorKind::InvalidSubcommand && OF_TASKQ_ALONE.contains(&command.as_str());
    is_one.then(|| {
        let text = format!(
            "{command} is a command of the program taskq, which runs tasks of its own for it; \
             `cargo install taskq-cli` installs it, and `taskq {command}` runs it"
        );
        Failure::new(Exit::Usage, text)
    })
}

/// Checks whether [`main`] accepts this command line, which begins with the program's name. Returns the reason if it
/// does not. For tests that keep documents to the commands that exist.
#[doc(hidden)]
pub fn understands<W: AsRef<str>>(line: &[W]) -> Result<(), String> {
    parses::<NoExtraCommands, W>(line)
}

pub(super) fn parses<E: ExtraCommands, W: AsRef<str>>(line: &[W]) -> Result<(), String> {
    let words: Vec<OsString> = line.iter().map(|word| word.as_ref().into()).collect();
    // The words after `-A program` are for that program, which has the same commands.
    let words = match delegate::named_program(&words) {
        Some(Ok((program, rest))) => [&[program], rest].concat(),
        Some(Err(failure)) => return Err(failure.message().unwrap_or_default().to_owned()),
        None => words,
    };
    CommandLine::<E>::try_parse_from(&words).map(drop).map_err(|usage| usage.to_string())
}

impl<E: ExtraCommands> Command<E> {
    fn run(self, session: &Session) -> Result<Exit, Failure> {
        let sets_up_log = match &self {
            Self::Worker(_) | Self::Beat(_) | Self::Dev(_) => true,
            Self::Extra(extra) => extra.sets_up_log(),
            _ => false,
        };
        if !sets_up_log {
            telemetry::init(Level::WARN, Format::Text, telemetry::has_terminal())
                .map_err(|why| Failure::new(Exit::Config, why))?;
        }
        match self {
            Self::Worker(worker) => worker.run(session),
            Self::Dev(dev) => dev.run(session),
            Self::Beat(beat) => block_on(beat.run(session)),
            Self::Tasks(tasks) => tasks.run(session),
            Self::Call(call) => block_on(call.run(session)),
            Self::Status(status) => block_on(status.run(session)),
            Self::Result(result) => block_on(result.run(session)),
            Self::Watch(watch) => block_on(watch.run(session)),
            Self::Revoke(revoke) => block_on(revoke.run(session)),
            Self::Inspect(inspect) => block_on(inspect.run(session)),
            Self::Events(events) => block_on(events.run(session)),
            Self::Queues(queues) => block_on(queues.run(session)),
            Self::Dead(dead) => block_on(dead.run(session)),
            Self::Schedule(schedule) => block_on(schedule.run(session)),
            Self::Check(check) => block_on(check.run(session)),
            Self::Extra(extra) => extra.run(session),
        }
    }
}

/// Reports how a command ended.
fn end(outcome: Result<Exit, Failure>) -> ExitCode {
    telemetry::sum_up_all();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                telemetry::complain(message);
            }
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::extra_commands::check_commands;
    use super::*;

    #[test]
    fn the_commands_are_well_formed_and_have_examples() {
        check_commands::<NoExtraCommands>();
    }

    #[test]
    fn commands_of_taskq_alone_are_explained() {
        let parse = |line: &str| CommandLine::<NoExtraCommands>::try_parse_from(line.split(' ')).map(drop);
        for (line, command) in [("app torture --fault kill", "torture"), ("app --json bench", "bench")] {
            let failure = of_taskq_alone(&parse(line).expect_err("it is no command here")).expect("it is explained");
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message().is_some_and(|text| text.contains(&format!("`taskq {command}`"))), "{failure:?}");
        }
        assert_eq!(of_taskq_alone(&parse("app dance").expect_err("it is no command at all")), None);
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
        ] {
            CommandLine::<NoExtraCommands>::try_parse_from(line.split(' '))
                .unwrap_or_else(|error| panic!("{line}: {error}"));
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
            "app torture --fault kill",
        ] {
            assert!(CommandLine::<NoExtraCommands>::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
