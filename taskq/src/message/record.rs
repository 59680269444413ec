//! The record of a task: the content of its result document.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Failure, TaskId, TaskState};
use crate::redact::Size;

/// A JSON text that is passed on without being parsed.
pub type Json = Box<RawValue>;

/// The record of a task: everything that is kept about it.
///
/// Made by [`Record::new`], and changed field by field or by [`with`](Self::with).
#[derive(Clone)]
#[non_exhaustive]
pub struct Record {
    /// The task.
    pub id: TaskId,
    /// The state.
    pub state: TaskState,
    /// `SUCCESS`: the result. `PROGRESS` and custom states: the task's report. `STARTED`: the process that runs it.
    pub value: Option<Json>,
    /// Something in the value for which JSON has no form, such as Python's `NaN`; `value` has null in its place.
    pub value_fault: Option<String>,
    /// `FAILURE`, `RETRY`, `REVOKED`: the reason.
    pub failure: Option<Failure>,
    /// The place of the failure, as text.
    pub traceback: Option<String>,
    /// When a terminal state was reached.
    pub finished_at: Option<DateTime<Utc>>,
    /// When this attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// `RETRY`: when the next attempt is due.
    pub retry_at: Option<DateTime<Utc>>,
    /// The attempt that wrote the record, counted from 0; Celery's `retries`.
    pub attempt: u32,
    /// The number of times that the task was put back from the dead set. The first terminal record of an
    /// `(id, generation)` wins; a higher generation replaces it.
    pub generation: u32,
    /// The task's name.
    pub task: Option<String>,
    /// The node name of the worker that wrote the record.
    pub worker: Option<String>,
    /// The task during whose execution this one was sent.
    pub parent_id: Option<TaskId>,
    /// The group this task belongs to.
    pub group_id: Option<String>,
}

/// A task's report about its own progress; the `result` of a `PROGRESS` document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// The amount that is done.
    pub current: u64,
    /// The whole amount; 0 if it is unknown.
    pub total: u64,
    /// A short text on the current step.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Progress {
    /// Reports `current` of `total` (0: unknown), with a short text on the current step.
    pub fn new(current: u64, total: u64, note: impl Into<String>) -> Self {
        Self { current, total, note: note.into() }
    }
}

impl Record {
    /// Makes a record in `state`, with all other fields unset.
    pub fn new(id: TaskId, state: TaskState) -> Self {
        Self {
            id,
            state,
            value: None,
            value_fault: None,
            failure: None,
            traceback: None,
            finished_at: None,
            started_at: None,
            retry_at: None,
            attempt: 0,
            generation: 0,
            task: None,
            worker: None,
            parent_id: None,
            group_id: None,
        }
    }

    /// Changes the record by `change`, and returns it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Returns the progress that the task reported, if this is a `PROGRESS` record in the usual form.
    pub fn progress(&self) -> Option<Progress> {
        if self.state != TaskState::Progress {
            return None;
        }
        serde_json::from_str(self.value.as_ref()?.get()).ok()
    }

    /// Returns whether this record may take the place of `stored`: nothing replaces a terminal record except a higher
    /// generation, and a lower generation replaces nothing.
    ///
    /// Every result backend applies this rule in one atomic step.
    pub fn may_replace(&self, stored: &Self) -> bool {
        match self.generation.cmp(&stored.generation) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => !stored.state.is_terminal(),
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("task", &self.task)
            .field("state", &self.state)
            .field("value", &self.value.as_ref().map(|value| Size(value.get().len())))
            .field("value_fault", &self.value_fault)
            .field("failure", &self.failure)
            .field("attempt", &self.attempt)
            .field("generation", &self.generation)
            .field("worker", &self.worker)
            .field("started_at", &self.started_at)
            .field("finished_at", &self.finished_at)
            .field("retry_at", &self.retry_at)
            .finish_non_exhaustive()
    }
}
