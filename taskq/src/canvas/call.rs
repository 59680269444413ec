//! A call: a task, its arguments and how it is to be sent. A value that does nothing until it is awaited.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Arg, TaskArgument};
use crate::definition::TaskOptions;
use crate::message::{HeaderValue, Headers, TaskId};

/// A call of a task that gives a `T`.
///
/// Made by calling the task; enqueued by `.await`, which gives a handle once the broker has confirmed the message.
/// Options are set on the way:
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

/// What a call consists of.
#[derive(Debug, Clone)]
pub struct CallParts {
    /// The task's name.
    pub task: Cow<'static, str>,
    /// The task's own options.
    pub task_options: &'static TaskOptions,
    /// The arguments.
    pub arguments: ArgumentList,
    /// The options of this call.
    pub options: CallOptions,
    /// What the caller got wrong while making it; reported when it is sent.
    pub mistake: Option<String>,
}

/// The options of one call; each overrides the task's.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// The id; a fresh one if not given.
    pub id: Option<TaskId>,
    /// The queue.
    pub queue: Option<Cow<'static, str>>,
    /// 0 to 255, larger first.
    pub priority: Option<u8>,
    /// Not before this long has passed.
    pub countdown: Option<Duration>,
    /// Not before this time.
    pub eta: Option<DateTime<Utc>>,
    /// Not after this long has passed.
    pub expires: Option<Duration>,
    /// The soft limit of each attempt.
    pub soft_time_limit: Option<Duration>,
    /// The hard limit of each attempt.
    pub time_limit: Option<Duration>,
    /// Whether the result is not stored.
    pub ignore_result: Option<bool>,
    /// Headers of the user's own.
    pub headers: Headers,
    /// At most one such call at a time.
    pub unique: Option<Unique>,
    /// Another process may send it as well, under the same id.
    pub scheduled: bool,
}

/// A key that at most one call holds at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key.
    pub key: String,
    /// For how long after the first call.
    pub ttl: Duration,
}

/// The arguments of a call, serialized one by one as they are given.
#[derive(Debug, Clone, Default)]
pub struct ArgumentList {
    /// A JSON list, without its closing bracket; empty while there is no argument.
    positional: Vec<u8>,
    /// A JSON map.
    named: Option<Vec<u8>>,
}

impl ArgumentList {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arguments by position and by name, from plain JSON.
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

    /// The size of the arguments in bytes.
    pub fn len(&self) -> usize {
        self.positional.len() + self.named.as_ref().map_or(0, Vec::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A length of time: a [`Duration`], or text as people write it (`"30s"`, `"5m"`, `"1h 30m"`).
pub trait IntoDuration {
    /// The duration, or what is wrong with the text.
    fn into_time(self) -> Result<Duration, String>;
}

impl IntoDuration for Duration {
    fn into_time(self) -> Result<Duration, String> {
        Ok(self)
    }
}

impl IntoDuration for &str {
    fn into_time(self) -> Result<Duration, String> {
        humantime::parse_duration(self)
            .map_err(|error| format!("{self:?} is not a length of time ({error}); write for example \"30s\" or \"5m\""))
    }
}

impl IntoDuration for String {
    fn into_time(self) -> Result<Duration, String> {
        self.as_str().into_time()
    }
}

impl<T> Call<T> {
    /// A call of `task` with nothing given yet. Used by `#[task]`.
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

    /// A call by name, of a task that this program does not declare.
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

    /// What the call consists of.
    pub fn parts(&self) -> &CallParts {
        &self.parts
    }

    /// What the call consists of, by value.
    pub fn into_parts(self) -> CallParts {
        *self.parts
    }

    /// Sends it to this queue.
    pub fn queue(mut self, queue: impl Into<Cow<'static, str>>) -> Self {
        self.parts.options.queue = Some(queue.into());
        self
    }

    /// Runs it no earlier than this long from when it is sent: `"10s"`, `"5m"` or a [`Duration`].
    pub fn countdown(mut self, delay: impl IntoDuration) -> Self {
        self.parts.options.countdown = self.time(delay);
        self
    }

    /// Runs it no earlier than at this time.
    pub fn eta(mut self, time: DateTime<Utc>) -> Self {
        self.parts.options.eta = Some(time);
        self
    }

    /// 0 to 255; larger is served first, on queues that were declared with priorities.
    pub fn priority(mut self, priority: u8) -> Self {
        self.parts.options.priority = Some(priority);
        self
    }

    /// If it has not begun this long after it was sent, it ends as `REVOKED`.
    pub fn expires(mut self, after: impl IntoDuration) -> Self {
        self.parts.options.expires = self.time(after);
        self
    }

    /// After this long an attempt is asked to stop.
    pub fn soft_time_limit(mut self, limit: impl IntoDuration) -> Self {
        self.parts.options.soft_time_limit = self.time(limit);
        self
    }

    /// After this long an attempt is stopped.
    pub fn time_limit(mut self, limit: impl IntoDuration) -> Self {
        self.parts.options.time_limit = self.time(limit);
        self
    }

    /// Whether the result is not stored.
    pub fn ignore_result(mut self, ignore: bool) -> Self {
        self.parts.options.ignore_result = Some(ignore);
        self
    }

    /// Sends a header of your own along. Names beginning with `taskq-` or `x-`, and the names that the message
    /// format itself uses, are refused when the call is sent.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<HeaderValue>) -> Self {
        let name = name.into();
        if crate::codec::is_reserved_header(&name) {
            self.mistake(|| format!("the header name {name:?} is used by the message format; choose another"));
        } else {
            self.parts.options.headers.set(name, value);
        }
        self
    }

    /// Gives it this id in place of a fresh one. Two sends of one id are one task to whoever asks for its result.
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        match TaskId::parse(id.as_ref()) {
            Ok(id) => self.parts.options.id = Some(id),
            Err(error) => self.mistake(|| error.to_string()),
        }
        self
    }

    /// Within `ttl` of the first call with this key, further calls with it enqueue nothing and give the handle of
    /// the first, running or finished. Needs a Kv store (Redis, SQLite or memory).
    pub fn unique(mut self, key: impl Into<String>, ttl: impl IntoDuration) -> Self {
        if let Some(ttl) = self.time(ttl) {
            self.parts.options.unique = Some(Unique { key: key.into(), ttl });
        }
        self
    }

    /// Says that another process may send the same call, under the same id, because it cannot know whether this one did. A
    /// worker then makes sure before it runs that no other copy has run; that needs a Kv store (Redis, SQLite or memory).
    pub fn scheduled(mut self) -> Self {
        self.parts.options.scheduled = true;
        self
    }

    fn time(&mut self, time: impl IntoDuration) -> Option<Duration> {
        match time.into_time() {
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
