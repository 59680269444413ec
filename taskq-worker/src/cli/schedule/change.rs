//! `schedule remove`, `pause` and `resume`: change entries at run time.

use clap::Args;
use serde::Serialize;

use super::super::confirm::confirm;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::session::Session;
use super::book::ScheduleBook;

/// Remove an entry that was added with `schedule add`, and its history
///
/// What has been sent already runs. Entries of tasks' attributes and of taskq.toml are removed there; here they can be
/// paused.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule remove good-morning --yes")]
pub(super) struct ScheduleRemove {
    /// The entry
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Pause entries: they have no slots until they are resumed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule pause nightly reports")]
pub(super) struct SchedulePause {
    /// The entries
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

/// Resume paused entries; slots that were due meanwhile are not sent
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule resume nightly reports")]
pub(super) struct ScheduleResume {
    /// The entries
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Serialize)]
struct RemovedEntry<'a> {
    name: &'a str,
    removed: bool,
}

#[derive(Serialize)]
struct PausedEntry<'a> {
    name: &'a str,
    paused: bool,
    changed: bool,
}

impl ScheduleRemove {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let book = ScheduleBook::open(session).await?;
        let name = &self.name;
        if let Some(entry) = book.program.get(name).filter(|_| !book.was_added(name)) {
            let place = entry.origin.place(name);
            let text = format!("{name} was not added at run time: remove it where it is written, {place}, or pause it");
            return Err(Failure::new(Exit::Usage, text));
        }
        if book.was_added(name) {
            confirm(&format!("removes the entry {name} and its history"), self.yes)?;
        }
        // Also an entry that cannot be read any more, and one that is gone: beats may not know that yet.
        let removed = book.store.remove(name).await?;
        if !removed {
            book.entry(name)?;
        }
        book.client.close().await;
        let text = || format!("{name} is removed");
        let written = session.output().say(&RemovedEntry { name, removed }, |_| text());
        written.map_err(|failure| failure.after(text))?;
        Ok(Exit::Ok)
    }
}

/// Pauses entries, or resumes them.
pub(super) async fn pause(session: &Session, names: &[String], is_on: bool) -> Result<Exit, Failure> {
    let book = ScheduleBook::open(session).await?;
    // All names are checked before any entry is changed.
    names.iter().try_for_each(|name| book.entry(name).map(drop))?;
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let changed = book.store.pause(name, is_on, chrono::Utc::now()).await?;
        rows.push(PausedEntry { name, paused: is_on, changed });
    }
    book.client.close().await;
    let state = if is_on { "paused" } else { "not paused" };
    let written = session.output().table(&rows, ["ENTRY", "NOW"], |row| {
        let since = if row.changed { "" } else { ", as before" };
        [row.name.to_owned(), format!("{state}{since}")]
    });
    written.map_err(|failure| failure.after(|| format!("{} entries are {state}", names.len())))?;
    Ok(Exit::Ok)
}
