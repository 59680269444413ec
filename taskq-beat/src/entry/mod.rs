//! What is to be sent, when, and what happens if it could not be: one entry per periodic task.
//!
//! Entries come from three places: the attributes of tasks, `[schedule.NAME]` in `taskq.toml`, and whoever adds some at run
//! time. [`collect`] puts the first two together; what was added at run time is kept as JSON, in the same form as in the
//! file, and read back by the same [`Entry::read`]. [`check`] holds entries against the tasks of a program.
//!
//! All mistakes are reported together, each with its place and the mend.

mod check;
mod mistake;
mod options;
mod read;
mod sources;
#[cfg(test)]
mod tests;

use chrono::SecondsFormat;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

pub use self::check::{check, check_overlap};
pub use self::mistake::{Mistake, Mistakes};
pub use self::options::{Misfire, OnDoubt, Origin, Overlap};
pub use self::sources::{add, collect};
use crate::schedule::Schedule;

use std::time::Duration;

/// The most slots that are fired together after an outage, where nothing else is said.
pub const MISFIRE_MAX_DEFAULT: u32 = 100;

/// A task that is sent by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name, one of a kind; part of the ids of what is sent.
    pub name: String,
    /// The name of the task.
    pub task: String,
    /// The arguments by position.
    pub args: Vec<Value>,
    /// The arguments by name.
    pub kwargs: Map<String, Value>,
    /// When.
    pub schedule: Schedule,
    /// The queue. Default: the task's.
    pub queue: Option<String>,
    /// 0 to 255, larger first. Default: the task's.
    pub priority: Option<u8>,
    /// What has not begun so long after it was due ends as `REVOKED`, and is not sent any more. Default: the task's own
    /// limit, from when it is sent.
    pub expires: Option<Duration>,
    /// What becomes of slots that were missed.
    pub misfire: Misfire,
    /// The most slots that `misfire = "all"` fires together; older ones are reported as missed.
    pub misfire_max: u32,
    /// A slot is due up to so long after its time, at a moment that depends on the entry and the slot, and before the next
    /// slot.
    pub jitter: Duration,
    /// Whether it is sent while the run before is not over.
    pub overlap: Overlap,
    /// What a beat does that cannot know whether the one before it has sent a slot.
    pub on_doubt: OnDoubt,
    /// Whether it is sent at all.
    pub enabled: bool,
    /// The task lives in another program: its name and arguments are not checked.
    pub foreign: bool,
    /// Where the entry comes from.
    pub origin: Origin,
}

impl Entry {
    /// The entry `name` of `task` by `schedule`, with everything else as it is by default.
    pub fn new(name: impl Into<String>, task: impl Into<String>, schedule: Schedule, origin: Origin) -> Self {
        Self {
            name: name.into(),
            task: task.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            schedule,
            queue: None,
            priority: None,
            expires: None,
            misfire: Misfire::default(),
            misfire_max: MISFIRE_MAX_DEFAULT,
            jitter: Duration::ZERO,
            overlap: Overlap::default(),
            on_doubt: OnDoubt::default(),
            enabled: true,
            foreign: false,
            origin,
        }
    }

    /// The entry that a JSON object describes: `{"task": "reports.nightly", "cron": "0 2 * * *", "tz": "Europe/Berlin"}`,
    /// with the keys of `[schedule.NAME]` in `taskq.toml`. Fails with all mistakes there are.
    pub fn read(name: &str, description: &Value, origin: Origin) -> Result<Self, Mistakes> {
        read::entry(name, description, origin)
    }

    /// The object that describes the entry, as [`Entry::read`] takes it. What is as by default is left out.
    pub fn describe(&self) -> Value {
        let time = |time: Duration| Value::String(read::time_text(time));
        let mut object = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(key.to_owned(), value);
            }
        };
        set("task", Some(Value::from(self.task.clone())));
        match &self.schedule {
            Schedule::Cron(cron) => {
                set("cron", Some(Value::from(cron.line())));
                set("tz", Some(Value::from(cron.tz().name())));
            }
            Schedule::Every(every) => {
                set("every", Some(time(every.period())));
                let start = every.anchor().to_rfc3339_opts(SecondsFormat::AutoSi, true);
                set("start", (every.anchor() != chrono::DateTime::UNIX_EPOCH).then(|| Value::from(start)));
            }
            Schedule::Once(once) => {
                set("once", Some(Value::from(once.at().to_rfc3339_opts(SecondsFormat::AutoSi, true))));
            }
        }
        set("args", (!self.args.is_empty()).then(|| Value::from(self.args.clone())));
        set("kwargs", (!self.kwargs.is_empty()).then(|| Value::from(self.kwargs.clone())));
        set("queue", self.queue.clone().map(Value::from));
        set("priority", self.priority.map(Value::from));
        set("expires", self.expires.map(time));
        set("misfire", (self.misfire != Misfire::default()).then(|| Value::from(self.misfire.as_str())));
        set("misfire_max", (self.misfire_max != MISFIRE_MAX_DEFAULT).then(|| Value::from(self.misfire_max)));
        set("jitter", (!self.jitter.is_zero()).then(|| time(self.jitter)));
        set("overlap", (self.overlap != Overlap::default()).then(|| Value::from(self.overlap.as_str())));
        set("on_doubt", (self.on_doubt != OnDoubt::default()).then(|| Value::from(self.on_doubt.as_str())));
        set("enabled", (!self.enabled).then_some(Value::Bool(false)));
        set("foreign", self.foreign.then_some(Value::Bool(true)));
        Value::Object(object)
    }
}

/// As [`Entry::describe`], with the name.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut description = self.describe();
        description["name"] = Value::from(self.name.clone());
        description.serialize(serializer)
    }
}

/// As [`Entry::read`], with the name; an entry that was written down was added at run time.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Map::deserialize(deserializer)?;
        let Some(Value::String(name)) = object.remove("name") else { return Err(D::Error::missing_field("name")) };
        Self::read(&name, &Value::Object(object), Origin::RunTime).map_err(D::Error::custom)
    }
}
