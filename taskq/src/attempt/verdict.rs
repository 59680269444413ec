//! The meaning of an attempt's end: pure decisions.

use std::cmp::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::admit::put_back_after;
use super::panics::{Caught, Panicked};
use crate::definition::{ArgumentError, Decision, Directive, RetryPolicy, TaskError};
use crate::message::{Envelope, Failure, Json, Record, TaskState, shortened};

/// The reason for which a running attempt is stopped.
///
/// Exhaustive, since a worker must act on every reason; the worker is released together with this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The attempt's hard limit is over.
    TimeLimit,
    /// The worker is shutting down and its grace is over.
    Interrupted,
    /// The task was revoked.
    Revoked {
        /// Whether a body that does not listen is ended with its process.
        terminate: bool,
    },
}

/// The end of an attempt.
///
/// Exhaustive, since a worker makes every one of them; the worker is released together with this crate.
#[derive(Debug)]
pub enum Outcome {
    /// The body returned a result.
    Done(Json),
    /// The body returned an error.
    Failed(TaskError),
    /// The body returned an error after its soft limit was over.
    SoftLimit(TaskError),
    /// The body panicked; with message and place.
    Panicked(Failure, Option<String>),
    /// The attempt did not begin: the arguments do not fit.
    BadArguments(ArgumentError),
    /// The attempt did not begin: the message's body cannot be read.
    BadBody(String),
    /// The worker stopped the attempt; with the hard limit that the attempt had.
    Stopped(Stop, Option<Duration>),
}

impl Outcome {
    /// Returns the end of a body that ended by itself. `soft_limit_over` tells that it had been asked to stop by then.
    pub fn of(caught: Caught, soft_limit_over: bool) -> Self {
        match caught {
            Ok(Ok(value)) => Self::Done(value),
            Ok(Err(error)) if soft_limit_over => Self::SoftLimit(error),
            Ok(Err(error)) => Self::Failed(error),
            Err(panicked) => panicked.into(),
        }
    }
}

impl From<Panicked> for Outcome {
    fn from(Panicked { failure, place }: Panicked) -> Self {
        Self::Panicked(failure, place)
    }
}

/// The consequence of an attempt.
///
/// Kept in Kv with the claim, in a value with a version, so that a worker that finds the attempt finished can repeat
/// its consequence. Exhaustive, since a worker must act on every verdict; the worker is released together with this
/// crate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// `SUCCESS`.
    Succeed,
    /// `RETRY`, and another attempt after this delay.
    Retry {
        /// The delay in milliseconds.
        delay_ms: u64,
        /// Why this one failed.
        failure: Failure,
    },
    /// Another run of this attempt after this delay.
    Snooze {
        /// The delay in milliseconds.
        delay_ms: u64,
        /// The attempt did not begin, because the arguments do not fit: another build of the task may take them. Absent
        /// in what older programs wrote.
        #[serde(default)]
        put_back: bool,
    },
    /// `FAILURE`, and the message goes to the dead set.
    Fail {
        /// The reason in the dead letter.
        reason: Reason,
        /// Why.
        failure: Failure,
    },
    /// `REVOKED`.
    Revoke {
        /// Why.
        failure: Failure,
    },
    /// The attempt was interrupted: the message is returned to its queue, and the attempt does not count.
    GiveBack,
}

/// The reason for which a message goes to the dead set.
///
/// Exhaustive like [`Verdict`], of which it is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The attempts are used up, or trying again would not help.
    Failed,
    /// The arguments do not fit the task.
    Arguments,
    /// The message cannot be read.
    Decode,
    /// The message is not signed as it should be.
    Signature,
    /// No worker knows the task.
    UnknownTask,
    /// Worker processes died while they ran the task.
    WorkerLost,
    /// The task succeeded, and the result backend does not take its result.
    Result,
    /// The task goes on with a message that cannot be published.
    Unsendable,
}

/// The types of failures that say why a task cannot be settled as it ended.
const RESULT_REFUSED: &str = "ResultRefused";
const UNSENDABLE: &str = "Unsendable";

/// The maximum size in bytes of a failure's text and of its traceback. What is longer is cut: the text travels in the
/// record, in the claim and in the log, and must not be the reason why one of them cannot be written.
const FAILURE_BYTES_MAX: usize = 64 * 1024;

impl Reason {
    /// Returns the reason of a recorded failure, which carries no reason of its own: its type tells what the worker
    /// itself gives up.
    fn of(failure: &Failure) -> Self {
        match (failure.exc_module.as_deref(), failure.exc_type.as_str()) {
            (Some("builtins"), "TypeError") => Self::Arguments,
            (Some("taskq"), "DecodeError") => Self::Decode,
            (Some("taskq"), "SignatureFault") => Self::Signature,
            (Some("celery.exceptions"), "NotRegistered") => Self::UnknownTask,
            (Some("billiard.exceptions"), "WorkerLostError") => Self::WorkerLost,
            (Some("taskq"), RESULT_REFUSED) => Self::Result,
            (Some("taskq"), UNSENDABLE) => Self::Unsendable,
            _ => Self::Failed,
        }
    }

    /// Returns the reason as it stands in the dead letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Arguments => "arguments",
            Self::Decode => "decode",
            Self::Signature => "signature",
            Self::UnknownTask => "unknown-task",
            Self::WorkerLost => "worker-lost",
            Self::Result => "result",
            Self::Unsendable => "unsendable",
        }
    }
}

/// The conclusion of an attempt: the verdict, and the parts of the record that only the attempt knows.
#[derive(Debug)]
pub struct Conclusion {
    /// The consequence.
    pub verdict: Verdict,
    /// The result.
    pub value: Option<Json>,
    /// The place of the failure, as text.
    pub traceback: Option<String>,
}

impl Conclusion {
    fn of(verdict: Verdict) -> Self {
        Self { verdict, value: None, traceback: None }
    }
}

/// Concludes an attempt from its end. `unfit_grace` is the time for which a message is put back whose arguments do not
/// fit and may fit another build.
pub fn conclude(outcome: Outcome, policy: &RetryPolicy, envelope: &Envelope, unfit_grace: Duration) -> Conclusion {
    let mut traceback = None;
    let verdict = match outcome {
        Outcome::Done(value) => {
            return Conclusion { verdict: Verdict::Succeed, value: Some(value), traceback: None };
        }
        Outcome::Failed(error) => decide(error, policy, envelope),
        Outcome::SoftLimit(error) => {
            let mut failure = Failure::new("billiard.exceptions", "SoftTimeLimitExceeded", error.to_string());
            failure.exc_message = error.failure().exc_message.clone();
            decide(TaskError::new(error.directive(), failure), policy, envelope)
        }
        Outcome::Panicked(failure, place) => {
            traceback = place;
            decide(TaskError::new(Directive::Retry, failure), policy, envelope)
        }
        Outcome::BadArguments(error) => match put_back_after(envelope, unfit_grace) {
            Some(delay) if error.may_fit_another_build() => Verdict::Snooze { delay_ms: millis(delay), put_back: true },
            _ => {
                let failure = Failure::new("builtins", "TypeError", error.to_string());
                Verdict::Fail { reason: Reason::Arguments, failure }
            }
        },
        Outcome::BadBody(why) => {
            Verdict::Fail { reason: Reason::Decode, failure: Failure::new("taskq", "DecodeError", why) }
        }
        Outcome::Stopped(Stop::Interrupted, _) => Verdict::GiveBack,
        Outcome::Stopped(Stop::Revoked { terminate }, _) => Verdict::revoked(terminate),
        Outcome::Stopped(Stop::TimeLimit, limit) => {
            let seconds = limit.unwrap_or_default().as_secs_f64();
            let failure = Failure {
                exc_type: "TimeLimitExceeded".to_owned(),
                exc_message: vec![seconds.into()],
                exc_module: Some("billiard.exceptions".to_owned()),
            };
            Verdict::Fail { reason: Reason::Failed, failure }
        }
    };
    let traceback = traceback.map(|text: String| shortened(text, FAILURE_BYTES_MAX));
    Conclusion { traceback, ..Conclusion::of(verdict.with_short_failure()) }
}

fn decide(error: TaskError, policy: &RetryPolicy, envelope: &Envelope) -> Verdict {
    let decision = policy.decide(envelope.id.as_str(), envelope.attempt, error.directive());
    let failure = error.into_failure();
    match decision {
        Decision::Retry(delay) => Verdict::Retry { delay_ms: millis(delay), failure },
        Decision::Snooze(delay) => Verdict::Snooze { delay_ms: millis(delay), put_back: false },
        Decision::Fail => Verdict::Fail { reason: Reason::Failed, failure },
        Decision::Cancel => Verdict::Revoke { failure },
    }
}

/// Returns a delay in milliseconds, rounded up, so that nothing is due before it was asked for.
fn millis(delay: Duration) -> u64 {
    delay.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
}

impl Verdict {
    /// Returns the end of a message whose task no worker knows.
    pub fn unknown_task(task: &str) -> Self {
        let failure = Failure::new("celery.exceptions", "NotRegistered", task);
        Self::Fail { reason: Reason::UnknownTask, failure }
    }

    /// Returns the end of a task of which worker processes died; `how` tells how the last of them did. The error's type
    /// is the one that Celery raises.
    pub fn worker_lost(how: &str) -> Self {
        let text = format!("Worker exited prematurely: {how}");
        Self::Fail { reason: Reason::WorkerLost, failure: Failure::new("billiard.exceptions", "WorkerLostError", text) }
    }

    /// Returns the end of a task that succeeded and whose result the result backend does not take, for the reason
    /// `why`.
    pub fn result_refused(why: &str) -> Self {
        let text = format!("the task succeeded, and its result could not be stored: {why}");
        Self::Fail { reason: Reason::Result, failure: Failure::new("taskq", RESULT_REFUSED, text) }
    }

    /// Returns the end of a task whose attempt ended with this verdict (`None`: it did not run), and whose next message
    /// cannot be published for the reason `why`.
    pub fn unsendable(why: &str, ended: Option<&Self>) -> Self {
        let text = match ended {
            Some(Self::Retry { failure, .. }) => {
                format!("the next attempt cannot be sent: {why}; the last one ended with {failure}")
            }
            Some(_) => format!("the next run cannot be sent: {why}"),
            None => format!("the message cannot be moved: {why}"),
        };
        Self::Fail { reason: Reason::Unsendable, failure: Failure::new("taskq", UNSENDABLE, text) }
    }

    fn with_short_failure(self) -> Self {
        let short = |failure: Failure| failure.shortened(FAILURE_BYTES_MAX);
        match self {
            Self::Retry { delay_ms, failure } => Self::Retry { delay_ms, failure: short(failure) },
            Self::Fail { reason, failure } => Self::Fail { reason, failure: short(failure) },
            Self::Revoke { failure } => Self::Revoke { failure: short(failure) },
            other @ (Self::Succeed | Self::Snooze { .. } | Self::GiveBack) => other,
        }
    }

    /// Returns the end of a message that has expired.
    pub fn expired() -> Self {
        Self::Revoke { failure: Failure::new("celery.exceptions", "TaskRevokedError", "expired") }
    }

    /// Returns the end of a task that was revoked; `terminate`: with the order to end it even if it does not listen.
    /// The words are those of Celery's workers.
    pub fn revoked(terminate: bool) -> Self {
        let word = if terminate { "terminated" } else { "revoked" };
        Self::Revoke { failure: Failure::new("celery.exceptions", "TaskRevokedError", word) }
    }

    /// Reads the verdict of a run from the record that it stored, for a copy of that very run. Returns `None` if the
    /// record was written while the run was still going on.
    pub fn of_record(record: &Record, now: DateTime<Utc>) -> Option<Self> {
        let failure = || {
            let unexplained = || Failure::new("taskq", "TaskError", "the record does not say why");
            record.failure.clone().unwrap_or_else(unexplained)
        };
        match record.state {
            TaskState::Success => Some(Self::Succeed),
            TaskState::Failure => {
                let failure = failure();
                Some(Self::Fail { reason: Reason::of(&failure), failure })
            }
            TaskState::Revoked => Some(Self::Revoke { failure: failure() }),
            TaskState::Retry => {
                let left = record.retry_at.map_or(TimeDelta::zero(), |due| due - now);
                Some(Self::Retry { delay_ms: millis(left.to_std().unwrap_or_default()), failure: failure() })
            }
            _ => None,
        }
    }

    /// Returns whether the terminal record that was there already makes the consequence superfluous. It does, except
    /// that a failed task must be in the dead set, and the worker that wrote its failure may have died before that.
    pub fn is_superseded_by(&self, stored: Option<&Record>) -> bool {
        let failed = stored.is_some_and(|record| record.state == TaskState::Failure);
        !(failed && matches!(self, Self::Fail { .. }))
    }

    /// Returns the record of this verdict, without the parts that only the run knows; `None` where the task's state
    /// stays as it is.
    pub fn record(&self, envelope: &Envelope, now: DateTime<Utc>) -> Option<Record> {
        let state = match self {
            Self::Succeed => TaskState::Success,
            Self::Retry { .. } => TaskState::Retry,
            Self::Fail { .. } => TaskState::Failure,
            Self::Revoke { .. } => TaskState::Revoked,
            Self::Snooze { .. } | Self::GiveBack => return None,
        };
        let mut record = record_of(envelope, state);
        match self {
            Self::Retry { delay_ms, failure } => {
                record.retry_at = Some(after(now, *delay_ms));
                record.failure = Some(failure.clone());
            }
            Self::Fail { failure, .. } | Self::Revoke { failure } => record.failure = Some(failure.clone()),
            _ => {}
        }
        if record.state.is_terminal() {
            record.finished_at = Some(now);
        }
        Some(record)
    }

    /// Returns the message that follows, and the delay with which it is published; `None` if nothing follows into the
    /// task's own queue.
    pub fn next_message(&self, envelope: &Envelope, now: DateTime<Utc>) -> Option<(Envelope, Duration)> {
        let mut next = envelope.clone();
        let delay_ms = match self {
            Self::Retry { delay_ms, .. } => {
                next.attempt = next.attempt.saturating_add(1);
                next.snoozes = 0;
                *delay_ms
            }
            Self::Snooze { delay_ms, .. } => {
                next.snoozes = next.snoozes.saturating_add(1);
                *delay_ms
            }
            _ => return None,
        };
        let delay = Duration::from_millis(delay_ms);
        next.eta = Some(after(now, delay_ms));
        next.delay_served = delay <= Envelope::DELAY_MAX;
        next.resent = false;
        next.moved = false;
        let was_put_back = matches!(self, Self::Snooze { put_back: true, .. });
        next.put_back = was_put_back.then(|| envelope.put_back.unwrap_or_default().saturating_add(delay));
        next.origin_queue = None;
        next.returns = 0;
        Some((next, delay))
    }
}

/// An earlier run of a task, as its stored record shows it to a delivery that may be a copy.
///
/// Exhaustive, since a worker must act on both; the worker is released together with this crate.
#[derive(Debug, Clone, PartialEq)]
pub enum EarlierRun {
    /// A later attempt, or one of a later generation, has begun: what follows from the delivery's own attempt is long
    /// published.
    Overtaken,
    /// The attempt is over, or the whole task is, with this verdict. What follows may not have been published.
    Finished(Verdict),
}

impl EarlierRun {
    /// Reads from `record` what became of the run that `envelope` asks for; `None` if the record says nothing of it.
    pub fn of(record: &Record, envelope: &Envelope, now: DateTime<Utc>) -> Option<Self> {
        match record.generation.cmp(&envelope.generation) {
            Ordering::Greater => return Some(Self::Overtaken),
            Ordering::Less => return None,
            Ordering::Equal => {}
        }
        match record.attempt.cmp(&envelope.attempt) {
            // Its own message leads the later attempt to its end, whatever that is.
            Ordering::Greater => Some(Self::Overtaken),
            Ordering::Equal => Verdict::of_record(record, now).map(Self::Finished),
            // No attempt runs after the task's end.
            Ordering::Less if record.state.is_terminal() => Verdict::of_record(record, now).map(Self::Finished),
            Ordering::Less => None,
        }
    }
}

/// Makes a record of the attempt that `envelope` asks for.
pub fn record_of(envelope: &Envelope, state: TaskState) -> Record {
    Record {
        attempt: envelope.attempt,
        generation: envelope.generation,
        task: Some(envelope.task.clone().into_owned()),
        parent_id: envelope.parent_id.clone(),
        group_id: envelope.group_id.clone(),
        ..Record::new(envelope.id.clone(), state)
    }
}

fn after(now: DateTime<Utc>, delay_ms: u64) -> DateTime<Utc> {
    let delay = i64::try_from(delay_ms).ok().and_then(TimeDelta::try_milliseconds);
    delay.and_then(|delay| now.checked_add_signed(delay)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests;
