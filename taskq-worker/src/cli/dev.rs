//! `dev`: everything that a developer needs, in one terminal.

use clap::Args;
use taskq::definition::Registry;
use taskq_beat::entry;

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::worker::WorkerCommand;

/// Run this program's tasks while you write them: a worker that restarts with each build
///
/// With nothing configured, `dev` uses the file taskq.db in the working directory, which the program's other processes
/// started there use as well. `cargo build` in another terminal is enough: running tasks are finished first, then the
/// new build takes over. If the program's tasks or taskq.toml have schedules, the worker is also a beat.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  my-app dev
  taskq -A target/debug/my-app dev -l debug")]
pub(super) struct DevCommand {
    #[command(flatten)]
    worker: WorkerCommand,
}

impl DevCommand {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let entries = entry::collect(&Registry::collect()?, &session.settings()?)?;
        self.worker.for_development(!entries.is_empty()).run(session)
    }
}
