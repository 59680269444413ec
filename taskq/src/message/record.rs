//! What is known about one task: the content of its result document.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Failure, TaskId, TaskState};

/// A JSON text that is carried along unread.
pub type Json = Box<RawValue>;

/// What is known about one task.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whose record it is.
    pub id: TaskId,
    /// The state.
    pub state: TaskState,
    /// `SUCCESS`: the result. `PROGRESS` and custom states: what the task reported. `STARTED`: who runs it.
    pub value: Option<Json>,
    /// `FAILURE`, `RETRY`, `REVOKED`: why.
    pub failure: Option<Failure>,
    /// Where it failed, as text.
    pub traceback: Option<String>,
    /// When a terminal state was reached.
    pub finished_at: Option<DateTime<Utc>>,
    /// When this attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// `RETRY`: when the next attempt is due.
    pub retry_at: Option<DateTime<Utc>>,
    /// Which attempt wrote it: 0 first, Celery's `retries`.
    pub attempt: u32,
    /// How often a task that had failed for good was put back. The first terminal record of an
    /// `(id, generation)` wins; a higher generation replaces it.
    pub generation: u32,
    /// The task's name.
    pub task: Option<String>,
    /// The node name of the worker that wrote it.
    pub worker: Option<String>,
    /// The task during whose execution this one was sent.
    pub parent_id: Option<TaskId>,
    /// The group this task belongs to.
    pub group_id: Option<String>,
}

/// What a task reports about its own progress; the `result` of a `PROGRESS` document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How much is done.
    pub current: u64,
    /// How much there is; 0 if nobody knows.
    pub total: u64,
    /// A word on what is being done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Record {
    /// A record in `state` of which nothing else is known.
    pub fn new(id: TaskId, state: TaskState) -> Self {
        Self {
            id,
            state,
            value: None,
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

    /// The progress that the task reported, if this is a `PROGRESS` record in the usual form.
    pub fn progress(&self) -> Option<Progress> {
        if self.state != TaskState::Progress {
            return None;
        }
        serde_json::from_str(self.value.as_ref()?.get()).ok()
    }

    /// Whether this record may take the place of `stored`: nothing replaces a terminal record except a higher
    /// generation, and a lower generation replaces nothing.
    ///
    /// This is the rule that every result backend keeps in one atomic step.
    pub fn may_replace(&self, stored: &Self) -> bool {
        match self.generation.cmp(&stored.generation) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => !stored.state.is_terminal(),
        }
    }
}
