//! The context of a running task.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::message::{Headers, Progress, TaskId, shortened};

tokio::task_local! {
    static CURRENT: Context;
}

/// A running task's view of itself: its id, its attempt, its limits, and the way to report progress.
///
/// A task takes it as its first parameter (`ctx: &Context` or `ctx: Context`); it is never part of the arguments.
/// Cloning is cheap.
#[derive(Clone)]
pub struct Context(Arc<ContextParts>);

/// The parts of a [`Context`], filled in by the worker.
///
/// Made by [`ContextParts::new`], for the first attempt of a task outside of a workflow; the fields are changed
/// afterwards.
#[non_exhaustive]
pub struct ContextParts {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub task: &'static str,
    /// The number of retries so far, 0 in the first attempt.
    pub retries: u32,
    /// The number of further attempts that may follow this one.
    pub retries_left: u32,
    /// The first task of the workflow.
    pub root_id: TaskId,
    /// The task that sent this one.
    pub parent_id: Option<TaskId>,
    /// The message's headers that are not taskq's own.
    pub headers: Headers,
    /// The time at which the attempt will be stopped.
    pub deadline: Option<DateTime<Utc>>,
    /// Turns true when the attempt should stop.
    pub cancelled: watch::Receiver<bool>,
    /// The place for the latest progress.
    pub progress: Arc<ProgressCell>,
    /// The values that the worker was built with, and the client, by type.
    pub state: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl ContextParts {
    /// Makes the parts for the first and only attempt of a task outside of a workflow, without headers, limits and
    /// state.
    pub fn new(id: TaskId, task: &'static str) -> Self {
        Self {
            root_id: id.clone(),
            id,
            task,
            retries: 0,
            retries_left: 0,
            parent_id: None,
            headers: Headers::new(),
            deadline: None,
            cancelled: watch::channel(false).1,
            progress: Arc::default(),
            state: Arc::default(),
        }
    }
}

/// The longest text of a progress report, in bytes.
const NOTE_BYTES_MAX: usize = 4096;

/// The latest progress of one attempt, waiting to be written.
///
/// Later values replace earlier ones: a task may report as often as it likes, and only the latest value is written.
#[derive(Debug, Default)]
pub struct ProgressCell(Mutex<Option<Progress>>);

impl ProgressCell {
    /// Stores the latest progress, replacing an earlier one.
    pub fn put(&self, progress: Progress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// Takes the latest progress; `None` if there was no report since the last call.
    pub fn take(&self) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Context {
    /// Makes a context of its parts. For workers and tests.
    pub fn new(parts: ContextParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Returns the context of the running task when called inside the body of a task, async or synchronous.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `future` with this as the current context.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Calls `function` with this as the current context.
    pub fn sync_scope<R>(self, function: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, function)
    }

    /// Returns the task's id.
    pub fn id(&self) -> &TaskId {
        &self.0.id
    }

    /// Returns the task's name.
    pub fn task(&self) -> &'static str {
        self.0.task
    }

    /// Returns the number of retries so far: 0 in the first attempt, as Celery's `request.retries`.
    pub fn retries(&self) -> u32 {
        self.0.retries
    }

    /// Returns the number of attempts that may still follow this one.
    pub fn retries_left(&self) -> u32 {
        self.0.retries_left
    }

    /// Returns the id of the workflow's first task; this task's own id if it is not part of a workflow.
    pub fn root_id(&self) -> &TaskId {
        &self.0.root_id
    }

    /// Returns the id of the task that sent this one.
    pub fn parent_id(&self) -> Option<&TaskId> {
        self.0.parent_id.as_ref()
    }

    /// Returns the headers that the caller gave.
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    /// Returns the time at which this attempt will be stopped, if it has a limit.
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        self.0.deadline
    }

    /// Returns a key that is equal for every copy and every attempt of this task.
    ///
    /// Pass it to a payment provider, or store it under a unique index, so that side effects happen once.
    pub fn idempotency_key(&self) -> &str {
        self.0.id.as_str()
    }

    /// Reports that `current` of `total` is done (`total` 0: unknown), with a short text on the current step. Of a text
    /// of more than 4,096 bytes the beginning is kept.
    ///
    /// Returns at once, in async and in synchronous tasks: the latest value is written to the result backend about ten
    /// times a second at most, and always before the task ends.
    pub fn progress(&self, current: u64, total: u64, note: impl Into<String>) {
        self.0.progress.put(Progress { current, total, note: shortened(note.into(), NOTE_BYTES_MAX) });
    }

    /// Returns whether the attempt should stop: its soft time limit is over, its task was revoked, or the worker is
    /// shutting down.
    ///
    /// A task that stops returns an error. One that returns `Ok` all the same has succeeded, however late, unless it
    /// was revoked: then it does not matter what it returns.
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.borrow()
    }

    /// Completes when the attempt should stop.
    pub async fn cancelled(&self) {
        let mut cancelled = self.0.cancelled.clone();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            // The worker dropped the attempt without cancelling it, so it will never be cancelled.
            std::future::pending::<()>().await;
        }
    }

    /// Writes a line to the worker's log, with the task's name and id.
    pub fn log(&self, line: impl fmt::Display) {
        tracing::info!(target: "taskq::task", task = self.0.task, id = %self.0.id, "{line}");
    }

    /// Returns the value of type `T` that the worker was built with (`Worker::builder(client).state(value)`).
    ///
    /// # Panics
    ///
    /// If the worker was built without a `T`: the attempt fails with a message that names the type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Arc<T> {
        self.try_state().unwrap_or_else(|| {
            let name = std::any::type_name::<T>();
            panic!("this worker has no state of type {name}; build it with `.state(…)` of that type")
        })
    }

    /// Returns the value of type `T` that the worker was built with, or `None` if there is none.
    pub fn try_state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.state.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} {} retries {})", self.0.task, self.0.id, self.0.retries)
    }
}
