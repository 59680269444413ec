//! The state of one process of a worker, as it is told by remote control.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use taskq::TaskId;

/// The state of one process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessState {
    /// The process.
    pub(crate) pid: u32,
    /// The time since it began, in seconds.
    pub(crate) uptime: u64,
    /// The number of attempts that run at once.
    pub(crate) concurrency: usize,
    /// The number of messages per queue that the broker was asked to have out at once.
    pub(crate) prefetch: u32,
    /// The number of attempts that have ended.
    pub(crate) done: u64,
    /// The queues that it takes messages from.
    pub(crate) queues: Vec<String>,
    /// The tasks that it can run.
    pub(crate) tasks: Vec<String>,
    /// The revoked tasks that it knows.
    pub(crate) revoked: Vec<TaskId>,
    /// The runs in hand.
    pub(crate) runs: Vec<RunState>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    /// The task's id.
    pub(crate) id: TaskId,
    /// The task's name.
    pub(crate) task: String,
    /// The queue of the task.
    pub(crate) queue: String,
    /// The priority, if the call has one.
    #[serde(default)]
    pub(crate) priority: Option<u8>,
    /// The positional and the named arguments, where they are known.
    #[serde(default)]
    pub(crate) arguments: Option<(Vec<Value>, Map<String, Value>)>,
    /// When the body began, in milliseconds since 1970. `None` before it begins.
    #[serde(default)]
    pub(crate) began_ms: Option<i64>,
    /// Whether the body runs.
    #[serde(default)]
    pub(crate) is_running: bool,
}
