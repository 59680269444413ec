//! Parsing of an entry from its description, with all mistakes at once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use taskq::broker::QueueSpec;
use taskq::internal::nearest;

use super::entry::{Entry, MISFIRE_MAX_DEFAULT};
use super::mistake::{Mistake, Mistakes};
use super::options::{Misfire, OnDoubt, Origin, Overlap};
use super::time_span;
use crate::schedule::{Schedule, ScheduleError};

/// The known keys.
const KEYS: [&str; 18] = [
    "task",
    "cron",
    "tz",
    "every",
    "start",
    "once",
    "args",
    "kwargs",
    "queue",
    "priority",
    "expires",
    "misfire",
    "misfire_max",
    "jitter",
    "overlap",
    "on_doubt",
    "enabled",
    "foreign",
];

/// Keys of other schedulers, each with the remedy.
const SYNONYMS: [(&str, &str); 8] = [
    ("schedule", "write `cron`, `every` or `once`"),
    ("crontab", "write `cron = \"0 9 * * MON-FRI\"`"),
    ("interval", "write `every = \"30s\"`"),
    ("timezone", "write `tz = \"Europe/Berlin\"`"),
    ("at", "write `once = \"2030-01-31T08:00:00Z\"`"),
    ("options", "write `queue`, `priority` and `expires` beside the others"),
    ("paused", "write `enabled = false`"),
    ("coalesce", "write `misfire = \"one\"`"),
];

/// The longest name of an entry: together with the name of a group before it, and `@` and a slot or an id after it, it
/// has to fit into a task id.
const NAME_BYTES_MAX: usize = 190;

/// The longest `expires` and the longest `jitter`.
const TIME_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The largest `misfire_max`.
const MISFIRE_MAX: u64 = 1000;

impl Entry {
    /// Parses an entry from a JSON object with the keys of `[schedule.NAME]` in `taskq.toml`, such as `{"task":
    /// "reports.nightly", "cron": "0 2 * * *", "tz": "Europe/Berlin"}`. The error holds all mistakes.
    pub fn read(name: &str, description: &Value, origin: Origin) -> Result<Self, Mistakes> {
        entry(name, description, origin)
    }
}

fn entry(name: &str, description: &Value, origin: Origin) -> Result<Entry, Mistakes> {
    let place = origin.place(name);
    let mut mistakes = Vec::new();
    check_name(name, &mut |text| mistakes.push(Mistake { place: place.clone(), text }));
    let empty = Map::new();
    let object = description.as_object().unwrap_or_else(|| {
        let text = "is a table: write `task` and `cron`, `every` or `once` in it".to_owned();
        mistakes.push(Mistake { place: place.clone(), text });
        &empty
    });
    if !description.is_object() {
        return Err(Mistakes::none(mistakes).expect_err("there is one"));
    }
    let mut reader = Reader { object, place, mistakes };
    reader.unknown_keys();
    let task = reader.text("task", "a task's name").map(str::to_owned);
    if task.is_none() && !object.contains_key("task") {
        reader.mistake("names no task; write for example `task = \"reports.nightly\"`".to_owned());
    }
    let schedule = reader.schedule();
    let misfire = reader.word("misfire", Misfire::ALL, Misfire::as_str);
    let overlap = reader.word("overlap", Overlap::ALL, Overlap::as_str);
    if (misfire, overlap) == (Misfire::All, Overlap::Skip) {
        reader.mistake(
            "`misfire = \"all\"` fires several slots together, of which `overlap = \"skip\"` would leave out all but one; \
             keep one of them"
                .to_owned(),
        );
    }
    let misfire_max = reader.number("misfire_max", 1..=MISFIRE_MAX);
    if misfire_max.is_some() && misfire != Misfire::All {
        reader.mistake("`misfire_max` is the bound of `misfire = \"all\"`; write that beside it".to_owned());
    }
    let args = reader.value("args", "a list of arguments, such as [1, \"two\"]", Value::as_array).cloned();
    let kwargs = reader.value("kwargs", "a table of arguments by name", Value::as_object).cloned();
    let read = Entry {
        args: args.unwrap_or_default(),
        kwargs: kwargs.unwrap_or_default(),
        queue: reader.queue(),
        priority: reader.number("priority", 0..=255).map(|priority| priority as u8),
        expires: reader.time("expires", Duration::from_secs(1)),
        misfire,
        misfire_max: misfire_max.map_or(MISFIRE_MAX_DEFAULT, |max| max as u32),
        jitter: reader.time("jitter", Duration::ZERO).unwrap_or_default(),
        overlap,
        on_doubt: reader.word("on_doubt", OnDoubt::ALL, OnDoubt::as_str),
        enabled: reader.value("enabled", "true or false", Value::as_bool).unwrap_or(true),
        foreign: reader.value("foreign", "true or false", Value::as_bool).unwrap_or(false),
        // The placeholders for missing values are never seen: each missing value is a mistake.
        ..Entry::new(name, task.unwrap_or_default(), schedule.unwrap_or(Schedule::once(DateTime::UNIX_EPOCH)), origin)
    };
    Mistakes::none(reader.mistakes).map(|()| read)
}

/// Reports the mistakes in the name of an entry.
pub(super) fn check_name(name: &str, mistake: &mut dyn FnMut(String)) {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        mistake(format!("a name has 1 to {NAME_BYTES_MAX} bytes, this one has {}", name.len()));
    } else if name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        let joined = name.split_whitespace().collect::<Vec<_>>().join("-");
        mistake(format!("a name has no spaces in it; write for example {joined:?}"));
    }
}

/// A description under examination, with the mistakes found so far.
struct Reader<'a> {
    object: &'a Map<String, Value>,
    place: String,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn mistake(&mut self, text: String) {
        self.mistakes.push(Mistake { place: self.place.clone(), text });
    }

    fn unknown_keys(&mut self) {
        for key in self.object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let remedy = match SYNONYMS.iter().find(|(word, _)| word == key) {
                Some((_, remedy)) => (*remedy).to_owned(),
                None => format!("did you mean `{}`?", nearest(key, KEYS).unwrap_or_default()),
            };
            self.mistake(format!("there is no key `{key}`; {remedy}"));
        }
    }

    /// Returns the value of a key, if the key is present and `read` accepts the value.
    fn value<T>(&mut self, key: &str, takes: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.object.get(key)?;
        let found = read(value);
        if found.is_none() {
            self.mistake(format!("`{key}` takes {takes}, not {value}"));
        }
        found
    }

    fn text(&mut self, key: &str, takes: &str) -> Option<&'a str> {
        self.value(key, takes, |value| value.as_str().filter(|text| !text.is_empty()))
    }

    fn queue(&mut self) -> Option<String> {
        let name = self.text("queue", "a queue's name")?;
        if let Err(error) = QueueSpec::check_named(name) {
            self.mistake(format!("`queue`: {error}"));
        }
        Some(name.to_owned())
    }

    fn number(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let takes = format!("{} to {}", range.start(), range.end());
        self.value(key, &takes, |value| value.as_u64().filter(|number| range.contains(number)))
    }

    fn word<T: Copy + Default>(&mut self, key: &str, all: &'static [T], word: fn(T) -> &'static str) -> T {
        let words: Vec<String> = all.iter().map(|value| format!("{:?}", word(*value))).collect();
        let find = |value: &Value| all.iter().copied().find(|known| value.as_str() == Some(word(*known)));
        self.value(key, &words.join(" or "), find).unwrap_or_default()
    }

    fn time(&mut self, key: &str, min: Duration) -> Option<Duration> {
        let text = self.text(key, "a length of time such as \"30s\"")?;
        match time_span::parse(text) {
            Ok(time) if (min..=TIME_MAX).contains(&time) => Some(time),
            Ok(_) => {
                self.mistake(format!("`{key}` takes {} to a year, not {text:?}", humantime::format_duration(min)));
                None
            }
            Err(error) => {
                self.mistake(format!("`{key} = {text:?}`: {error}"));
                None
            }
        }
    }

    /// Parses the schedule, which is given by exactly one of three keys.
    fn schedule(&mut self) -> Option<Schedule> {
        let given: Vec<&str> =
            ["cron", "every", "once"].into_iter().filter(|key| self.object.contains_key(*key)).collect();
        let tz = self.text("tz", "the name of a time zone, such as \"Europe/Berlin\"");
        let start = self.text("start", "a moment such as \"2030-01-31T08:00:00Z\"");
        if start.is_some() && !given.contains(&"every") {
            self.mistake("`start` is the first slot of `every`; write that beside it".to_owned());
        }
        if tz.is_some() && !given.is_empty() && given == ["every"] {
            self.mistake("`tz` is the time zone of `cron` and `once`; `every` needs none, leave it out".to_owned());
        }
        let schedule = match given.as_slice() {
            ["cron"] => {
                let line = self.text("cron", "a cron line such as \"0 9 * * MON-FRI\"")?;
                Schedule::cron(line, tz.unwrap_or("UTC"))
            }
            ["every"] => {
                let text = self.text("every", "a length of time such as \"30s\"")?;
                let anchor = self.start(start)?;
                match time_span::parse(text) {
                    Ok(period) => Schedule::every(period, anchor),
                    Err(error) => {
                        self.mistake(format!("`every = {text:?}`: {error}"));
                        return None;
                    }
                }
            }
            ["once"] => {
                let text = self.text("once", "a moment such as \"2030-01-31T08:00:00Z\"")?;
                Schedule::once_at(text, tz)
            }
            [] => {
                self.mistake(
                    "has no schedule; write `cron = \"0 9 * * MON-FRI\"`, `every = \"30s\"` or `once = \
                     \"2030-01-31T08:00:00Z\"`"
                        .to_owned(),
                );
                return None;
            }
            several => {
                let names: Vec<String> = several.iter().map(|key| format!("`{key}`")).collect();
                self.mistake(format!(
                    "has {}; keep one of them, and make another entry of the other",
                    names.join(" and ")
                ));
                return None;
            }
        };
        self.good(schedule)
    }

    /// Parses the first slot of `every`. The default is the epoch, so that all beats find the same slots.
    fn start(&mut self, start: Option<&str>) -> Option<DateTime<Utc>> {
        let Some(text) = start else { return Some(DateTime::UNIX_EPOCH) };
        match DateTime::parse_from_rfc3339(text) {
            Ok(start) => Some(start.to_utc()),
            Err(_) => {
                self.mistake(format!("`start = {text:?}` is not a moment; write for example \"2030-01-31T08:00:00Z\""));
                None
            }
        }
    }

    fn good(&mut self, schedule: Result<Schedule, ScheduleError>) -> Option<Schedule> {
        schedule.map_err(|error| self.mistake(error.to_string())).ok()
    }
}
