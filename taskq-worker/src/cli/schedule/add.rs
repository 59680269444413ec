//! `schedule add`.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use taskq_beat::entry::{self, Entry, Origin};

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::session::Session;
use super::super::values;
use super::book::Book;

/// Add an entry while beat runs
///
/// It is kept where beats keep their facts, until it is removed. Lengths of time are written as 30s, 5m or "1h 30m".
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  my-app schedule add good-morning shop.greet Ada --cron '0 9 * * MON-FRI' --tz Europe/Berlin
  my-app schedule add tidy shop.tidy --every 30s --overlap skip
  my-app schedule add launch shop.open --once 2030-01-31T08:00:00Z")]
pub(super) struct Add {
    /// Its name, one of a kind
    name: String,
    /// The task's name, for example shop.greet
    task: String,
    /// The task's arguments by position: JSON, or plain text where it is not JSON
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// The task's arguments by name, a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::object)]
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
    /// What has not begun so long after it was due is not wanted any more
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// What becomes of missed slots: skip, one or all [default: one]
    #[arg(long, value_name = "POLICY")]
    misfire: Option<String>,
    /// The most slots that --misfire all sends together [default: 100]
    #[arg(long, value_name = "N", requires = "misfire")]
    misfire_max: Option<u32>,
    /// Send up to so long after the slot, each entry at another moment
    #[arg(long, value_name = "TIME")]
    jitter: Option<String>,
    /// Whether it is sent while its run before is not over: allow or skip [default: allow]
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// What a beat does that cannot know whether a slot was sent: again or skip [default: again]
    #[arg(long, value_name = "POLICY")]
    on_doubt: Option<String>,
    /// The task is another program's: its name and arguments are not checked
    #[arg(long)]
    foreign: bool,
}

/// One of three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct When {
    /// At the times that a cron line names, for example '0 9 * * MON-FRI'
    #[arg(long, value_name = "LINE")]
    cron: Option<String>,
    /// At equal distances, for example 30s
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// Once, for example at 2030-01-31T08:00:00Z
    #[arg(long, value_name = "MOMENT")]
    once: Option<String>,
}

#[derive(Serialize)]
struct Added {
    name: String,
    schedule: String,
    words: String,
    next: Option<chrono::DateTime<chrono::Utc>>,
}

impl Add {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        // Before anything is connected.
        let entry = Entry::read(&self.name, &self.description(), Origin::RunTime).map_err(|mistakes| {
            let lines: Vec<String> = mistakes.iter().map(|mistake| mistake.text.clone()).collect();
            Failure::lines(Exit::Usage, lines.iter().map(String::as_str))
        })?;
        let book = Book::open(session).await?;
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
        let added =
            Added { name: entry.name, schedule: entry.schedule.to_string(), words: entry.schedule.describe(), next };
        session.output().say(&added, |added| format!("{} is added: {}", added.name, added.words))?;
        Ok(Exit::Ok)
    }

    /// The same in the form of taskq.toml.
    fn description(&self) -> Value {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let arguments: Vec<Value> = self.arguments.iter().map(|text| values::json_or_text(text)).collect();
        let keys = [
            ("task", Some(Value::from(self.task.clone()))),
            ("args", Some(Value::Array(arguments)).filter(|_| !self.arguments.is_empty())),
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
