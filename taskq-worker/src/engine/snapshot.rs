//! Snapshots: what a worker tells of itself when it is asked.
//!
//! A question is a message to the upkeep, which answers from the I/O thread; nobody reads the worker's state from
//! outside.

use std::time::Duration;

use taskq::TaskId;
use taskq::remote::Revocation;
use tokio::sync::oneshot;

/// A worker's state at one moment; see [`WorkerControl::snapshot`](super::WorkerControl::snapshot).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// The node name, `name@host`.
    pub node: String,
    /// The number of attempts that run at once.
    pub concurrency: usize,
    /// The number of messages per queue that the broker was asked to have out at once.
    pub prefetch: u16,
    /// The number of attempts that have ended since the worker began.
    pub done: u64,
    /// The time since the worker began.
    pub uptime: Duration,
    /// The queues that it takes messages from.
    pub queues: Vec<String>,
    /// The tasks that it can run.
    pub tasks: Vec<String>,
    /// The runs in hand, from their delivery to their acknowledgement, in no order.
    pub runs: Vec<RunSnapshot>,
    /// The reason why the worker cannot work, if there is one: words that name the server.
    pub problem: Option<String>,
}

/// One run that a worker has in hand.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunSnapshot {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub task: String,
    /// The attempt, counted from 0.
    pub attempt: u32,
    /// The queue of the task.
    pub queue: String,
    /// The priority, if the call has one.
    pub priority: Option<u8>,
    /// The positional and the named arguments, as JSON. `None` if they are large, sealed, or in another form.
    pub arguments: Option<(Vec<serde_json::Value>, serde_json::Map<String, serde_json::Value>)>,
    /// When the body began. `None` before it begins.
    pub began_at: Option<chrono::DateTime<chrono::Utc>>,
    /// The time since the body began. `None` before it begins and after it has ended.
    pub running_for: Option<Duration>,
}

/// The few figures of a worker that its supervisor is told every second.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WorkerHeartbeat {
    /// The number of attempts that have ended since the worker began.
    pub(crate) done: u64,
    /// The number of runs in hand.
    pub(crate) running: u32,
    /// The reason why the worker cannot work, if there is one: words that name the server.
    pub(crate) problem: Option<String>,
}

/// A question to a worker, with the way to answer it.
#[derive(Debug)]
pub(crate) enum Question {
    /// The state of the worker.
    Snapshot(oneshot::Sender<WorkerSnapshot>),
    /// The runs of one task that are in hand.
    RunsOf(TaskId, oneshot::Sender<Vec<RunSnapshot>>),
    /// The figures for the supervisor.
    Heartbeat(oneshot::Sender<WorkerHeartbeat>),
    /// The revocation of tasks; answered with the number of runs that it meets.
    Revoke(Vec<TaskId>, Revocation, oneshot::Sender<usize>),
    /// The wish for events, or the end of it; answered with whether that was known.
    WantEvents(bool, oneshot::Sender<bool>),
    /// The revoked tasks.
    Revoked(oneshot::Sender<Vec<TaskId>>),
}
