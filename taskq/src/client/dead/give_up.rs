//! The end of a message that a worker gives up: its copy for the dead set.

use chrono::{DateTime, Utc};

use super::DeadLetter;
use crate::attempt::{Reason, Verdict};
use crate::broker::Delivery;
use crate::codec::{self, DecodeError};
use crate::message::{Envelope, Failure, Payload, Record, TaskId, WireMessage};
use crate::protection::SignatureFault;

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

/// The reason why a message is not run, whatever task it is of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A message that is no task message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A message that is not signed as it should be.
    #[error(transparent)]
    Signature(#[from] SignatureFault),
}

/// The end of a message that is refused.
#[derive(Debug)]
pub struct RefusedMessage {
    /// The readable part of the message: its id, if it has one, and its task's name.
    pub envelope: Envelope,
    /// The copy for the dead set.
    pub message: WireMessage,
    /// If the message has an id: the record that tells those that wait for the task.
    pub record: Option<Record>,
}

impl RefusedMessage {
    /// Ends a delivered message.
    pub fn new(delivery: &Delivery, refusal: &Refusal, now: DateTime<Utc>) -> Self {
        let (queue, mut message) = (&delivery.queue, delivery.message.clone());
        let (reason, error_type) = match refusal {
            Refusal::Decode(_) => (Reason::Decode, "DecodeError"),
            Refusal::Signature(_) => (Reason::Signature, "SignatureFault"),
        };
        let failure = Failure::new("taskq", error_type, refusal.to_string());
        // A sender that cannot sign must not end the task of that id for its caller either.
        let may_record = reason != Reason::Signature;
        let id = message.headers.text("id").and_then(|text| TaskId::parse(text).ok());
        let known = id.is_some() && may_record;
        let task = message.headers.text("task").unwrap_or("(none)").to_owned();
        let letter = DeadLetter::new(reason.as_str(), queue, &task, &failure, 0, now);
        letter.stamp(&mut message.headers);
        let envelope = Envelope::new(id.unwrap_or_default(), task, Payload::default());
        let verdict = Verdict::Fail { reason, failure };
        let record = verdict.record(&envelope, now).filter(|_| known);
        Self { envelope, message, record }
    }
}
