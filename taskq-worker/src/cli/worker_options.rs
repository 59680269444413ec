//! The options of a worker as plain values, for the process that runs tasks and for the one that supervises it.

use std::path::PathBuf;
use std::time::Duration;

/// The options of a worker.
#[derive(Debug, Clone)]
pub(super) struct WorkerOptions {
    /// The number of tasks that run at the same time in each process.
    pub(super) concurrency: usize,
    /// The number of processes that run tasks.
    pub(super) processes: usize,
    /// The queues; empty for the default queue and those that tasks name.
    pub(super) queues: Vec<String>,
    /// The node name as it was given, with or without a host.
    pub(super) node: Option<String>,
    /// How long running tasks may go on once the worker drains.
    pub(super) grace: Duration,
    /// The number of threads for tasks that are plain functions.
    pub(super) blocking_threads: Option<u16>,
    /// The number of tasks after which a process is replaced.
    pub(super) max_tasks_per_child: Option<u64>,
    /// The memory in bytes beyond which a process is replaced.
    pub(super) max_memory_per_child: Option<u64>,
    /// The file or address at which health is published.
    pub(super) health: Option<String>,
    /// The folder in which running tasks are recorded.
    pub(super) state_dir: Option<PathBuf>,
    /// Whether events of tasks are told from the beginning.
    pub(super) events: bool,
    /// Whether the worker is also a beat.
    pub(super) beat: bool,
    /// Whether a new build replaces the running one.
    pub(super) watch: bool,
}
