//! `schedule list` and `schedule show`: show entries.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use taskq_beat::entry::Entry;
use taskq_beat::internal::due::due;
use taskq_beat::internal::leader::{self, Holder};
use taskq_beat::store::{Facts, Fired, Handled, Missed};

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::output::{plain, short, time};
use super::super::session::Session;
use super::book::ScheduleBook;

/// List the entries: what is sent, when, when next, and what was sent last
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule list")]
pub(super) struct ScheduleList {}

/// Show an entry with everything known of it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  my-app schedule show nightly")]
pub(super) struct ScheduleShow {
    /// The entry
    name: String,
}

/// An entry in the answer to programs.
#[derive(Serialize)]
struct EntryRow {
    name: String,
    task: String,
    /// The schedule as it is written.
    schedule: String,
    /// The schedule in words.
    words: String,
    paused: bool,
    /// The time of the next slot.
    next: Option<DateTime<Utc>>,
    last: Option<Fired>,
    fired_count: u64,
    missed_count: u64,
    /// The place where the entry is written.
    place: String,
}

/// An entry with everything known of it.
#[derive(Serialize)]
struct EntryDetails {
    #[serde(flatten)]
    row: EntryRow,
    /// The entry in the form of taskq.toml.
    entry: Value,
    missed: Option<Missed>,
    /// The slots that were claimed and are not known to have been sent.
    pending: Vec<DateTime<Utc>>,
    leader: Option<Holder>,
}

impl EntryRow {
    fn of(entry: &Entry, facts: Option<&Facts>, is_off: bool, now: DateTime<Utc>) -> Self {
        Self {
            name: entry.name.clone(),
            task: entry.task.clone(),
            schedule: entry.schedule.to_string(),
            words: entry.schedule.describe(),
            paused: is_off,
            next: if is_off { None } else { next(entry, facts, now) },
            last: facts.and_then(|facts| facts.last.clone()),
            fired_count: facts.map_or(0, |facts| facts.fired_count),
            missed_count: facts.map_or(0, |facts| facts.missed_count),
            place: entry.origin.place(&entry.name),
        }
    }
}

/// Returns when an entry is sent next; a time in the past if that should have happened already.
fn next(entry: &Entry, facts: Option<&Facts>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let handled = facts.map_or_else(|| Handled::since(now), |facts| facts.handled.clone());
    let decision = due(entry, &handled, now, false);
    decision.fire.first().map(|firing| firing.due).or(decision.wake)
}

impl ScheduleList {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let book = ScheduleBook::open(session).await?;
        let facts: BTreeMap<String, Facts> = book.store.facts().await?.into_iter().collect();
        let leader = leader::holder(book.store.kv()).await?;
        let now = Utc::now();
        let rows: Vec<EntryRow> = book
            .entries()
            .values()
            .map(|entry| EntryRow::of(entry, facts.get(&entry.name), book.is_off(entry), now))
            .collect();
        book.client.close().await;
        session.output().table(&rows, ["ENTRY", "TASK", "WHEN", "NEXT", "LAST", "MISSED"], |row| {
            let next = if row.paused { "paused".to_owned() } else { row.next.map_or_else(|| "never".to_owned(), time) };
            [
                plain(&row.name),
                plain(&row.task),
                short(&row.words, 60),
                next,
                row.last.as_ref().map_or_else(|| "-".to_owned(), |last| time(last.slot)),
                row.missed_count.to_string(),
            ]
        })?;
        session.output().note(&leader.map_or_else(
            || "no beat leads: nothing is sent until one runs".to_owned(),
            |holder| format!("{} leads since {}", plain(&holder.node), time(holder.since)),
        ))?;
        Ok(Exit::Ok)
    }
}

impl ScheduleShow {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let book = ScheduleBook::open(session).await?;
        let entry = book.entry(&self.name)?;
        let facts = book.store.facts_of(&self.name).await?;
        let leader = leader::holder(book.store.kv()).await?;
        let whole = EntryDetails {
            row: EntryRow::of(&entry, facts.as_ref(), book.is_off(&entry), Utc::now()),
            entry: entry.describe(),
            missed: facts.as_ref().and_then(|facts| facts.missed.clone()),
            pending: facts.iter().flat_map(|facts| &facts.pending).map(|pending| pending.slot).collect(),
            leader,
        };
        book.client.close().await;
        session.output().say(&whole, describe)?;
        Ok(Exit::Ok)
    }
}

fn describe(whole: &EntryDetails) -> String {
    let row = &whole.row;
    let mut lines = vec![
        row.name.clone(),
        format!("task     {}", row.task),
        format!("when     {} ({})", row.words, row.schedule),
        format!("written  {}", row.place),
        match row.next {
            _ if row.paused => "next     paused".to_owned(),
            next => format!("next     {}", next.map_or_else(|| "never".to_owned(), time)),
        },
    ];
    if let Some(last) = &row.last {
        lines.push(format!("last     {}, sent {} ms late as {}", time(last.slot), last.late_ms, last.id));
    }
    lines.push(format!("so far   {} sent, {} missed", row.fired_count, row.missed_count));
    if let Some(missed) = &whole.missed {
        lines.push(format!("missed   {} until {}: {}", missed.count, time(missed.last), missed.reason));
    }
    for slot in &whole.pending {
        lines.push(format!("pending  {}, claimed and not known to have been sent", time(*slot)));
    }
    lines.push(format!("as JSON  {}", whole.entry));
    lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n")
}
