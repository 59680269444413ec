//! The wait of a task for the result of another one, in a worker that has no slot left for that.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::sent::CallFacts;
use crate::attempt::FreeSlots;
use crate::backend::{ResultBackend, ResultBackendExt};
use crate::definition::Context;
use crate::io;
use crate::message::{TaskId, TaskState};

/// The time after which a wait is looked at.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(1);

/// The wait of a task for another one.
pub(super) struct ChildWait<'a> {
    pub(super) child: &'a TaskId,
    pub(super) facts: Option<&'a CallFacts>,
    pub(super) results: &'a dyn ResultBackend,
}

impl ChildWait<'_> {
    /// Waits for `wait`. If it is made inside of a task, goes on for a second, and the other task has not begun while
    /// the worker has no free slot, a warning names both: if no other worker takes the other task, both wait for ever.
    pub(super) async fn watch<F: Future>(&self, wait: F) -> F::Output {
        let Some((parent, slots)) = self.parent() else { return wait.await };
        let mut wait = pin!(wait);
        if let Ok(output) = io::timeout_here(SUSPICIOUS_AFTER, &mut wait).await {
            return output;
        }
        if !slots.exist() && self.has_not_begun().await {
            self.warn(&parent);
        }
        wait.await
    }

    /// The task that waits and the slots of its worker, for a child that could have begun by now.
    fn parent(&self) -> Option<(Context, Arc<FreeSlots>)> {
        if self.facts.is_some_and(|facts| facts.is_delayed) {
            return None;
        }
        let context = Context::current()?;
        let slots = context.try_state::<FreeSlots>()?;
        Some((context, slots))
    }

    /// Whether there is no record of the task. A backend that cannot be read says nothing about that.
    async fn has_not_begun(&self) -> bool {
        let record = self.results.read_one(self.child).await;
        record.is_ok_and(|record| record.is_none_or(|record| record.state == TaskState::Pending))
    }

    fn warn(&self, parent: &Context) {
        tracing::warn!(
            task = parent.task(),
            id = %parent.id(),
            awaited_task = self.facts.map_or("(unknown)", |facts| &facts.task),
            awaited_id = %self.child,
            "the task waits for the result of another one, which has not begun, and this worker has no free slot for it: \
             if no other worker takes it, both wait in vain; raise the concurrency, give such tasks a queue with workers \
             of their own, or let the waiting task end first"
        );
    }
}
