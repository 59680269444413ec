//! The report of a drain.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Enqueued;
use super::enqueued::call_text;
use crate::attempt::Verdict;
use crate::codec::tree::Tree;
use crate::message::{Failure, Json, TaskId};

/// The report of a drain: one entry for each attempt, in the order in which they ran.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// The attempts, and the calls that ended without one.
    pub runs: Vec<Run>,
}

/// One attempt, or a call that ended without one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Run {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub task: String,
    /// The arguments that were given by position.
    pub args: Vec<Value>,
    /// The arguments that were given by name.
    pub kwargs: Map<String, Value>,
    /// The queue that it was taken from.
    pub queue: String,
    /// The number of the attempt, counted from 0.
    pub attempt: u32,
    /// How it ended.
    pub end: End,
}

/// The end of a [`Run`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// The run succeeded with this result. An integer of more than 64 bits in it is a text here.
    Succeeded(Value),
    /// The run failed, and another attempt is due after this delay.
    Retried {
        /// The delay.
        after: Duration,
        /// Why the run failed.
        failure: Failure,
    },
    /// The run snoozed; its attempt is due again after this delay.
    Snoozed {
        /// The delay.
        after: Duration,
    },
    /// The run failed for good, and its task is in the dead set.
    Failed(Failure),
    /// The run cancelled its task, or the call was revoked before.
    Revoked(Failure),
    /// The call was not run, since it had expired.
    Expired,
    /// The call was not run, since no task with its name is linked. It was put back, and is looked at again after this
    /// delay; workers do so for ten minutes, and then it is dead.
    PutBack {
        /// The delay.
        after: Duration,
    },
}

impl Report {
    /// Returns the runs of the task with this name: `report.of(welcome::NAME)`.
    pub fn of<'a>(&'a self, task: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.task == task)
    }

    /// Asserts that every run succeeded or snoozed.
    ///
    /// # Panics
    ///
    /// If one did not; the message lists all of those.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        let faults: Vec<&Run> =
            self.runs.iter().filter(|run| !matches!(run.end, End::Succeeded(_) | End::Snoozed { .. })).collect();
        if !faults.is_empty() {
            let lines: String = faults.iter().map(|run| format!("\n    {run}")).collect();
            panic!("{} of {} runs did not succeed:{lines}", faults.len(), self.runs.len());
        }
        self
    }
}

impl Run {
    pub(super) fn new(call: Enqueued, end: End) -> Self {
        let Enqueued { id, task, args, kwargs, queue, attempt, .. } = call;
        Self { id, task, args, kwargs, queue, attempt, end }
    }

    /// Returns the result, if the run succeeded.
    pub fn value(&self) -> Option<&Value> {
        match &self.end {
            End::Succeeded(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the failure of a run that failed, for good or not, or cancelled itself.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.end {
            End::Retried { failure, .. } | End::Failed(failure) | End::Revoked(failure) => Some(failure),
            _ => None,
        }
    }
}

impl End {
    /// Returns the end that a verdict means; `None` if the run was interrupted.
    pub(super) fn of(verdict: &Verdict, value: Option<&Json>) -> Option<Self> {
        Some(match verdict.clone() {
            Verdict::Succeed => {
                let value = value.map(|json| Tree::parse(json.get()).expect("a result is valid JSON").to_value());
                Self::Succeeded(value.unwrap_or_default())
            }
            Verdict::Retry { delay_ms, failure } => Self::Retried { after: Duration::from_millis(delay_ms), failure },
            Verdict::Snooze { delay_ms, .. } => Self::Snoozed { after: Duration::from_millis(delay_ms) },
            Verdict::Fail { failure, .. } => Self::Failed(failure),
            Verdict::Revoke { failure } => Self::Revoked(failure),
            Verdict::GiveBack => return None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.runs.len() {
            0 => f.write_str("nothing was due"),
            1 => f.write_str("one run:"),
            count => write!(f, "{count} runs:"),
        }?;
        self.runs.iter().try_for_each(|run| write!(f, "\n    {run}"))
    }
}

/// `shop.welcome(42), attempt 0: retried in 700ms after SmtpError: no route`.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, attempt {}: {}", call_text(&self.task, &self.args, &self.kwargs), self.attempt, self.end)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &Duration| humantime::format_duration(*time);
        match self {
            Self::Succeeded(value) => write!(f, "succeeded with {value}"),
            Self::Retried { after, failure } => write!(f, "failed, retried in {}: {failure}", time(after)),
            Self::Snoozed { after } => write!(f, "put itself off for {}", time(after)),
            Self::Failed(failure) => write!(f, "failed for good: {failure}"),
            Self::Revoked(failure) => write!(f, "cancelled itself: {failure}"),
            Self::Expired => f.write_str("not run, it had expired"),
            Self::PutBack { after } => write!(
                f,
                "not run and put back for {}, since no task of this name is linked into this test; mention the crate that has \
                 it, or write a task of that name that stands in for it",
                time(after)
            ),
        }
    }
}
