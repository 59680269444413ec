//! The options of `#[task(…)]`, parsed and checked.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::{ExprPath, Ident, Path};

use crate::duration;
use crate::entry::{self, Entry};
use crate::errors::{Mistakes, nearest};
use crate::schedule;

/// Every option, with a value that shows its form.
const OPTIONS: [(&str, &str); 16] = [
    ("name", "\"shop.add\""),
    ("queue", "\"mail\""),
    ("priority", "7"),
    ("retries", "5"),
    ("backoff", "\"1s..5m\""),
    ("retry_if", "is_transient"),
    ("soft_time_limit", "\"20s\""),
    ("time_limit", "\"30s\""),
    ("expires", "\"1h\""),
    ("ignore_result", "true"),
    ("sealed", "true"),
    ("ack", "\"early\""),
    ("cron", "\"0 9 * * MON-FRI\""),
    ("tz", "\"Europe/Berlin\""),
    ("every", "\"30s\""),
    ("crate", "\"tq\""),
];

/// Options under their names in other task queues, each with the remedy.
const SYNONYMS: [(&str, &str); 14] = [
    ("retry", "write `retries = 5`"),
    ("max_retries", "write `retries = 5`"),
    ("autoretry_for", "every error is retried; say which are worth it with `retry_if = is_transient`"),
    ("retry_backoff", "write `backoff = \"1s..5m\"`"),
    ("timeout", "write `time_limit = \"30s\"`"),
    ("acks_late", "write `ack = \"late\"`, which is the default"),
    ("bind", "take `ctx: &Context` as the first parameter"),
    ("schedule", "write `cron = \"0 9 * * MON-FRI\"` or `every = \"30s\"`"),
    ("interval", "write `every = \"30s\"`"),
    ("timezone", "write `tz = \"Europe/Berlin\"` beside `cron`"),
    ("ttl", "write `expires = \"1h\"`"),
    ("countdown", "a delay belongs to a call: `add(2, 3).countdown(\"10s\")`"),
    ("eta", "a time belongs to a call: `add(2, 3).eta(time)`"),
    ("unique", "a key belongs to a call: `add(2, 3).unique(\"key\", \"1h\")`"),
];

/// The answer to `rate_limit`. A limit that is accepted and not enforced would let a task overload what it should
/// spare.
const RATE_LIMIT_REFUSED: &str = "rate limits are not enforced yet, so `rate_limit` is refused: leave it out, and limit how many \
                                  of these tasks run at once by giving them a queue of their own, served by a worker with \
                                  a small `--concurrency`";

/// Options that only mean something to the worker that runs the task.
const FOR_THE_WORKER: [&str; 7] = ["retries", "backoff", "retry_if", "ack", "cron", "tz", "every"];

/// The options of the attribute, as far as they could be understood.
#[derive(Default)]
pub(crate) struct Attribute {
    pub(crate) name: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) priority: Option<u8>,
    pub(crate) retries: Option<u32>,
    pub(crate) backoff: Option<(Duration, Duration)>,
    pub(crate) retry_if: Option<ExprPath>,
    pub(crate) soft_time_limit: Option<Duration>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) expires: Option<Duration>,
    pub(crate) ignore_result: bool,
    pub(crate) sealed: bool,
    pub(crate) ack_early: bool,
    pub(crate) schedule: Option<Schedule>,
    /// How the user's crate calls taskq, if not by its name.
    pub(crate) krate: Option<Path>,
    entries: Vec<Entry>,
}

/// The schedule by which beat sends the task.
pub(crate) enum Schedule {
    Cron { line: String, tz: String },
    Every(Duration),
}

/// A value that shows the form of an option, if there is one of that name.
pub(crate) fn example(option: &str) -> Option<&'static str> {
    OPTIONS.iter().find(|(name, _)| *name == option).map(|(_, value)| *value)
}

impl Attribute {
    /// Reads `tokens`, the text between the attribute's parentheses.
    pub(crate) fn read(tokens: TokenStream, mistakes: &mut Mistakes) -> Self {
        let mut attribute = Self::default();
        let (mut cron, mut tz, mut every) = (None, None, None);
        for entry in entry::read_all(tokens, mistakes) {
            if attribute.entry(&entry.key).is_some() {
                mistakes.at(&entry.key, format!("`{}` is given twice; keep one of them", entry.key));
                continue;
            }
            match entry.key.to_string().as_str() {
                "name" => attribute.name = entry.parsed(check_name, mistakes),
                "queue" => attribute.queue = entry.parsed(check_queue, mistakes),
                "priority" => attribute.priority = entry.number("0 to 255", mistakes),
                "retries" => attribute.retries = entry.number("0 or more", mistakes),
                "backoff" => attribute.backoff = entry.parsed(duration::parse_backoff, mistakes),
                "retry_if" => attribute.retry_if = entry.function(mistakes),
                "soft_time_limit" => {
                    attribute.soft_time_limit = entry.parsed(duration::parse_positive, mistakes);
                }
                "time_limit" => attribute.time_limit = entry.parsed(duration::parse_positive, mistakes),
                "expires" => attribute.expires = entry.parsed(duration::parse_positive, mistakes),
                "rate_limit" | "rate" => mistakes.at(&entry.key, RATE_LIMIT_REFUSED),
                "ignore_result" => attribute.ignore_result = entry.flag(mistakes).unwrap_or_default(),
                "sealed" => attribute.sealed = entry.flag(mistakes).unwrap_or_default(),
                "ack" => attribute.ack_early = entry.parsed(read_ack, mistakes).unwrap_or_default(),
                "cron" => {
                    cron = entry.parsed(|line| schedule::check_cron(line).map(|()| line.to_owned()), mistakes);
                }
                "tz" => tz = entry.parsed(|name| schedule::check_tz(name).map(|()| name.to_owned()), mistakes),
                "every" => every = entry.parsed(schedule::parse_every, mistakes),
                "crate" => attribute.krate = entry.parsed(read_crate, mistakes),
                unknown => mistakes.at(&entry.key, describe_unknown(unknown)),
            }
            attribute.entries.push(entry);
        }
        attribute.check_limits(mistakes);
        attribute.check_schedule(mistakes);
        attribute.schedule = match (cron, every) {
            (Some(line), _) => Some(Schedule::Cron { line, tz: tz.unwrap_or_else(|| "UTC".to_owned()) }),
            (None, Some(every)) => Some(Schedule::Every(every)),
            (None, None) => None,
        };
        attribute
    }

    /// Notes the options that a declaration without a body must not have; `function` is its name.
    pub(crate) fn check_declaration(&self, function: &Ident, mistakes: &mut Mistakes) {
        if self.entry_named("name").is_none() {
            mistakes.at(
                function,
                "a task without a body lives elsewhere and needs the name it has there; write \
                 `#[task(name = \"project.task\")]`, or give it a body",
            );
        }
        for entry in self.entries.iter().filter(|entry| FOR_THE_WORKER.iter().any(|option| entry.key == option)) {
            let message = format!(
                "`{}` is decided where the task lives, and this declaration has no body; leave it out here",
                entry.key
            );
            mistakes.at(&entry.key, message);
        }
    }

    /// Returns the place where the option `name` is given; `None` if it is not.
    pub(crate) fn span_of(&self, name: &str) -> Option<Span> {
        self.entry_named(name).map(|entry| entry.key.span())
    }

    fn check_limits(&self, mistakes: &mut Mistakes) {
        if let (Some(soft), Some(hard)) = (self.soft_time_limit, self.time_limit)
            && soft >= hard
            && let Some(entry) = self.entry_named("soft_time_limit")
        {
            let message = "the soft limit must be shorter than `time_limit`, or the task has no time to stop by itself; \
                           write for example `soft_time_limit = \"20s\", time_limit = \"30s\"`";
            mistakes.at_span(entry.span(), message);
        }
    }

    fn check_schedule(&self, mistakes: &mut Mistakes) {
        if let (Some(_), Some(every)) = (self.entry_named("cron"), self.entry_named("every")) {
            mistakes
                .at(&every.key, "a task has one schedule: keep `cron` or `every`, and add the other to `taskq.toml`");
        }
        if let (None, Some(tz)) = (self.entry_named("cron"), self.entry_named("tz")) {
            mistakes.at(&tz.key, "`tz` is the time zone of a `cron` line; write `cron = \"0 9 * * *\"` beside it");
        }
    }

    fn entry(&self, key: &Ident) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == *key)
    }

    fn entry_named(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == name)
    }
}

fn describe_unknown(option: &str) -> String {
    if let Some((_, remedy)) = SYNONYMS.iter().find(|(word, _)| *word == option) {
        return format!("there is no option `{option}`; {remedy}");
    }
    let names = OPTIONS.map(|(name, _)| name);
    match nearest(option, names) {
        Some(name) => format!("there is no option `{option}`; did you mean `{name}`?"),
        None => format!("there is no option `{option}`; there are {}", names.join(", ")),
    }
}

fn check_name(name: &str) -> Result<String, String> {
    check_length("a task's name", name)?;
    match name.chars().find(|letter| letter.is_whitespace() || letter.is_control()) {
        Some(_) => Err(format!("a task's name has no spaces in it; write for example {:?}", joined(name))),
        None => Ok(name.to_owned()),
    }
}

fn check_queue(name: &str) -> Result<String, String> {
    check_length("a queue's name", name)?;
    if name.starts_with("amq.") {
        return Err("queues whose names begin with `amq.` belong to RabbitMQ; choose another name".to_owned());
    }
    if name.starts_with("taskq.") {
        return Err(
            "queues whose names begin with `taskq.` belong to taskq, which keeps dead and delayed messages in \
                    them; choose another name"
                .to_owned(),
        );
    }
    if name.ends_with(".quarantine") {
        return Err("a queue whose name ends in `.quarantine` holds tasks that have crashed their workers and run \
                    alone; choose another name"
            .to_owned());
    }
    Ok(name.to_owned())
}

/// AMQP's short strings end at 255 bytes.
fn check_length(what: &str, name: &str) -> Result<(), String> {
    match name.len() {
        1..=255 => Ok(()),
        0 => Err(format!("{what} is not empty; write one, or leave the option out")),
        length => Err(format!("{what} has at most 255 bytes, and this one has {length}; shorten it")),
    }
}

/// Returns `name` with an underscore in place of each character that is not allowed.
fn joined(name: &str) -> String {
    name.trim().replace(|letter: char| letter.is_whitespace() || letter.is_control(), "_")
}

/// Reads the value of `ack`: true for early acknowledgement.
fn read_ack(text: &str) -> Result<bool, String> {
    match text {
        "late" => Ok(false),
        "early" => Ok(true),
        _ => Err(format!(
            "{text:?} is not a time to acknowledge at; write \"late\" (after the attempt, the default) or \"early\" (before \
             it: a crash loses the task)"
        )),
    }
}

fn read_crate(text: &str) -> Result<Path, String> {
    syn::parse_str(text).map_err(|_| {
        format!("{text:?} is not the name of a crate; write taskq's name in your Cargo.toml: `crate = \"tq\"`")
    })
}
