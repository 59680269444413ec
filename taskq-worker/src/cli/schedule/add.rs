//! `schedule add`: adds an entry at run time.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use taskq_beat::entry::{self, Entry, Origin};

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::session::Session;
use super::super::values;
use super::book::ScheduleBook;

/// Add an entry at run time
///
/// The entry is kept in the store of the beats until it is removed. Durations are written as 30s, 5m or "1h 30m".
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  my-app schedule add good-morning shop.greet Ada --cron '0 9 * * MON-FRI' --tz Europe/Berlin
  my-app schedule add tidy shop.tidy --every 30s --overlap skip
  my-app schedule add launch shop.open --once 2030-01-31T08:00:00Z")]
pub(super) struct ScheduleAdd {
    /// The name of the entry, which must be new
    name: String,
    /// The task's name, for example shop.greet
    task: String,
    /// The task's arguments by position: JSON, or plain text where it is not JSON
    #[arg(value_name = "ARGS", allow_negative_numbers = true, value_parser = values::value_or_text)]
    arguments: Vec<Value>,
    /// The task's arguments by name, a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::object_of_values)]
    kwargs: Option<Map<String, Value>>,
    #[command(flatten)]
    when: When,
    /// The time zone of --cron, and of a --once without offset [default: UTC]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// The first slot of --every [default: 1970-01-01T00:00:00Z]
    #[arg(long, value_name = "MOMENT", requires = "every")]
    start: Option<String>,
    /// The queue [default: the task's, else the default queue]
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// 0 to 255, larger first, on queues that know priorities
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// Runs that have not begun this long after they were due are dropped
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// The treatment of missed slots: skip, one or all [default: one]
    #[arg(long, value_name = "POLICY")]
    misfire: Option<String>,
    /// The most slots that --misfire all sends together [default: 100]
    #[arg(long, value_name = "N", requires = "misfire")]
    misfire_max: Option<u32>,
    /// Send up to this long after the slot, each entry at its own moment
    #[arg(long, value_name = "TIME")]
    jitter: Option<String>,
    /// Whether to send while the previous run is not over: allow or skip [default: allow]
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// The treatment of a slot of which it is not known whether it was sent: again or skip [default: again]
    #[arg(long, value_name = "POLICY")]
    on_doubt: Option<String>,
    /// The task belongs to another program: its name and arguments are not checked
    #[arg(long)]
    foreign: bool,
}

/// The schedule of an entry: one of three kinds.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct When {
    /// At the times of a cron line, for example '0 9 * * MON-FRI'
    #[arg(long, value_name = "LINE")]
    cron: Option<String>,
    /// At equal intervals, for example 30s
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// Once, for example at 2030-01-31T08:00:00Z
    #[arg(long, value_name = "MOMENT")]
    once: Option<String>,
}

#[derive(Serialize)]
struct AddedEntry {
    name: String,
    schedule: String,
    words: String,
    next: Option<chrono::DateTime<chrono::Utc>>,
}

impl ScheduleAdd {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        // Before anything is connected.
        let entry = Entry::read(&self.name, &self.description(), Origin::RunTime).map_err(|mistakes| {
            let lines: Vec<String> = mistakes.iter().map(|mistake| mistake.text.clone()).collect();
            Failure::lines(Exit::Usage, lines.iter().map(String::as_str))
        })?;
        let book = ScheduleBook::open(session).await?;
        if !book.registry.is_empty() {
            entry::check(&entry, &book.registry).map_err(|mistake| Failure::new(Exit::Usage, mistake.text))?;
        }
        entry::check_overlap(&entry, book.client.results().is_ok())
            .map_err(|mistake| Failure::new(Exit::Usage, mistake.text))?;
        let mut entries = book.entries();
        entry::add(&mut entries, entry.clone()).map_err(|mistake| Failure::new(Exit::Usage, mistake.text))?;
        let now = chrono::Utc::now();
        if !book.store.add(&entry, now).await? {
            return Err(Failure::new(
                Exit::Usage,
                format!("there is an entry {} already; remove it first", entry.name),
            ));
        }
        book.client.close().await;
        let next = entry.schedule.next_after(now);
        let added = AddedEntry {
            name: entry.name,
            schedule: entry.schedule.to_string(),
            words: entry.schedule.describe(),
            next,
        };
        let text = |added: &AddedEntry| format!("{} is added: {}", added.name, added.words);
        let written = session.output().say(&added, text);
        written.map_err(|failure| failure.after(|| text(&added)))?;
        Ok(Exit::Ok)
    }

    /// Returns the entry in the form of taskq.toml.
    fn description(&self) -> Value {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let keys = [
            ("task", Some(Value::from(self.task.clone()))),
            ("args", (!self.arguments.is_empty()).then(|| Value::Array(self.arguments.clone()))),
            ("kwargs", self.kwargs.clone().map(Value::Object)),
            ("cron", text(&self.when.cron)),
            ("every", text(&self.when.every)),
            ("once", text(&self.when.once)),
            ("tz", text(&self.tz)),
            ("start", text(&self.start)),
            ("queue", text(&self.queue)),
            ("priority", self.priority.map(Value::from)),
            ("expires", text(&self.expires)),
            ("misfire", text(&self.misfire)),
            ("misfire_max", self.misfire_max.map(Value::from)),
            ("jitter", text(&self.jitter)),
            ("overlap", text(&self.overlap)),
            ("on_doubt", text(&self.on_doubt)),
            ("foreign", self.foreign.then_some(Value::Bool(true))),
        ];
        Value::Object(keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }
}
