//! The description of an entry as JSON.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::entry::{Entry, MISFIRE_MAX_DEFAULT};
use super::options::{Misfire, OnDoubt, Origin, Overlap};
use super::time_span;
use crate::schedule::Schedule;

impl Entry {
    /// Returns the JSON object that describes the entry, in the form that [`Entry::read`] accepts. Defaults are left
    /// out.
    pub fn describe(&self) -> Value {
        let time = |time: Duration| Value::String(time_span::format(time));
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
                set("start", (every.anchor() != DateTime::UNIX_EPOCH).then(|| Value::from(start)));
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

/// Serializes the description of the entry together with its name.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut description = self.describe();
        description["name"] = Value::from(self.name.clone());
        description.serialize(serializer)
    }
}

/// Parses a description that holds the name too. The origin is [`Origin::RunTime`]: only entries added at run time are
/// serialized.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Map::deserialize(deserializer)?;
        let Some(Value::String(name)) = object.remove("name") else { return Err(D::Error::missing_field("name")) };
        Self::read(&name, &Value::Object(object), Origin::RunTime).map_err(D::Error::custom)
    }
}
