//! `dead`: lists tasks that failed permanently, by error; puts them back or discards them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use taskq::TaskId;
use taskq::client::{DeadEntry, DeadFilter};
use taskq::internal::codec::tree::Tree;
use taskq::internal::codec::{self, MessageBody};
use taskq::message::Json;

use super::confirm::confirm;
use super::exit::Exit;
use super::failure::Failure;
use super::output::{plain, short, time};
use super::session::Session;
use super::values;
use crate::telemetry::aside;

/// The size up to which a body is decompressed to show its arguments, in bytes.
const SHOWN_BYTES_MAX: usize = 64 << 20;

/// The answer about tasks that were discarded.
const DROPPED: &str = "dropped";

/// The number of characters of an error that a table shows.
const ERROR_WIDTH: usize = 70;

/// The dead set, tasks that failed permanently: look at them, put them back, discard them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq dead list
  taskq dead show 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69
  taskq dead retry --error 8f2d0c5b7a913e64
  taskq dead drop 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69 --yes")]
pub(super) struct DeadCommand {
    #[command(subcommand)]
    verb: DeadVerb,
}

#[derive(Debug, Subcommand)]
enum DeadVerb {
    List(DeadList),
    Show(DeadShow),
    /// Put dead tasks back into the queues they came from, with all their attempts before them
    Retry(DeadSelection),
    Drop(DeadDrop),
}

/// The dead tasks, grouped by error; errors that differ only in numbers are one
#[derive(Debug, Args)]
struct DeadList {
    /// Every dead task on a line of its own
    #[arg(long)]
    all: bool,
    /// The largest number of dead tasks to look at, the oldest first
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    limit: usize,
}

/// One dead task: why it is dead, and its arguments
#[derive(Debug, Args)]
struct DeadShow {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    id: TaskId,
}

/// Discard dead tasks, for ever
#[derive(Debug, Args)]
struct DeadDrop {
    #[command(flatten)]
    selection: DeadSelection,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// The dead tasks that a command is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct DeadSelection {
    /// The tasks with these ids
    #[arg(value_parser = values::task_id)]
    ids: Vec<TaskId>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// The tasks with this error, by the fingerprint that `dead list` shows
    #[arg(long, value_name = "FINGERPRINT")]
    error: Option<String>,
}

/// The dead tasks with one error.
#[derive(Serialize)]
struct DeadGroup {
    fingerprint: String,
    count: usize,
    task: Option<String>,
    reason: String,
    error_type: String,
    error: String,
    example: Option<TaskId>,
}

/// A dead task with its arguments.
#[derive(Serialize)]
struct DeadDetails<'a> {
    #[serde(flatten)]
    entry: &'a DeadEntry,
    arguments: Json,
}

#[derive(Serialize)]
struct DeadAnswer {
    done: &'static str,
    count: usize,
}

impl DeadCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        match &self.verb {
            DeadVerb::List(list) => list.run(session).await,
            DeadVerb::Show(show) => show.run(session).await,
            DeadVerb::Retry(selection) => selection.retry(session).await,
            DeadVerb::Drop(drop) => drop.run(session).await,
        }
    }
}

impl DeadList {
    async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let entries = client.dead().list(self.limit).await;
        client.close().await;
        let entries = entries?;
        if entries.len() == self.limit {
            aside(&format!("note: only the oldest {} were looked at; --limit raises that", self.limit));
        }
        let output = session.output();
        if entries.is_empty() {
            output.note("nothing is dead")?;
        } else if self.all {
            output.table(&entries, ["ID", "TASK", "QUEUE", "ATTEMPTS", "DIED AT", "ERROR"], |entry| {
                [
                    name(entry.id.as_ref()),
                    name(entry.task.as_ref()),
                    plain(&entry.letter.queue),
                    entry.letter.attempts.to_string(),
                    entry.letter.at.map(time).unwrap_or_default(),
                    short(&error(&entry.letter.error_type, &entry.letter.error, &entry.letter.reason), ERROR_WIDTH),
                ]
            })?;
        } else {
            output.table(&groups(entries), ["COUNT", "TASK", "ERROR", "FINGERPRINT"], |group| {
                let text = error(&group.error_type, &group.error, &group.reason);
                [
                    group.count.to_string(),
                    name(group.task.as_ref()),
                    short(&text, ERROR_WIDTH),
                    plain(&group.fingerprint),
                ]
            })?;
        }
        Ok(Exit::Ok)
    }
}

/// Groups the entries by their errors, the most frequent first.
fn groups(entries: Vec<DeadEntry>) -> Vec<DeadGroup> {
    let mut groups: BTreeMap<String, DeadGroup> = BTreeMap::new();
    for DeadEntry { id, task, letter, .. } in entries {
        let fingerprint = letter.fingerprint.clone();
        let group = groups.entry(fingerprint.clone()).or_insert_with(|| DeadGroup {
            fingerprint,
            count: 0,
            task,
            reason: letter.reason,
            error_type: letter.error_type,
            error: letter.error,
            example: id,
        });
        group.count += 1;
    }
    let mut groups: Vec<DeadGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

fn name(name: Option<&impl ToString>) -> String {
    name.map_or_else(|| "-".to_owned(), |name| plain(&name.to_string()))
}

/// Returns the error as `NoStock: none left`, or the reason if no worker said more.
fn error(error_type: &str, error: &str, reason: &str) -> String {
    match (error_type, error) {
        ("", "") => reason.to_owned(),
        ("", error) => error.to_owned(),
        (error_type, "") => error_type.to_owned(),
        (error_type, error) => format!("{error_type}: {error}"),
    }
}

impl DeadShow {
    async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let entry = client.dead().get(&self.id).await;
        client.close().await;
        let entry = entry?;
        let shown = DeadDetails { entry: &entry, arguments: arguments(&entry) };
        session.output().say(&shown, |shown| {
            let letter = &shown.entry.letter;
            let lines = [
                ("id", name(shown.entry.id.as_ref())),
                ("task", name(shown.entry.task.as_ref())),
                ("queue", letter.queue.clone()),
                ("reason", letter.reason.clone()),
                ("error", error(&letter.error_type, &letter.error, &letter.reason)),
                ("attempts", letter.attempts.to_string()),
                ("died at", letter.at.map_or_else(|| "-".to_owned(), time)),
                ("fingerprint", letter.fingerprint.clone()),
                ("arguments", shown.arguments.to_string()),
            ];
            lines.map(|(name, value)| format!("{name:<13}{}", plain(&value))).join("\n")
        })?;
        Ok(Exit::Ok)
    }
}

/// Returns `[args, kwargs]` of the message, or a description of its body if it cannot be read here.
fn arguments(entry: &DeadEntry) -> Json {
    let message = &entry.message;
    let body =
        codec::decode(message).ok().and_then(|envelope| MessageBody::read(&envelope.payload, SHOWN_BYTES_MAX).ok());
    let text = str::from_utf8(body.as_ref().map_or(&message.body[..], MessageBody::text)).unwrap_or_default();
    let shown = Tree::parse(text).map(|tree| match tree {
        // The third part holds callbacks, which are not arguments.
        Tree::List(mut parts) if parts.len() == 3 => {
            parts.truncate(2);
            Tree::List(parts)
        }
        other => other,
    });
    let json = shown.ok().and_then(|tree| RawValue::from_string(tree.to_json()).ok());
    json.unwrap_or_else(|| {
        let kind = message.properties.content_type.as_deref().unwrap_or("of no type");
        to_raw_value(&format!("{} bytes, {kind}", message.body.len())).expect("a text is JSON")
    })
}

impl DeadSelection {
    fn which(&self) -> DeadFilter<'_> {
        match &self.error {
            Some(fingerprint) => DeadFilter::Fingerprint(fingerprint),
            None if self.all => DeadFilter::All,
            None => DeadFilter::Ids(&self.ids),
        }
    }

    async fn retry(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let count = client.dead().retry(&self.which()).await;
        client.close().await;
        self.answer(session, "put back", count?)
    }

    /// Answers how many were affected. Fails if a task or an error that was named is not there.
    fn answer(&self, session: &Session, done: &'static str, count: usize) -> Result<Exit, Failure> {
        let text = |DeadAnswer { done, count }: &DeadAnswer| format!("{count} {done}");
        let written = session.output().say(&DeadAnswer { done, count }, text);
        written.map_err(|failure| failure.after(|| format!("{count} dead tasks were {done}")))?;
        let missing = match self.which() {
            DeadFilter::Fingerprint(fingerprint) if count == 0 => format!("the dead set has no error {fingerprint}"),
            DeadFilter::Ids([id]) if count == 0 => format!("the dead set has no task {id}"),
            DeadFilter::Ids(ids) if count < ids.len() => {
                format!("only {count} of these {} tasks are in the dead set; `dead list --all` shows it", ids.len())
            }
            _ => return Ok(Exit::Ok),
        };
        Err(Failure::new(Exit::NotFound, missing))
    }
}

impl DeadDrop {
    async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let which = self.selection.which();
        if !self.yes {
            let count = client.dead().count(&which).await?;
            if count == 0 && which != DeadFilter::All {
                client.close().await;
                return self.selection.answer(session, DROPPED, 0);
            }
            confirm(&question(&which, count), false)?;
        }
        let count = client.dead().discard(&which).await;
        client.close().await;
        self.selection.answer(session, DROPPED, count?)
    }
}

/// The phrase by which a person is asked, about as many dead tasks as there are.
fn question(which: &DeadFilter<'_>, count: usize) -> String {
    let tasks = if count == 1 { "1 dead task".to_owned() } else { format!("{count} dead tasks") };
    match which {
        DeadFilter::Fingerprint(fingerprint) => format!("discards {tasks} with error {fingerprint} for ever"),
        DeadFilter::Ids(ids) if ids.len() > count => {
            format!("discards {tasks} for ever ({} of the named ones are not dead)", ids.len() - count)
        }
        _ => format!("discards {tasks} for ever"),
    }
}

#[cfg(test)]
mod tests {
    use taskq::client::DeadLetter;
    use taskq::message::{Failure, Headers, WireMessage};

    use super::*;

    fn entry(id: &str, error: &str, body: &'static [u8]) -> DeadEntry {
        let failure = Failure::new("shop", "NoStock", error);
        let letter = DeadLetter::new("failed", "orders", "shop.buy", &failure, 4, chrono::DateTime::UNIX_EPOCH);
        let mut message = WireMessage { body: body.into(), ..WireMessage::default() };
        message.headers = Headers::from_iter([("id", id), ("task", "shop.buy")]);
        letter.stamp(&mut message.headers);
        DeadEntry::read(message)
    }

    #[test]
    fn errors_are_grouped_the_most_frequent_first() {
        let entries = vec![entry("1", "no shelf", b""), entry("2", "none of 7", b""), entry("3", "none of 9", b"")];
        let groups = groups(entries);
        let summary: Vec<_> = groups.iter().map(|group| (group.count, group.error.as_str())).collect();
        assert_eq!(summary, [(2, "none of 7"), (1, "no shelf")]);
    }

    #[test]
    fn a_person_is_asked_about_what_is_there() {
        let ids = ["1", "2"].map(|id| TaskId::parse(id).expect("a good id"));
        for (which, count, expected) in [
            (DeadFilter::All, 0, "discards 0 dead tasks for ever"),
            (DeadFilter::All, 1, "discards 1 dead task for ever"),
            (DeadFilter::Ids(&ids), 2, "discards 2 dead tasks for ever"),
            (DeadFilter::Ids(&ids), 1, "discards 1 dead task for ever (1 of the named ones are not dead)"),
            (DeadFilter::Fingerprint("ab"), 7, "discards 7 dead tasks with error ab for ever"),
        ] {
            assert_eq!(question(&which, count), expected);
        }
    }

    #[test]
    fn arguments_are_shown_where_they_can_be_read() {
        let shown = |body| arguments(&entry("1", "x", body)).to_string();
        assert_eq!(shown(b"[[2, 3], {}, {\"callbacks\": null}]"), "[[2,3],{}]");
        assert_eq!(shown(b"[1, 2"), "\"5 bytes, of no type\"");
        assert_eq!(
            shown(b"[[1267650600228229401496703205376, 0.10], {}, {}]"),
            "[[1267650600228229401496703205376,0.10],{}]"
        );
        let mut packed = entry("1", "x", b"\x93\x91\xc4\x02hi\x80\xc0");
        packed.message.properties.content_type = Some("application/x-msgpack".into());
        assert_eq!(arguments(&packed).to_string(), "[[[104,105]],{}]");
    }
}
