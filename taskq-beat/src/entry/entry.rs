//! An entry: a task with its arguments, its schedule, and its policies.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::options::{Misfire, OnDoubt, Origin, Overlap};
use crate::schedule::Schedule;

/// The default of [`Entry::misfire_max`].
pub const MISFIRE_MAX_DEFAULT: u32 = 100;

/// A task that beat sends by a schedule.
///
/// Made by [`Entry::new`] or [`Entry::read`]; every field may be changed afterwards.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The unique name of the entry; part of the ids of the tasks that it sends.
    pub name: String,
    /// The name of the task.
    pub task: String,
    /// The positional arguments.
    pub args: Vec<Value>,
    /// The named arguments.
    pub kwargs: Map<String, Value>,
    /// The slots: the moments at which the task is due.
    pub schedule: Schedule,
    /// The queue. Default: the queue of the task.
    pub queue: Option<String>,
    /// The priority, 0 to 255, larger first. Default: the priority of the task.
    pub priority: Option<u8>,
    /// The time after which a slot is no longer wanted, counted from when it is due: a run that has not begun by then
    /// ends as `REVOKED`, and a slot that has not been sent by then is not sent any more. Default: the task's own
    /// limit, counted from the moment of sending.
    pub expires: Option<Duration>,
    /// The policy for missed slots.
    pub misfire: Misfire,
    /// The largest number of slots that `misfire = "all"` fires together; older ones are reported as missed.
    pub misfire_max: u32,
    /// The largest delay by which a slot may be due after its time. The delay depends on the entry and the slot, and
    /// ends before the next slot.
    pub jitter: Duration,
    /// Whether the task is sent while its previous run is unfinished.
    pub overlap: Overlap,
    /// The policy for slots of which a beat cannot know whether the previous leader sent them.
    pub on_doubt: OnDoubt,
    /// Whether the entry has slots at all.
    pub enabled: bool,
    /// Whether the task lives in another program, so that its name and arguments are not checked.
    pub foreign: bool,
    /// The place where the entry is written.
    pub origin: Origin,
}

impl Entry {
    /// Returns the entry `name` that sends `task` by `schedule`, with the defaults for everything else.
    pub fn new(name: impl Into<String>, task: impl Into<String>, schedule: Schedule, origin: Origin) -> Self {
        Self {
            name: name.into(),
            task: task.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            schedule,
            queue: None,
            priority: None,
            expires: None,
            misfire: Misfire::default(),
            misfire_max: MISFIRE_MAX_DEFAULT,
            jitter: Duration::ZERO,
            overlap: Overlap::default(),
            on_doubt: OnDoubt::default(),
            enabled: true,
            foreign: false,
            origin,
        }
    }
}

/// Shows the entry without its arguments, which may be secret.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("task", &self.task)
            .field("schedule", &self.schedule)
            .field("queue", &self.queue)
            .field("misfire", &self.misfire)
            .field("overlap", &self.overlap)
            .finish_non_exhaustive()
    }
}
