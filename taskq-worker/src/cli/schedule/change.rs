//! `schedule remove`, `pause` and `resume`.

use clap::Args;
use serde::Serialize;

use super::super::confirm::confirm;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::session::Session;
use super::book::Book;

/// Remove an entry that was added with `schedule add`, and its history
///
/// What has been sent already runs. Entries of tasks' attributes and of taskq.toml are removed there; here they can be
/// paused.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule remove good-morning --yes")]
pub(super) struct Remove {
    /// The entry
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Let entries have no slots until they are resumed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule pause nightly reports")]
pub(super) struct Pause {
    /// The entries
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

/// Let paused entries go on; what was due meanwhile is not sent
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule resume nightly reports")]
pub(super) struct Resume {
    /// The entries
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Serialize)]
struct Removed<'a> {
    name: &'a str,
    removed: bool,
}

#[derive(Serialize)]
struct Paused<'a> {
    name: &'a str,
    paused: bool,
    changed: bool,
}

impl Remove {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let book = Book::open(session).await?;
        let name = &self.name;
        if let Some(entry) = book.program.get(name).filter(|_| !book.was_added(name)) {
            let place = entry.origin.place(name);
            let text = format!("{name} was not added at run time: remove it where it is written, {place}, or pause it");
            return Err(Failure::new(Exit::Usage, text));
        }
        if book.was_added(name) {
            confirm(&format!("removes the entry {name} and its history"), self.yes)?;
        }
        // Also one that cannot be read any more, and one that is gone: beats may not have heard of it.
        let removed = book.store.remove(name).await?;
        if !removed {
            book.entry(name)?;
        }
        book.client.close().await;
        session.output().say(&Removed { name, removed }, |_| format!("{name} is removed"))?;
        Ok(Exit::Ok)
    }
}

/// Pauses entries, or lets them go on.
pub(super) async fn pause(session: &Session, names: &[String], is_on: bool) -> Result<Exit, Failure> {
    let book = Book::open(session).await?;
    // All of them, before one is changed.
    names.iter().try_for_each(|name| book.entry(name).map(drop))?;
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let changed = book.store.pause(name, is_on, chrono::Utc::now()).await?;
        rows.push(Paused { name, paused: is_on, changed });
    }
    book.client.close().await;
    session.output().table(&rows, ["ENTRY", "NOW"], |row| {
        let state = if row.paused { "paused" } else { "not paused" };
        let since = if row.changed { "" } else { ", as before" };
        [row.name.to_owned(), format!("{state}{since}")]
    })?;
    Ok(Exit::Ok)
}
