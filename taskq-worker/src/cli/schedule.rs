//! `schedule`: shows the entries of beat and their history, and changes them at run time.

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

/// The entries of beat: what is sent when, their history, and changing them
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
    verb: ScheduleVerb,
}

#[derive(Debug, Subcommand)]
enum ScheduleVerb {
    List(list::ScheduleList),
    Show(list::ScheduleShow),
    History(history::ScheduleHistory),
    Add(Box<add::ScheduleAdd>),
    Remove(change::ScheduleRemove),
    Pause(change::SchedulePause),
    Resume(change::ScheduleResume),
    Run(run::ScheduleRun),
}

impl ScheduleCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        match &self.verb {
            ScheduleVerb::List(list) => list.run(session).await,
            ScheduleVerb::Show(show) => show.run(session).await,
            ScheduleVerb::History(history) => history.run(session).await,
            ScheduleVerb::Add(add) => add.run(session).await,
            ScheduleVerb::Remove(remove) => remove.run(session).await,
            ScheduleVerb::Pause(pause) => change::pause(session, &pause.names, true).await,
            ScheduleVerb::Resume(resume) => change::pause(session, &resume.names, false).await,
            ScheduleVerb::Run(run) => run.run(session).await,
        }
    }
}
