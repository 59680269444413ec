//! The commands that `taskq` has beside those of every worker program: one command per file.

mod bench;
mod torture;
mod torture_worker;

use std::process::ExitCode;

use clap::Subcommand;
use taskq_worker::internal::cli::{self, Exit, ExtraCommands, Failure, Session};

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Bench),
    Torture(torture::Torture),
    #[command(hide = true)]
    TortureWorker(torture_worker::TortureWorker),
}

impl ExtraCommands for Command {
    fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Bench(bench) => bench.run(session),
            Self::Torture(torture) => torture.run(session),
            Self::TortureWorker(worker) => worker.run(session),
        }
    }

    fn sets_up_log(&self) -> bool {
        matches!(self, Self::TortureWorker(_))
    }
}

/// Runs the program: reads the arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    cli::main_of::<Command>()
}

/// Checks whether [`main`] accepts this command line, which begins with the program's name. Returns the reason if it
/// does not. Keeps the documents of this repository to the commands that exist.
#[doc(hidden)]
pub fn understands<W: AsRef<str>>(line: &[W]) -> Result<(), String> {
    cli::understands_of::<Command, W>(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed_and_have_examples() {
        cli::check_commands::<Command>();
    }

    #[test]
    fn common_lines_are_understood() {
        for line in [
            "taskq check",
            "taskq bench --tasks 1000 --classic",
            "taskq torture --fault kill --fault resets --seed 7 --tasks 500 --hold 35s --restart-broker true --json",
            "taskq torture-worker /tmp/ledger --loglevel warn --queues a,b --concurrency 8 --grace 30s --processes 2",
            "taskq torture-worker /tmp/ledger --unsupervised --config f.toml",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            understands(&words).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        assert!(understands(&["taskq", "torture", "--fault", "boredom"]).is_err());
        assert!(taskq_worker::understands(&["my-app", "torture"]).is_err(), "it is no command of a worker program");
    }
}
