//! `schedule run`: sends an entry at once.

use clap::Args;
use serde::Serialize;
use taskq::TaskId;
use taskq::internal::host_name;
use taskq_beat::run_now;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::session::Session;
use super::book::ScheduleBook;

/// Send an entry now, in addition to its slots
///
/// The run has an id of its own, which is printed; the entry's slots, and whether it is paused, make no difference to
/// it, nor it to them. The history records that it was requested.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule run nightly")]
pub(super) struct ScheduleRun {
    /// The entry
    name: String,
}

#[derive(Serialize)]
struct SentEntry<'a> {
    name: &'a str,
    task: &'a str,
    id: &'a TaskId,
}

impl ScheduleRun {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let book = ScheduleBook::open(session).await?;
        let entry = book.entry(&self.name)?;
        let node = format!("schedule@{}", host_name());
        let id = run_now(&book.client, &book.store, &book.registry, &entry, &node).await?;
        book.client.close().await;
        let sent = SentEntry { name: &entry.name, task: &entry.task, id: &id };
        let written = session.output().say(&sent, |sent| sent.id.to_string());
        written.map_err(|failure| failure.after(|| format!("task {id} was sent")))?;
        Ok(Exit::Ok)
    }
}
