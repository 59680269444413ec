//! The identity of a run.

use super::{Envelope, TaskId};

/// The identity of one run of a task: its task id, generation, attempt and number of snoozes.
///
/// Messages with equal keys are copies of one run, of which only one counts; see [`Envelope::run_key`]. Exhaustive: a
/// further part of the identity would be a matter for everybody that makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// The task's id.
    pub id: TaskId,
    /// The generation of the task, counted from 0; putting a dead task back begins a new one.
    pub generation: u32,
    /// The attempt within the generation, counted from 0.
    pub attempt: u32,
    /// The number of times that the task has snoozed; a snooze repeats an attempt.
    pub snoozes: u32,
}

impl Envelope {
    /// Returns the identity of the run that this message asks for.
    pub fn run_key(&self) -> RunKey {
        RunKey { id: self.id.clone(), generation: self.generation, attempt: self.attempt, snoozes: self.snoozes }
    }
}
