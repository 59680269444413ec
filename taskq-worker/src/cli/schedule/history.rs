//! `schedule history`: shows the newest slots of an entry.

use clap::Args;
use taskq_beat::store::{Event, EventKind};

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::output::{plain, time};
use super::super::session::Session;
use super::book::ScheduleBook;

/// Show the newest slots of an entry: sent, how late; or missed, how many and why
///
/// The newest 100 events are kept, oldest first. Slots that were missed together are one event.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule history nightly")]
pub(super) struct ScheduleHistory {
    /// The entry
    name: String,
}

impl ScheduleHistory {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let book = ScheduleBook::open(session).await?;
        let history = book.store.history_of(&self.name).await?;
        if history.events().is_empty() {
            // Perhaps the name is wrong. An entry of one slot is removed after a day, and its history stays.
            book.entry(&self.name)?;
        }
        book.client.close().await;
        session.output().table(history.events(), ["SLOT", "WHAT", "AT", "BY"], |Event { at, by, kind, .. }| {
            let (slot, words) = match kind {
                EventKind::Fired { slot, late_ms, again, .. } => {
                    let again = if *again { ", perhaps for the second time" } else { "" };
                    (time(*slot), format!("sent, {late_ms} ms late{again}"))
                }
                EventKind::Asked { id, .. } => (time(*at), format!("sent on request, as {}", plain(id.as_str()))),
                EventKind::Missed(missed) => {
                    let more = if missed.is_more { "more than " } else { "" };
                    (
                        time(missed.first),
                        format!("missed {more}{}, until {}: {}", missed.count, time(missed.last), missed.reason),
                    )
                }
                _ => (time(*at), "an event of a newer version; update this program to see it".to_owned()),
            };
            [slot, words, time(*at), plain(by)]
        })?;
        Ok(Exit::Ok)
    }
}
