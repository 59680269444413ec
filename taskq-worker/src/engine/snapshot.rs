//! Snapshots: what a worker tells of itself when it is asked.
//!
//! A question is a message to the upkeep, which answers from the I/O thread; nobody reads the worker's state from
//! outside.

use std::time::Duration;

use taskq::TaskId;
use tokio::sync::oneshot;

/// A worker's state at one moment; see [`WorkerControl::snapshot`](super::WorkerControl::snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The runs in hand, from their delivery to their acknowledgement, in no order.
    pub runs: Vec<RunSnapshot>,
    /// The reason why the worker cannot work, if there is one: words that name the server.
    pub problem: Option<String>,
}

/// One run that a worker has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSnapshot {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub task: String,
    /// The attempt, counted from 0.
    pub attempt: u32,
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
}
