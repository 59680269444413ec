//! The end of a message that a worker gives up: its copy for the dead set.

use chrono::{DateTime, Utc};

use super::DeadLetter;
use crate::attempt::{Reason, Verdict};
use crate::broker::Delivery;
use crate::codec::{self, DecodeError};
use crate::message::{Envelope, Failure, Payload, Record, TaskId, WireMessage};

/// Returns a task's message with its letter, for the dead set. `queue` is the queue that it was taken from.
pub fn dead_message(
    envelope: &Envelope,
    queue: &str,
    reason: Reason,
    failure: &Failure,
    now: DateTime<Utc>,
) -> WireMessage {
    let attempts = envelope.attempt.saturating_add(1);
    let letter = DeadLetter::new(reason.as_str(), queue, &envelope.task, failure, attempts, now);
    let mut message = codec::encode(envelope.clone());
    letter.stamp(&mut message.headers);
    message
}

/// The end of a message that is no task message.
#[derive(Debug)]
pub struct Unreadable {
    /// The readable part of the message: its id, if it has one, and its task's name.
    pub envelope: Envelope,
    /// The copy for the dead set.
    pub message: WireMessage,
    /// If the message has an id: the record that tells those that wait for the task.
    pub record: Option<Record>,
}

impl Unreadable {
    /// Ends a delivered message that was not decoded because of `error`.
    pub fn new(delivery: &Delivery, error: &DecodeError, now: DateTime<Utc>) -> Self {
        let (queue, mut message) = (&delivery.queue, delivery.message.clone());
        let failure = Failure::new("taskq", "DecodeError", error.to_string());
        let id = message.headers.text("id").and_then(|text| TaskId::parse(text).ok());
        let known = id.is_some();
        let task = message.headers.text("task").unwrap_or("(none)").to_owned();
        let letter = DeadLetter::new(Reason::Decode.as_str(), queue, &task, &failure, 0, now);
        letter.stamp(&mut message.headers);
        let envelope = Envelope::new(id.unwrap_or_default(), task, Payload::default());
        let verdict = Verdict::Fail { reason: Reason::Decode, failure };
        let record = verdict.record(&envelope, now).filter(|_| known);
        Self { envelope, message, record }
    }
}
