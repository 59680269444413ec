//! The facts about a call that its sender knows, and a handle to its task keeps.

use std::borrow::Cow;

use crate::canvas::CallParts;
use crate::message::TaskId;

/// A call that was sent.
#[derive(Debug, Clone)]
pub(super) struct SentCall {
    pub(super) id: TaskId,
    /// The facts about it; `None` if another program, or another call, has sent it.
    pub(super) facts: Option<CallFacts>,
}

/// The facts about a call.
#[derive(Debug, Clone)]
pub(super) struct CallFacts {
    /// The task's name.
    pub(super) task: Cow<'static, str>,
    /// Whether a result will be stored.
    pub(super) stores_result: bool,
    /// Whether the task is to begin later.
    pub(super) is_delayed: bool,
}

impl CallFacts {
    pub(super) fn of(parts: &CallParts) -> Self {
        let ignores_result = parts.options.ignore_result.unwrap_or(parts.task_options.ignore_result);
        Self {
            task: parts.task.clone(),
            stores_result: !ignores_result,
            is_delayed: parts.options.countdown.is_some_and(|delay| !delay.is_zero()) || parts.options.eta.is_some(),
        }
    }
}
