//! `schedule`: the entries of beat, what became of them, and changing them while it runs.

mod add;
mod book;
mod change;
mod history;
mod list;
mod run;

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;

/// The entries of beat: what is sent when, what became of it, and changing it
///
/// Entries of tasks' attributes and of taskq.toml are this program's own; name it by -A. Changes reach the beat that
/// leads within about a second, and are kept where results are (or where the setting `beat_store` says).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  my-app schedule list
  my-app schedule add good-morning shop.greet Ada --cron '0 9 * * MON-FRI' --tz Europe/Berlin
  my-app schedule history good-morning")]
pub(super) struct ScheduleCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Show(list::Show),
    History(history::History),
    Add(Box<add::Add>),
    Remove(change::Remove),
    Pause(change::Pause),
    Resume(change::Resume),
    Run(run::Run),
}

impl ScheduleCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        match &self.verb {
            Verb::List(list) => list.run(session).await,
            Verb::Show(show) => show.run(session).await,
            Verb::History(history) => history.run(session).await,
            Verb::Add(add) => add.run(session).await,
            Verb::Remove(remove) => remove.run(session).await,
            Verb::Pause(pause) => change::pause(session, &pause.names, true).await,
            Verb::Resume(resume) => change::pause(session, &resume.names, false).await,
            Verb::Run(run) => run.run(session).await,
        }
    }
}
