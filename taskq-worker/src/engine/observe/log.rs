//! Logging.

use taskq::internal::attempt::Verdict;

use super::{Moment, Observer, Subject};

/// The log: one line for each moment that a person may want to know of.
#[derive(Debug)]
pub(crate) struct MomentLog {
    /// Whether a supervisor replaces this process when one of its threads is lost.
    pub(crate) is_supervised: bool,
}

impl Observer for MomentLog {
    fn observe(&self, moment: &Moment<'_>) {
        match moment {
            Moment::Received { .. }
            | Moment::Began { .. }
            | Moment::BodyEnded { .. }
            | Moment::ProgressDropped { .. }
            | Moment::RecordsWritten
            | Moment::StepWaitsNoMore { .. } => {}
            Moment::Concluded { subject, verdict, .. } => concluded(*subject, verdict),
            Moment::EndedLate { subject: Subject { task, id, .. }, frees_thread: false } => {
                tracing::info!(task, %id, "a task that was past its time has ended; its end had been recorded before");
            }
            Moment::EndedLate { subject: Subject { task, id, .. }, frees_thread: true } => {
                tracing::info!(task, %id, "a plain function that was stopped has returned; its thread is free again");
            }
            Moment::BlocksRuntime { subject: Subject { task, id, .. } } => tracing::warn!(
                task, %id,
                "this task has run for a second without an await and blocks the async runtime; use a plain fn or \
                 spawn_blocking"
            ),
            Moment::Stuck { subject: Subject { task, id, .. } } if self.is_supervised => tracing::warn!(
                task, %id,
                "this task is past its hard limit and cannot be stopped; its process is replaced"
            ),
            Moment::Stuck { subject: Subject { task, id, .. } } => tracing::error!(
                task, %id,
                "this task is past its hard limit and cannot be stopped; its thread and its slot are lost until it ends"
            ),
            Moment::NotRun { subject: Subject { task, id, .. }, verdict } => {
                tracing::warn!(task, %id, ?verdict, "not run");
            }
            Moment::UnknownTask { subject: Subject { task, id, .. }, packages } => tracing::warn!(
                task, %id,
                "no task of this name is registered here; returned for other workers (linked crates with tasks: \
                 {packages}; a crate is only linked if it is mentioned: `use my_tasks as _;`)"
            ),
            Moment::Unfit { subject: Subject { task, id, .. }, error } => {
                tracing::warn!(task, %id, error = *error, "the arguments do not fit this build of the task");
            }
            Moment::Unreadable { queue, error } => {
                tracing::error!(queue, error = *error, "a message is refused; it goes to the dead set");
            }
            Moment::Duplicate { subject: Subject { id, attempt, .. } } => {
                tracing::debug!(%id, attempt, "a copy of a task that has run or is running");
            }
            Moment::TakenOver { subject: Subject { task, id, attempt } } => tracing::warn!(
                task, %id, attempt,
                "another worker has taken this task over meanwhile; its run counts, this one's result is dropped"
            ),
            Moment::Quarantined { subject: Subject { task, id, .. }, queue, why } => {
                tracing::warn!(task, %id, queue, why, "this task goes to quarantine, where it runs alone");
            }
            Moment::NotQuarantined { subject: Subject { task, id, .. }, why } => {
                tracing::warn!(task, %id, "this task belongs into quarantine and runs here all the same: {why}");
            }
            Moment::QuarantineWaits { queues } => {
                tracing::debug!(?queues, "tasks wait in quarantine");
            }
            Moment::WorkerLost { subject: Subject { task, id, .. }, how } => {
                tracing::error!(task, %id, how, "processes died while they ran this task; it is not run again");
            }
            Moment::RecordsWait { count, error } => {
                tracing::warn!(error = *error, records = count, "results wait for the result backend");
            }
            Moment::RecordRefused { id, why } => {
                tracing::error!(%id, why, "the result backend does not take the record of this task");
            }
            Moment::RecordUnreadable { id, error } => {
                tracing::error!(%id, error = *error, "the stored record of this task cannot be read");
            }
            Moment::ClaimUnusable { id, error } => {
                tracing::error!(%id, error = *error, "the claim of this task is of no use; the task goes on without it");
            }
            Moment::StepWaits { what, error, again } => {
                tracing::warn!(
                    error = *error,
                    "{what} did not work{}; trying again",
                    if *again { " again" } else { "" }
                );
            }
            Moment::NeverPublished { id, error, then } => {
                tracing::error!(id, error = *error, "the message that follows this task cannot be published; {then}");
            }
        }
    }
}

fn concluded(Subject { task, id, attempt }: Subject<'_>, verdict: &Verdict) {
    match verdict {
        Verdict::Succeed => tracing::debug!(task, %id, attempt, "succeeded"),
        Verdict::Retry { delay_ms, failure } => {
            tracing::warn!(task, %id, attempt, %failure, delay_ms, "failed; will be retried");
        }
        Verdict::Snooze { delay_ms, put_back: false } => tracing::info!(task, %id, attempt, delay_ms, "snoozed"),
        Verdict::Snooze { delay_ms, put_back: true } => {
            tracing::warn!(task, %id, delay_ms, "not begun; returned for workers of another build");
        }
        Verdict::Fail { failure, .. } => tracing::error!(task, %id, attempt, %failure, "failed for good"),
        Verdict::Revoke { failure } => tracing::info!(task, %id, attempt, %failure, "revoked"),
        Verdict::GiveBack => tracing::info!(task, %id, attempt, "interrupted; given back"),
    }
}
