//! Task messages by Celery's protocol 2: headers and properties ↔ [`Envelope`].
//!
//! Source: <https://docs.celeryq.dev/en/stable/internals/protocol.html>. Only headers with a meaning are sent; headers
//! that we do not interpret are kept and passed on. Facts for which Celery has no header have headers that begin with
//! `taskq-`.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

use crate::message::{Envelope, HeaderValue, Headers, Payload, Properties, TaskId, TimeLimits, WireMessage};

/// Headers that [`decode`] reads into fields of the envelope and [`encode`] writes from them.
const INTERPRETED: [&str; 13] = [
    "lang",
    "task",
    "id",
    "retries",
    "eta",
    "expires",
    "timelimit",
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "origin",
    "ignore_result",
];

/// Headers of Celery's own that we pass on unread.
const PASSED_ON: [&str; 6] = ["shadow", "argsrepr", "kwargsrepr", "replaced_task_nesting", "stamped_headers", "stamps"];

const COMPRESSION: &str = "compression";
const GENERATION: &str = "taskq-generation";
const SNOOZES: &str = "taskq-snoozes";
const MOVED: &str = "taskq-moved";
const SCHEDULED: &str = "taskq-scheduled";
const PUT_BACK: &str = "taskq-put-back";
const ORIGIN_QUEUE: &str = "taskq-origin-queue";
const CLOCK: &str = "taskq-clock";
const RETURNS: &str = "taskq-returns";

/// The eta again, if the broker serves the delay until then. Another client that sends the message on with another eta,
/// and no delay, copies this header unread.
const DELAY_SERVED: &str = "taskq-delay-served";

/// The header that marks a message that its publisher sent again.
pub const RESENT: &str = "taskq-resent";

/// The header in which a broker adapter says what of a message could not be read. Such a message is no task message
/// any more.
pub(crate) const UNREADABLE: &str = "taskq-unreadable";

/// The header of a signature.
pub(crate) const SIGNATURE: &str = "taskq-signature";

/// The longest name of a task, in bytes. Names go into logs, records and dead letters, and anybody can send one.
const TASK_BYTES_MAX: usize = 1000;

/// An error in a message that prevents its decoding as a task message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a task message of protocol 2.
    #[error("the message has no header `task`; only task messages of Celery's protocol 2 are understood")]
    NoTask,
    /// Properties or headers that are damaged, or nested too deep.
    #[error("the message cannot be read: {what}")]
    Unreadable {
        /// The parts that cannot be read, and why.
        what: String,
    },
    /// A header of another type than the protocol says.
    #[error("the header `{header}` is {got}, and should be {expected}")]
    Header {
        /// The header's name.
        header: &'static str,
        /// The value in the message.
        got: String,
        /// The form that the protocol prescribes.
        expected: &'static str,
    },
}

/// Returns whether a header with this name belongs to the message format, so that users cannot set it.
pub fn is_reserved_header(name: &str) -> bool {
    is_celery_header(name) || name.starts_with("taskq-") || name.starts_with("x-death") || name.starts_with("x-first-")
}

/// Returns whether a header with this name is one of Celery's own.
pub fn is_celery_header(name: &str) -> bool {
    INTERPRETED.contains(&name) || PASSED_ON.contains(&name) || name == COMPRESSION
}

/// Encodes an envelope as a message.
pub fn encode(envelope: Envelope) -> WireMessage {
    let mut headers = Headers::with_capacity(8 + envelope.headers.len());
    headers.push("lang", "rs");
    headers.push("task", envelope.task.into_owned());
    headers.push("id", envelope.id.as_str());
    push_some(&mut headers, "root_id", envelope.root_id.as_ref().map(TaskId::as_str));
    push_some(&mut headers, "parent_id", envelope.parent_id.as_ref().map(TaskId::as_str));
    push_some(&mut headers, "origin", envelope.origin);
    push_some(&mut headers, "group", envelope.group_id);
    push_some(&mut headers, "group_index", envelope.group_index);
    push_some(&mut headers, "eta", envelope.eta.map(time_text));
    push_some(&mut headers, DELAY_SERVED, envelope.eta.filter(|_| envelope.delay_served).map(time_text));
    push_some(&mut headers, "expires", envelope.expires.map(time_text));
    push_some(&mut headers, CLOCK, envelope.sender_clock.map(|ahead| ahead.num_milliseconds()));
    push_some(&mut headers, "ignore_result", envelope.ignore_result);
    push_some(&mut headers, COMPRESSION, envelope.payload.compression);
    push_some(
        &mut headers,
        PUT_BACK,
        envelope.put_back.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    );
    push_some(&mut headers, ORIGIN_QUEUE, envelope.origin_queue);
    if envelope.limits != TimeLimits::default() {
        headers.push("timelimit", vec![seconds(envelope.limits.hard), seconds(envelope.limits.soft)]);
    }
    for (key, number) in [
        ("retries", envelope.attempt),
        (GENERATION, envelope.generation),
        (SNOOZES, envelope.snoozes),
        (RETURNS, envelope.returns),
    ] {
        if number > 0 {
            headers.push(key, number);
        }
    }
    for (key, flag) in [(RESENT, envelope.resent), (MOVED, envelope.moved), (SCHEDULED, envelope.scheduled)] {
        if flag {
            headers.push(key, true);
        }
    }
    for (key, value) in envelope.headers {
        headers.push(key, value);
    }
    WireMessage {
        properties: Properties {
            content_type: Some(envelope.payload.content_type),
            content_encoding: Some(envelope.payload.content_encoding),
            priority: Some(envelope.priority.unwrap_or(PRIORITY_NONE)),
            correlation_id: Some(envelope.id.as_str().to_owned()),
            reply_to: envelope.reply_to,
        },
        headers,
        body: envelope.payload.body,
    }
}

fn push_some(headers: &mut Headers, key: &'static str, value: Option<impl Into<HeaderValue>>) {
    if let Some(value) = value {
        headers.push(key, value);
    }
}

/// The priority of a message that names none, as Celery writes it. Quorum queues since RabbitMQ 4.3 take a message
/// without the property for one of priority 4, which would come before 1 to 3.
const PRIORITY_NONE: u8 = 0;

/// Returns a limit as Celery writes it: whole seconds as an integer, others as a float.
fn seconds(limit: Option<Duration>) -> Value {
    match limit {
        None => Value::Null,
        Some(limit) if limit.subsec_nanos() == 0 => limit.as_secs().into(),
        Some(limit) => limit.as_secs_f64().into(),
    }
}

/// Decodes the headers and properties of a message. The body is not read.
pub fn decode(message: &WireMessage) -> Result<Envelope, DecodeError> {
    let properties = &message.properties;
    let payload = Payload {
        content_type: properties.content_type.clone().unwrap_or_default(),
        content_encoding: properties.content_encoding.clone().unwrap_or_default(),
        compression: None,
        body: message.body.clone(),
    };
    if let Some(what) = message.headers.get(UNREADABLE) {
        return Err(DecodeError::Unreadable { what: what.as_str().unwrap_or_default().to_owned() });
    }
    let (mut task, mut id, mut served) = (None, None, None);
    // The placeholders below are replaced before the envelope leaves this function.
    let mut envelope = Envelope::new(TaskId::placeholder(), "", payload);
    envelope.priority = properties.priority.filter(|priority| *priority != PRIORITY_NONE);
    envelope.reply_to = properties.reply_to.clone().filter(|queue| !queue.is_empty());
    for (key, value) in message.headers.iter() {
        // An explicit null means an absent header.
        if value.is_null() {
            continue;
        }
        match key {
            // A signature holds for the message as it came; what is published next is signed anew.
            "lang" | SIGNATURE => {}
            "task" => match value.as_str() {
                Some(name) if (1..=TASK_BYTES_MAX).contains(&name.len()) => task = Some(name.to_owned()),
                _ => return Err(wrong("task", value, "a task's name, of 1 to 1000 bytes")),
            },
            "id" => id = Some(task_id(("id", value))?),
            "retries" => envelope.attempt = count(("retries", value))?,
            GENERATION => envelope.generation = count((GENERATION, value))?,
            SNOOZES => envelope.snoozes = count((SNOOZES, value))?,
            "eta" => envelope.eta = Some(time(("eta", value))?),
            "expires" => envelope.expires = Some(time(("expires", value))?),
            "timelimit" => envelope.limits = limits(value)?,
            "root_id" => envelope.root_id = Some(task_id(("root_id", value))?),
            "parent_id" => envelope.parent_id = Some(task_id(("parent_id", value))?),
            "group" => envelope.group_id = Some(text(("group", value))?),
            "group_index" => envelope.group_index = Some(integer(("group_index", value))?),
            "origin" => envelope.origin = Some(text(("origin", value))?),
            "ignore_result" => envelope.ignore_result = Some(flag(("ignore_result", value))?),
            RESENT => envelope.resent = flag((RESENT, value))?,
            MOVED => envelope.moved = flag((MOVED, value))?,
            SCHEDULED => envelope.scheduled = flag((SCHEDULED, value))?,
            CLOCK => {
                let ahead = integer((CLOCK, value))?;
                let ahead = TimeDelta::try_milliseconds(ahead).ok_or_else(|| wrong(CLOCK, value, "milliseconds"))?;
                envelope.sender_clock = Some(ahead);
            }
            PUT_BACK => envelope.put_back = Some(milliseconds((PUT_BACK, value))?),
            DELAY_SERVED => served = Some(time((DELAY_SERVED, value))?),
            RETURNS => envelope.returns = count((RETURNS, value))?,
            ORIGIN_QUEUE => envelope.origin_queue = Some(text((ORIGIN_QUEUE, value))?),
            COMPRESSION => envelope.payload.compression = Some(text((COMPRESSION, value))?),
            _ => envelope.headers.push(key.to_owned(), value.clone()),
        }
    }
    envelope.delay_served = served.is_some() && served == envelope.eta;
    envelope.task = Cow::Owned(task.ok_or(DecodeError::NoTask)?);
    envelope.id = id.ok_or_else(|| DecodeError::Header { header: "id", got: "missing".to_owned(), expected: ID })?;
    Ok(envelope)
}

/// A header and its value.
type HeaderEntry<'a> = (&'static str, &'a Value);

const ID: &str = "a text of 1 to 255 bytes";

fn wrong(header: &'static str, got: &Value, expected: &'static str) -> DecodeError {
    DecodeError::Header { header, got: got.to_string().chars().take(100).collect(), expected }
}

fn text((header, value): HeaderEntry<'_>) -> Result<String, DecodeError> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(header, value, "text"))
}

fn task_id((header, value): HeaderEntry<'_>) -> Result<TaskId, DecodeError> {
    value.as_str().and_then(|text| TaskId::parse(text).ok()).ok_or_else(|| wrong(header, value, ID))
}

fn integer((header, value): HeaderEntry<'_>) -> Result<i64, DecodeError> {
    value.as_i64().ok_or_else(|| wrong(header, value, "an integer"))
}

fn count((header, value): HeaderEntry<'_>) -> Result<u32, DecodeError> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| wrong(header, value, "an integer from 0 to 2³²−1"))
}

fn milliseconds((header, value): HeaderEntry<'_>) -> Result<Duration, DecodeError> {
    value.as_u64().map(Duration::from_millis).ok_or_else(|| wrong(header, value, "a number of milliseconds"))
}

fn flag((header, value): HeaderEntry<'_>) -> Result<bool, DecodeError> {
    value.as_bool().ok_or_else(|| wrong(header, value, "true or false"))
}

fn time((header, value): HeaderEntry<'_>) -> Result<DateTime<Utc>, DecodeError> {
    let time = value.as_str().and_then(parse_time);
    time.ok_or_else(|| wrong(header, value, "a time such as 2026-01-31T12:00:00+00:00"))
}

fn limits(value: &Value) -> Result<TimeLimits, DecodeError> {
    let refuse = || wrong("timelimit", value, "a list of the hard and the soft limit in seconds, or null");
    let [hard, soft] = value.as_array().ok_or_else(refuse)?.as_slice() else { return Err(refuse()) };
    let limit = |value: &Value| match value {
        Value::Null => Ok(None),
        other => {
            let seconds = other.as_f64().ok_or_else(refuse)?;
            Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| refuse())
        }
    };
    Ok(TimeLimits { hard: limit(hard)?, soft: limit(soft)? })
}

/// Returns a time as Celery writes it, with offset and microseconds.
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, false)
}

/// Parses a time as Celery or another writer may write it; without offset it is UTC.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"]
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok())
        .map(|time| time.to_utc())
        .or_else(|| {
            ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
                .map(|time| time.and_utc())
        })
}

#[cfg(test)]
mod tests;
