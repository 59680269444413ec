//! Steering a worker from elsewhere.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use taskq::TaskId;
use taskq::remote::Revocation;
use tokio::sync::{mpsc, oneshot, watch};

use super::phase::{Phase, advance};
use super::snapshot::{Question, RunSnapshot, WorkerHeartbeat, WorkerSnapshot};

/// Steers a running worker and asks how it is. Cloning is cheap, and a control does not keep its worker alive.
#[derive(Clone)]
pub struct WorkerControl {
    phase: watch::Sender<Phase>,
    questions: mpsc::Sender<Question>,
    speaks: Arc<AtomicBool>,
}

impl WorkerControl {
    pub(super) fn new(phase: watch::Sender<Phase>, questions: mpsc::Sender<Question>, speaks: Arc<AtomicBool>) -> Self {
        Self { phase, questions, speaks }
    }

    /// Takes no new work, finishes what has begun, however long that takes, then ends.
    pub(crate) fn finish(&self) {
        advance(&self.phase, Phase::Finishing);
    }

    /// Takes no new work, finishes what has begun (for at most the grace), then ends.
    pub fn drain(&self) {
        advance(&self.phase, Phase::Draining);
    }

    /// Stops what still runs without waiting for the grace, gives it back to the broker, then ends.
    pub fn cancel(&self) {
        advance(&self.phase, Phase::Cancelling);
    }

    /// Notes that this process answers remote control for its worker.
    pub(crate) fn speaks(&self) {
        self.speaks.store(true, Ordering::Relaxed);
    }

    /// The worker's state now. `None` before it runs and after it has ended.
    pub async fn snapshot(&self) -> Option<WorkerSnapshot> {
        self.ask(Question::Snapshot).await
    }

    /// The runs of the task `id` that the worker has in hand: usually none or one, more if copies of its message were
    /// delivered for several attempts. Empty before the worker runs and after it has ended.
    pub async fn runs_of(&self, id: &TaskId) -> Vec<RunSnapshot> {
        self.ask(|answer| Question::RunsOf(id.clone(), answer)).await.unwrap_or_default()
    }

    /// Revokes tasks: they are not run by this worker any more, and their runs are asked to stop; `terminate`: a body
    /// that does not listen is ended with its process. Returns the number of runs in hand that this meets. Nothing is
    /// kept or told to others; see [`Client::revoke`](taskq::Client::revoke) for that.
    pub async fn revoke(&self, ids: Vec<TaskId>, terminate: bool) -> usize {
        let revocation = Revocation::new(terminate);
        self.ask(|answer| Question::Revoke(ids, revocation, answer)).await.unwrap_or_default()
    }

    /// Has the worker tell events of tasks, or not. Returns whether it did so already.
    pub async fn want_events(&self, wanted: bool) -> bool {
        self.ask(|answer| Question::WantEvents(wanted, answer)).await.unwrap_or_default()
    }

    /// The revoked tasks that the worker knows. Empty before it runs and after it has ended.
    pub async fn revoked(&self) -> Vec<TaskId> {
        self.ask(Question::Revoked).await.unwrap_or_default()
    }

    /// The figures for the supervisor. All are zero before the worker runs and after it has ended.
    pub(crate) async fn heartbeat(&self) -> WorkerHeartbeat {
        self.ask(Question::Heartbeat).await.unwrap_or_default()
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).await.ok()?;
        answered.await.ok()
    }
}

impl fmt::Debug for WorkerControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerControl").field("phase", &*self.phase.borrow()).finish_non_exhaustive()
    }
}
