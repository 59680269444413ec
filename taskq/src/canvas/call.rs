//! A call: a task, its arguments and its options. It is a value that does nothing until it is awaited.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Arg, TaskArgument};
use crate::definition::TaskOptions;
use crate::message::{HeaderValue, Headers, Json, TaskId};
use crate::redact::Size;

/// A call of a task that returns a `T`.
///
/// Made by calling the task; enqueued by `.await`, which returns a handle once the broker has confirmed the message.
/// Options are set in between:
///
/// ```
/// # use taskq::task;
/// #[task]
/// pub async fn add(x: i64, y: i64) -> i64 { x + y }
///
/// let call = add(2, 3).queue("low").countdown("10s").priority(7).expires("1h");
/// assert_eq!(call.parts().task, "taskq.add");
/// ```
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<T> {
    parts: Box<CallParts>,
    returns: PhantomData<fn() -> T>,
}

/// The parts of a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallParts {
    /// The task's name.
    pub task: Cow<'static, str>,
    /// The task's own options.
    pub task_options: &'static TaskOptions,
    /// The arguments.
    pub arguments: ArgumentList,
    /// The options of this call.
    pub options: CallOptions,
    /// The caller's first mistake in making the call; reported when it is sent.
    pub mistake: Option<String>,
}

/// The options of one call; each overrides the task's.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// The id; a fresh one if not given.
    pub id: Option<TaskId>,
    /// The queue.
    pub queue: Option<Cow<'static, str>>,
    /// The priority, 0 to 255; larger is served first, on queues that know priorities. None is 0.
    pub priority: Option<u8>,
    /// The time to wait before the task may run.
    pub countdown: Option<Duration>,
    /// The earliest time at which the task may run.
    pub eta: Option<DateTime<Utc>>,
    /// The time after which the task is no longer wanted.
    pub expires: Option<Duration>,
    /// The soft limit of each attempt.
    pub soft_time_limit: Option<Duration>,
    /// The hard limit of each attempt.
    pub time_limit: Option<Duration>,
    /// Whether the result is not stored.
    pub ignore_result: Option<bool>,
    /// The caller's own headers.
    pub headers: Headers,
    /// The key that at most one such call holds at a time.
    pub unique: Option<Unique>,
    /// Whether another process may send the call as well, under this id.
    pub scheduled: bool,
    /// Whether the arguments are sealed, also if the task does not ask for it.
    pub sealed: bool,
}

/// A key that at most one call holds at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unique {
    /// The key.
    pub key: String,
    /// The time for which the first call holds the key.
    pub ttl: Duration,
}

/// The arguments of a call, serialized one by one as they are given.
#[derive(Clone, Default)]
pub struct ArgumentList {
    /// A JSON list, without its closing bracket; empty while there is no argument.
    positional: Vec<u8>,
    /// A JSON map.
    named: Option<Vec<u8>>,
}

impl ArgumentList {
    /// Makes an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a list of arguments by position and by name, from plain JSON.
    pub fn from_json(
        positional: &[serde_json::Value],
        named: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, serde_json::Error> {
        let mut list = Self::new();
        for value in positional {
            list.push(value)?;
        }
        if !named.is_empty() {
            list.named = Some(serde_json::to_vec(named)?);
        }
        Ok(list)
    }

    /// Makes a list of arguments by position and by name, each of which is sent as it is written.
    pub fn from_raw(positional: &[Json], named: &BTreeMap<String, Json>) -> Self {
        let mut list = Self::new();
        for value in positional {
            list.positional.push(if list.positional.is_empty() { b'[' } else { b',' });
            list.positional.extend_from_slice(value.get().as_bytes());
        }
        if !named.is_empty() {
            list.named = Some(serde_json::to_vec(named).expect("JSON with text keys can be written as JSON"));
        }
        list
    }

    fn push<T: TaskArgument>(&mut self, value: &T) -> Result<(), serde_json::Error> {
        let start = self.positional.len();
        self.positional.push(if start == 0 { b'[' } else { b',' });
        let outcome = value.serialize_into(&mut self.positional);
        if outcome.is_err() {
            self.positional.truncate(start);
        }
        outcome
    }

    /// Writes the positional arguments as a JSON list, a comma, and the named ones as a JSON map.
    pub fn write_json(&self, body: &mut Vec<u8>) {
        if self.positional.is_empty() {
            body.push(b'[');
        }
        body.extend_from_slice(&self.positional);
        body.extend_from_slice(b"],");
        body.extend_from_slice(self.named.as_deref().unwrap_or(b"{}"));
    }

    /// Returns the size of the arguments in bytes.
    pub fn len(&self) -> usize {
        self.positional.len() + self.named.as_ref().map_or(0, Vec::len)
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for ArgumentList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArgumentList").field(&Size(self.len())).finish()
    }
}

/// A duration: a [`Duration`], or text such as `"30s"`, `"5m"` or `"1h 30m"`.
pub trait IntoDuration {
    /// Converts to a duration, or to a description of the mistake in the text.
    fn into_duration(self) -> Result<Duration, String>;
}

impl IntoDuration for Duration {
    fn into_duration(self) -> Result<Duration, String> {
        Ok(self)
    }
}

impl IntoDuration for &str {
    fn into_duration(self) -> Result<Duration, String> {
        humantime::parse_duration(self)
            .map_err(|error| format!("{self:?} is not a length of time ({error}); write for example \"30s\" or \"5m\""))
    }
}

impl IntoDuration for String {
    fn into_duration(self) -> Result<Duration, String> {
        self.as_str().into_duration()
    }
}

impl<T> Call<T> {
    /// Makes a call of `task` without arguments and options. Used by `#[task]`.
    #[doc(hidden)]
    pub fn new(task: impl Into<Cow<'static, str>>, task_options: &'static TaskOptions) -> Self {
        Self {
            parts: Box::new(CallParts {
                task: task.into(),
                task_options,
                arguments: ArgumentList::new(),
                options: CallOptions::default(),
                mistake: None,
            }),
            returns: PhantomData,
        }
    }

    /// Makes a call by name, of a task that this program does not declare.
    pub fn named(task: impl Into<String>, arguments: ArgumentList) -> Self {
        static PLAIN: TaskOptions = TaskOptions::DEFAULT;
        let mut call = Self::new(task.into(), &PLAIN);
        call.parts.arguments = arguments;
        call
    }

    /// Adds the next argument. Used by `#[task]`.
    #[doc(hidden)]
    pub fn with_arg<A: TaskArgument>(mut self, parameter: &'static str, arg: &Arg<A>) -> Self {
        if let Err(error) = self.parts.arguments.push(&arg.0) {
            self.mistake(|| format!("the argument `{parameter}` cannot be written as JSON: {error}"));
        }
        self
    }

    /// Returns the parts of the call.
    pub fn parts(&self) -> &CallParts {
        &self.parts
    }

    /// Returns the parts of the call, by value.
    pub fn into_parts(self) -> CallParts {
        *self.parts
    }

    /// Sends the call to this queue. A name that begins with `taskq.` belongs to taskq and is refused when the call is
    /// sent.
    pub fn queue(mut self, queue: impl Into<Cow<'static, str>>) -> Self {
        self.parts.options.queue = Some(queue.into());
        self
    }

    /// Runs the task no earlier than this long after the call was sent: `"10s"`, `"5m"` or a [`Duration`].
    pub fn countdown(mut self, delay: impl IntoDuration) -> Self {
        self.parts.options.countdown = self.time(delay);
        self
    }

    /// Runs the task no earlier than at this time.
    pub fn eta(mut self, time: DateTime<Utc>) -> Self {
        self.parts.options.eta = Some(time);
        self
    }

    /// Sets the priority; larger is served first, and a call without one has 0. With 0 to 9 the order is the same on
    /// every broker that orders by priority; the guide on configuration says which queues do.
    pub fn priority(mut self, priority: u8) -> Self {
        self.parts.options.priority = Some(priority);
        self
    }

    /// Revokes the task if it has not begun this long after the call was sent.
    pub fn expires(mut self, after: impl IntoDuration) -> Self {
        self.parts.options.expires = self.time(after);
        self
    }

    /// Sets the time after which an attempt is asked to stop.
    pub fn soft_time_limit(mut self, limit: impl IntoDuration) -> Self {
        self.parts.options.soft_time_limit = self.time(limit);
        self
    }

    /// Sets the time after which an attempt is stopped.
    pub fn time_limit(mut self, limit: impl IntoDuration) -> Self {
        self.parts.options.time_limit = self.time(limit);
        self
    }

    /// Sets whether the result is not stored.
    pub fn ignore_result(mut self, ignore: bool) -> Self {
        self.parts.options.ignore_result = Some(ignore);
        self
    }

    /// Seals the arguments, also if the task does not ask for it: those who have no key of `sealing_keys` cannot read
    /// them.
    pub fn sealed(mut self) -> Self {
        self.parts.options.sealed = true;
        self
    }

    /// Adds a header to the message. Names beginning with `taskq-` or `x-`, and the names that the message format
    /// itself uses, are refused when the call is sent.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<HeaderValue>) -> Self {
        let name = name.into();
        if crate::codec::is_reserved_header(&name) {
            self.mistake(|| format!("the header name {name:?} is used by the message format; choose another"));
            return self;
        }
        let value = value.into();
        if let Some(number) = beyond_amqp(&value) {
            self.mistake(|| {
                format!(
                    "the header {name:?} holds the integer {number}, and AMQP has none larger than {}; write a text",
                    i64::MAX
                )
            });
        } else {
            self.parts.options.headers.set(name, value);
        }
        self
    }

    /// Gives the task this id in place of a fresh one. Two calls with one id are one task in the result backend.
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        match TaskId::parse(id.as_ref()) {
            Ok(id) => self.parts.options.id = Some(id),
            Err(error) => self.mistake(|| error.to_string()),
        }
        self
    }

    /// Reserves `key` for `ttl`: within that time, further calls with the key enqueue nothing and return the handle of
    /// the first call's task, running or finished. Needs a Kv store (Redis, SQLite or memory).
    pub fn unique(mut self, key: impl Into<String>, ttl: impl IntoDuration) -> Self {
        if let Some(ttl) = self.time(ttl) {
            self.parts.options.unique = Some(Unique { key: key.into(), ttl });
        }
        self
    }

    /// Marks the call as one that another process may send as well under this id, because it cannot know whether this
    /// process did. A worker then verifies before it runs the task that no other copy has run, which needs a Kv store
    /// (Redis, SQLite or memory). For schedulers.
    #[doc(hidden)]
    pub fn scheduled(mut self) -> Self {
        self.parts.options.scheduled = true;
        self
    }

    fn time(&mut self, time: impl IntoDuration) -> Option<Duration> {
        match time.into_duration() {
            Ok(time) => Some(time),
            Err(mistake) => {
                self.mistake(|| mistake);
                None
            }
        }
    }

    /// Keeps the first mistake; later ones often follow from it.
    fn mistake(&mut self, text: impl FnOnce() -> String) {
        self.parts.mistake.get_or_insert_with(text);
    }
}

/// Returns the first integer in a header that would become a float on the way.
fn beyond_amqp(value: &HeaderValue) -> Option<u64> {
    match value {
        HeaderValue::Number(number) => number.as_u64().filter(|number| i64::try_from(*number).is_err()),
        HeaderValue::Array(items) => items.iter().find_map(beyond_amqp),
        HeaderValue::Object(entries) => entries.values().find_map(beyond_amqp),
        HeaderValue::Null | HeaderValue::Bool(_) | HeaderValue::String(_) => None,
    }
}

impl<T> Clone for Call<T> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone(), returns: PhantomData }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.parts.task)
    }
}

#[cfg(test)]
mod tests;
