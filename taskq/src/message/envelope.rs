//! A task message, decoded.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Headers, TaskId};
use crate::redact::Size;

/// The arguments of a task in serialized form: bytes and their format. The caller serializes them once; retries and
/// delays pass them on unread.
///
/// Exhaustive: these are the parts of a message's body by Celery's protocol 2.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// `application/json` or `application/x-msgpack`.
    pub content_type: Cow<'static, str>,
    /// `utf-8` or `binary`.
    pub content_encoding: Cow<'static, str>,
    /// Celery's name of the compression of `body`, for example `application/x-gzip`.
    pub compression: Option<String>,
    /// `[args, kwargs, embed]`, serialized.
    pub body: Bytes,
}

/// The limits of one attempt's time.
///
/// Exhaustive: Celery's `timelimit` has these two parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// The time after which the task is asked to stop.
    pub soft: Option<Duration>,
    /// The time after which the task is stopped.
    pub hard: Option<Duration>,
}

/// A task message, decoded: the task to run, the attempt, and the arguments.
///
/// Made by [`Envelope::new`], and changed field by field or by [`with`](Self::with).
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each of which a header tells")]
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Envelope {
    /// The task's identity.
    pub id: TaskId,
    /// The name of the task to run.
    pub task: Cow<'static, str>,
    /// The number of attempts that have been made before; Celery's `retries`.
    pub attempt: u32,
    /// The number of times that the task was put back from the dead set; see
    /// [`Record::generation`](super::Record::generation).
    pub generation: u32,
    /// The number of times that the task snoozed in this attempt. With id, generation and attempt it tells copies of
    /// one run from different runs.
    pub snoozes: u32,
    /// The earliest time at which the task may run.
    pub eta: Option<DateTime<Utc>>,
    /// The time after which the task is no longer wanted.
    pub expires: Option<DateTime<Utc>>,
    /// How far the clock of the result store was ahead of the sender's, if `expires` was asked for as a length of time:
    /// a worker that knows its own distance from that clock compares by it.
    pub sender_clock: Option<TimeDelta>,
    /// The priority, 0 to 255; larger is served first, on queues that know priorities. None is 0.
    pub priority: Option<u8>,
    /// Limits that the caller set; they override the task's.
    pub limits: TimeLimits,
    /// The first task of the workflow this one belongs to; `None` means itself.
    pub root_id: Option<TaskId>,
    /// The task during whose execution this one was sent.
    pub parent_id: Option<TaskId>,
    /// The group that the task belongs to.
    pub group_id: Option<String>,
    /// The task's place in the group.
    pub group_index: Option<i64>,
    /// The sender: a node name.
    pub origin: Option<String>,
    /// Whether the result is not stored; `None` leaves it to the task.
    pub ignore_result: Option<bool>,
    /// Whether the publisher lost its connection before the confirm and sent the message once more.
    pub resent: bool,
    /// Whether a worker copied the message while the first copy may still be there (claims, early ETA, unknown tasks).
    pub moved: bool,
    /// Whether a scheduler sent the message. Another scheduler that cannot know whether it was sent may send it again,
    /// under the same id.
    pub scheduled: bool,
    /// Whether `eta` is the end of a delay that the broker serves before it delivers the message. It was asked for as a
    /// length of time, so a worker need not ask its clock, which may differ from the sender's.
    pub delay_served: bool,
    /// The time for which workers have been putting the message back because none could run it, as the sum of delays.
    pub put_back: Option<Duration>,
    /// The queue that a quarantined message came from, and to which its retries go.
    pub origin_queue: Option<String>,
    /// The number of times that workers returned the message, as far as the broker does not count that: a copy begins
    /// from zero there.
    pub returns: u32,
    /// Headers that taskq does not interpret: the user's own, and those of Celery that concern other programs. Passed
    /// on unchanged.
    pub headers: Headers,
    /// The queue to which an RPC result would go; passed on.
    pub reply_to: Option<String>,
    /// The arguments.
    pub payload: Payload,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content_type, content_encoding, compression, body } = self;
        f.debug_struct("Payload")
            .field("content_type", content_type)
            .field("content_encoding", content_encoding)
            .field("compression", compression)
            .field("body", &Size(body.len()))
            .finish()
    }
}

impl Envelope {
    /// Makes the envelope of a first attempt, with everything else unset.
    pub fn new(id: TaskId, task: impl Into<Cow<'static, str>>, payload: Payload) -> Self {
        Self {
            id,
            task: task.into(),
            attempt: 0,
            generation: 0,
            snoozes: 0,
            eta: None,
            expires: None,
            sender_clock: None,
            priority: None,
            limits: TimeLimits::default(),
            root_id: None,
            parent_id: None,
            group_id: None,
            group_index: None,
            origin: None,
            ignore_result: None,
            resent: false,
            moved: false,
            scheduled: false,
            delay_served: false,
            put_back: None,
            origin_queue: None,
            returns: 0,
            headers: Headers::new(),
            reply_to: None,
            payload,
        }
    }

    /// The longest delay that every broker serves in full; longer ones are cut.
    pub const DELAY_MAX: Duration = Duration::from_secs(310 * 86_400);

    /// Changes the envelope by `change`, and returns it: `envelope.clone().with(|copy| copy.moved = true)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Returns the id of the workflow's first task: the task's own id if no other is named.
    pub fn root(&self) -> &TaskId {
        self.root_id.as_ref().unwrap_or(&self.id)
    }

    /// Returns whether this message may be a copy of one that a worker is running or has run. The broker's
    /// `redelivered` flag is not part of the message and must be checked in addition.
    ///
    /// Delays, retries and what was put back from the dead set count: all of them are published before their
    /// predecessor is acknowledged, so a crash between the two leaves two of them.
    pub fn may_be_copy(&self) -> bool {
        self.resent
            || self.generation > 0
            || self.moved
            || self.scheduled
            || self.attempt > 0
            || self.snoozes > 0
            || self.eta.is_some()
            || self.group_id.is_some()
    }
}
