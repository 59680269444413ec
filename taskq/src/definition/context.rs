//! What a running task knows about itself.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::message::{Headers, Progress, TaskId};

tokio::task_local! {
    static CURRENT: Context;
}

/// What a running task knows about itself and can say about its work. Taken as the first parameter of a task
/// (`ctx: &Context` or `ctx: Context`); never part of the arguments. Cloning is cheap.
#[derive(Clone)]
pub struct Context(Arc<ContextParts>);

/// What a [`Context`] is made of; filled in by the worker.
pub struct ContextParts {
    /// The task's id.
    pub id: TaskId,
    /// The task's name.
    pub task: &'static str,
    /// Which attempt this is, 0 first.
    pub attempt: u32,
    /// How many further attempts there may be.
    pub retries_left: u32,
    /// The first task of the workflow.
    pub root_id: TaskId,
    /// The task that sent this one.
    pub parent_id: Option<TaskId>,
    /// The message's headers that are not taskq's own.
    pub headers: Headers,
    /// When the attempt will be stopped.
    pub deadline: Option<DateTime<Utc>>,
    /// Turns true when the attempt should stop.
    pub cancelled: watch::Receiver<bool>,
    /// Where progress goes.
    pub progress: Arc<ProgressCell>,
    /// What the worker was built with, and the client, by type.
    pub state: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// The latest progress of one attempt, waiting to be written. Later values replace earlier ones: a task may
/// report as often as it likes, and what is written is the latest.
#[derive(Debug, Default)]
pub struct ProgressCell(Mutex<Option<Progress>>);

impl ProgressCell {
    /// Puts the latest progress in.
    pub fn put(&self, progress: Progress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// Takes the latest progress out, if any came since the last time.
    pub fn take(&self) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Context {
    /// A context of these parts. For workers and tests.
    pub fn new(parts: ContextParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The context of the task that is running here, if one is: inside the body of a task, also of a plain one.
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

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.0.id
    }

    /// The task's name.
    pub fn task(&self) -> &'static str {
        self.0.task
    }

    /// Which attempt this is: 0 for the first.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// How many attempts may still follow this one.
    pub fn retries_left(&self) -> u32 {
        self.0.retries_left
    }

    /// The first task of the workflow; this task's own id if it stands alone.
    pub fn root_id(&self) -> &TaskId {
        &self.0.root_id
    }

    /// The task that sent this one.
    pub fn parent_id(&self) -> Option<&TaskId> {
        self.0.parent_id.as_ref()
    }

    /// The headers that the caller gave.
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    /// When this attempt will be stopped, if it has a limit.
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        self.0.deadline
    }

    /// A key that is the same for every copy and every attempt of this task: hand it to a payment provider or
    /// put it under a unique index, and side effects happen once.
    pub fn idempotency_key(&self) -> &str {
        self.0.id.as_str()
    }

    /// Reports that `current` of `total` is done (`total` 0: nobody knows), with a word on what is being done.
    ///
    /// Cheap: the latest value is written to the result backend about ten times a second at most, and always
    /// before the task ends.
    #[allow(clippy::unused_async, reason = "reporting may have to wait one day; callers already await it")]
    pub async fn progress(&self, current: u64, total: u64, note: impl Into<String>) {
        self.set_progress(current, total, note);
    }

    /// The same for tasks that are plain functions.
    pub fn set_progress(&self, current: u64, total: u64, note: impl Into<String>) {
        self.0.progress.put(Progress { current, total, note: note.into() });
    }

    /// Whether the attempt should stop: its soft time limit is over, or the worker is shutting down.
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.borrow()
    }

    /// Completes when the attempt should stop.
    pub async fn cancelled(&self) {
        let mut cancelled = self.0.cancelled.clone();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            // The worker let go of the attempt without cancelling it: nobody will.
            std::future::pending::<()>().await;
        }
    }

    /// Writes a line to the worker's log, with the task's name and id.
    pub fn log(&self, line: impl fmt::Display) {
        tracing::info!(target: "taskq::task", task = self.0.task, id = %self.0.id, "{line}");
    }

    /// What the worker was built with (`Worker::builder(client).state(value)`), by its type.
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

    /// What the worker was built with, by its type, if it was.
    pub fn try_state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.state.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} {} attempt {})", self.0.task, self.0.id, self.0.attempt)
    }
}
