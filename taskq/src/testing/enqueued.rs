//! Waiting calls, and their comparison with an expected one.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::broker::memory::Waiting;
use crate::canvas::{Call, CallOptions};
use crate::codec::tree::Tree;
use crate::codec::{self, BodyError, MessageBody, Serializer};
use crate::definition::{Definition, Registry};
use crate::message::{Envelope, Headers, Payload, TaskId, TimeLimits};

/// The number of characters of one argument that are shown in texts.
const ARGUMENT_CHARACTERS_MAX: usize = 200;

/// A waiting call, as a worker would receive it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Enqueued {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub task: String,
    /// The arguments that were given by position. An integer of more than 64 bits is a text here.
    pub args: Vec<Value>,
    /// The arguments that were given by name.
    pub kwargs: Map<String, Value>,
    /// The queue that it waits in.
    pub queue: String,
    /// When it is due; `None` if that is now.
    pub due: Option<DateTime<Utc>>,
    /// The priority, if it has one.
    pub priority: Option<u8>,
    /// When it ends as `REVOKED` unless it has begun.
    pub expires: Option<DateTime<Utc>>,
    /// The limits that the call set.
    pub limits: TimeLimits,
    /// Whether the result is not stored, if the call said so.
    pub ignore_result: Option<bool>,
    /// The headers that the caller gave.
    pub headers: Headers,
    /// The number of its attempt, counted from 0.
    pub attempt: u32,
    /// The task during whose run it was sent.
    pub parent_id: Option<TaskId>,
    /// The time at which this was read.
    pub seen_at: DateTime<Utc>,
}

impl Enqueued {
    /// Reads a waiting message; `None` if it is no call.
    pub(super) fn read(waiting: &Waiting, now: DateTime<Utc>) -> Option<Self> {
        let envelope = codec::decode(&waiting.message).ok()?;
        Some(Self::of(&envelope, &waiting.queue, waiting.due, now))
    }

    pub(super) fn of(envelope: &Envelope, queue: &str, due: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        // Arguments that cannot be read are shown as none; the drain reports the reason.
        let (args, kwargs) = arguments(&envelope.payload).unwrap_or_default();
        let mut headers = envelope.headers.clone();
        headers.retain(|name| !codec::is_celery_header(name));
        Self {
            id: envelope.id.clone(),
            task: envelope.task.clone().into_owned(),
            args,
            kwargs,
            queue: queue.to_owned(),
            due,
            priority: envelope.priority,
            expires: envelope.expires,
            limits: envelope.limits,
            ignore_result: envelope.ignore_result,
            headers,
            attempt: envelope.attempt,
            parent_id: envelope.parent_id.clone(),
            seen_at: now,
        }
    }

    /// Returns the time until it is due.
    fn due_in(&self) -> Duration {
        self.due.and_then(|due| (due - self.seen_at).to_std().ok()).unwrap_or_default()
    }
}

/// `shop.welcome(42) in "mail", due in 10s, priority 3`.
impl fmt::Display for Enqueued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {:?}, due {}",
            call_text(&self.task, &self.args, &self.kwargs),
            self.queue,
            In(self.due_in())
        )?;
        if let Some(priority) = self.priority {
            write!(f, ", priority {priority}")?;
        }
        if let Some(expires) = self.expires {
            let left = (expires - self.seen_at).to_std().unwrap_or_default();
            write!(f, ", expires {}", In(left))?;
        }
        if self.attempt > 0 {
            write!(f, ", attempt {}", self.attempt)?;
        }
        Ok(())
    }
}

/// `in 10s`, or `now`.
struct In(Duration);

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Duration::ZERO => f.write_str("now"),
            time => write!(f, "in {}", humantime::format_duration(time)),
        }
    }
}

/// `shop.welcome(42, name="ada")`.
pub(super) fn call_text(task: &str, args: &[Value], kwargs: &Map<String, Value>) -> String {
    let positional = args.iter().map(argument_text);
    let named = kwargs.iter().map(|(name, value)| format!("{name}={}", argument_text(value)));
    format!("{task}({})", positional.chain(named).collect::<Vec<_>>().join(", "))
}

fn argument_text(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(ARGUMENT_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

type ArgumentValues = (Vec<Value>, Map<String, Value>);

fn arguments(payload: &Payload) -> Result<ArgumentValues, BodyError> {
    let body = MessageBody::read(payload, usize::MAX - 1)?;
    let arguments = body.arguments(usize::MAX - 1)?;
    let value = |json: &serde_json::value::RawValue| match Tree::parse(json.get()) {
        Ok(tree) => Ok(tree.to_value()),
        Err(error) => Err(BodyError::Form(error.to_string())),
    };
    let positional = arguments.positional().iter().map(|json| value(json)).collect::<Result<_, _>>()?;
    let named = arguments.named().map(|(name, json)| Ok((name.to_owned(), value(json)?)));
    Ok((positional, named.collect::<Result<_, BodyError>>()?))
}

/// A call that others are compared with.
pub(super) struct Expected {
    task: String,
    definition: Option<&'static Definition>,
    args: Vec<Value>,
    kwargs: Map<String, Value>,
    options: CallOptions,
}

impl Expected {
    /// Makes the expectation of a call, with its arguments as they would travel.
    #[track_caller]
    pub(super) fn of<T>(call: &Call<T>, registry: &Registry) -> Self {
        let parts = call.parts();
        if let Some(mistake) = &parts.mistake {
            panic!("the call of {} cannot be sent: {mistake}", parts.task);
        }
        let payload = codec::body::encode(|body| parts.arguments.write_json(body), Serializer::Json);
        let (args, kwargs) = match payload.and_then(|payload| arguments(&payload)) {
            Ok(arguments) => arguments,
            Err(error) => panic!("the call of {} cannot be sent: {error}", parts.task),
        };
        Self {
            task: parts.task.clone().into_owned(),
            definition: registry.get(&parts.task),
            args,
            kwargs,
            options: parts.options.clone(),
        }
    }

    /// Returns whether the two are at least of one task.
    pub(super) fn is_of_task(&self, there: &Enqueued) -> bool {
        self.task == there.task
    }

    /// Returns the differences of `there`: one line for each argument and for each option that the call names. Empty if
    /// there are none.
    pub(super) fn differences(&self, there: &Enqueued) -> Vec<String> {
        if !self.is_of_task(there) {
            return vec![format!("the task is {}, not {}", there.task, self.task)];
        }
        let mut found = self.differing_arguments(there);
        let mut compare = |what: &str, there: Option<String>, expected: Option<String>| {
            if expected.is_some() && there != expected {
                let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
                found.push(format!("{what} is {}, not {}", text(there), text(expected)));
            }
        };
        let options = &self.options;
        let time = |time: Duration| humantime::format_duration(time).to_string();
        compare("the id", Some(there.id.to_string()), options.id.as_ref().map(ToString::to_string));
        compare(
            "the queue",
            Some(format!("{:?}", there.queue)),
            options.queue.as_ref().map(|name| format!("{name:?}")),
        );
        let due = options.countdown.and_then(|delay| later(there.seen_at, delay)).or(options.eta);
        let due_in = due.map(|due| In((due - there.seen_at).to_std().unwrap_or_default()).to_string());
        compare("the time when it is due", Some(In(there.due_in()).to_string()), due_in);
        // No priority is one of 0.
        let priority = there.priority.or(options.priority.filter(|priority| *priority == 0));
        compare("the priority", priority.map(|it| it.to_string()), options.priority.map(|it| it.to_string()));
        let left = there.expires.map(|expires| time((expires - there.seen_at).to_std().unwrap_or_default()));
        compare("the time until it expires", left, options.expires.map(time));
        compare("the soft time limit", there.limits.soft.map(time), options.soft_time_limit.map(time));
        compare("the time limit", there.limits.hard.map(time), options.time_limit.map(time));
        let flag = |flag: Option<bool>| flag.map(|flag| flag.to_string());
        compare("`ignore_result`", flag(there.ignore_result), flag(options.ignore_result));
        for (name, value) in options.headers.iter() {
            let header = there.headers.get(name).map(ToString::to_string);
            compare(&format!("the header {name:?}"), header, Some(value.to_string()));
        }
        found
    }

    fn differing_arguments(&self, there: &Enqueued) -> Vec<String> {
        let expected = self.by_parameter(&self.args, &self.kwargs);
        let actual = self.by_parameter(&there.args, &there.kwargs);
        // What is left out is null to a task that is known here.
        let left_out = self.definition.map(|_| Value::Null);
        let find = |all: &[(String, Value)], name: &str| {
            all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).or_else(|| left_out.clone())
        };
        let extra = actual.iter().filter(|(name, _)| !expected.iter().any(|(known, _)| known == name));
        let names = expected.iter().chain(extra).map(|(name, _)| name);
        let text = |value: Option<Value>| value.map_or_else(|| "missing".to_owned(), |value| argument_text(&value));
        names
            .filter_map(|name| {
                let (is, should) = (find(&actual, name), find(&expected, name));
                (is != should).then(|| format!("{name} is {}, not {}", text(is), text(should)))
            })
            .collect()
    }

    /// Returns all arguments by name, as far as the parameters are known, so that it does not matter how they were
    /// given.
    fn by_parameter(&self, args: &[Value], kwargs: &Map<String, Value>) -> Vec<(String, Value)> {
        let parameters = self.definition.map_or(&[][..], |definition| definition.parameters);
        let positional = args.iter().enumerate().map(|(at, value)| match parameters.get(at) {
            Some(parameter) => (format!("`{}`", parameter.name), value.clone()),
            None => (format!("argument {}", at + 1), value.clone()),
        });
        let named = kwargs.iter().map(|(name, value)| (format!("`{name}`"), value.clone()));
        positional.chain(named).collect()
    }
}

/// Returns the time `by` after `now`; `None` after the end of time, which sending refuses.
fn later(now: DateTime<Utc>, by: Duration) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::from_std(by).ok()?)
}
