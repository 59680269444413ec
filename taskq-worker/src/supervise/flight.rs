//! What was in the air: plain data about running tasks, and about the death of the process that ran them.

use serde::{Deserialize, Serialize};

/// A task that a child is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flight {
    /// The task's id; cut at [`ID_MAX`] bytes.
    pub(crate) id: String,
    /// The task's name; cut at [`TASK_MAX`] bytes.
    pub(crate) task: String,
    /// Which life of the task it is; `dead retry` begins a new one.
    pub(crate) generation: u32,
    /// Which attempt it is, 0 first.
    pub(crate) attempt: u32,
    /// Whether it was the only task its process would run.
    pub(crate) alone: bool,
    /// When its body began, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Whether the crashing thread was running this very task.
    pub(crate) culprit: bool,
}

/// How many bytes of an id are recorded. Ours are 36 long; Celery lets users choose.
pub(crate) const ID_MAX: usize = 120;

/// How many bytes of a task's name are recorded.
pub(crate) const TASK_MAX: usize = 72;

/// What the recorder of a dead child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// The child's process id.
    pub(crate) pid: u32,
    /// When it began, in milliseconds since 1970. With the process id it names this life of the process.
    pub(crate) began_ms: u64,
    /// What it was running.
    pub(crate) flights: Vec<Flight>,
}

/// How a child died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Death {
    /// The exit code, if it ended by itself.
    pub(crate) code: Option<i32>,
    /// The signal that ended it. Neither this nor a code where nobody was left to see it die.
    pub(crate) signal: Option<i32>,
    /// The machine's name.
    pub(crate) host: String,
    /// When it was noticed, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// A death with what was lost by it: what the next of kin reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) recording: Recording,
    pub(crate) death: Death,
}
