//! Steps that must not be skipped.
//!
//! A fault that may pass is waited out, and health tells of it. A fault that cannot pass is the caller's to deal with:
//! waiting for it would keep one task unacknowledged for ever.

use std::error::Error;
use std::time::Duration;

use taskq::backend::BackendError;
use taskq::message::TaskId;

use super::super::observe::{Moment, Observers};

/// Bounds of the delay between tries while a server is away.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(50);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(2);

/// An error that tells whether it would come again however often the step were tried.
pub(crate) trait Permanence: Error + Sync + 'static {
    /// Whether the fault is in what was asked, and not in the state of a server or the network.
    fn is_permanent(&self) -> bool;
}

impl Permanence for BackendError {
    fn is_permanent(&self) -> bool {
        self.is_permanent()
    }
}

impl Permanence for taskq::Error {
    fn is_permanent(&self) -> bool {
        self.is_permanent()
    }
}

/// Tries a step until it works, with a growing delay, or until it fails with a permanent error. `what` names the step
/// for people.
pub(crate) async fn until_done<T, E, F>(
    observers: &Observers,
    what: &'static str,
    mut step: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Permanence,
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = Waiting::new(observers, what);
    loop {
        match step().await {
            Err(error) if !error.is_permanent() => waiting.pause(&error).await,
            outcome => return outcome,
        }
    }
}

/// The answer of a step on the claims or losses of a task; `None`, of which observers are told, if what is stored
/// cannot be read or written by anybody. The task then goes on as if nothing were known.
pub(crate) fn unless_unusable<T>(observers: &Observers, id: &TaskId, answer: Result<T, BackendError>) -> Option<T> {
    answer.inspect_err(|error| observers.observe(&Moment::ClaimUnusable { id, error })).ok()
}

/// A step that is tried again and again. From its first pause until it is dropped, observers know that it waits.
pub(super) struct Waiting<'a> {
    observers: &'a Observers,
    what: &'static str,
    delay: Duration,
    has_paused: bool,
}

impl<'a> Waiting<'a> {
    /// A step that has not been tried yet.
    pub(super) fn new(observers: &'a Observers, what: &'static str) -> Self {
        Self { observers, what, delay: RETRY_MIN, has_paused: false }
    }

    /// Waits before the next try. `error` is why the last one failed.
    pub(super) async fn pause(&mut self, error: &(impl Error + Sync + 'static)) {
        self.observers.observe(&Moment::StepWaits { what: self.what, error, again: self.has_paused });
        self.has_paused = true;
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(RETRY_MAX);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.has_paused {
            self.observers.observe(&Moment::StepWaitsNoMore { what: self.what });
        }
    }
}
