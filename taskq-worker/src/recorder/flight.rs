//! What was in the air: plain data about running tasks, and about the death of the process that ran them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use taskq::internal::hash::fnv1a;

/// A task that a child is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flight {
    /// The task's id, as [`recorded_id`] gives it.
    pub(crate) id: String,
    /// The task's name; cut at [`TASK_MAX`] bytes.
    pub(crate) task: String,
    /// Which life of the task it is; `dead retry` begins a new one.
    pub(crate) generation: u32,
    /// Which attempt it is, 0 first.
    pub(crate) attempt: u32,
    /// Whether it was the only task its process would run.
    pub(crate) alone: bool,
    /// When its body began, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Whether the crashing thread was running this very task.
    pub(crate) culprit: bool,
}

/// A body that begins, as it is noted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The fields have the meaning of those of [`Flight`].
    pub(crate) id: &'a str,
    pub(crate) task: &'a str,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    pub(crate) alone: bool,
    pub(crate) since_ms: u64,
}

/// How many bytes of an id are recorded. Ours are 36 long; Celery lets users choose.
pub(crate) const ID_MAX: usize = 120;

/// The id as it is recorded: itself, or if it is too long its beginning and a hash of all of it, so that two tasks
/// whose ids begin alike are not taken for one.
pub(crate) fn recorded_id(id: &str) -> Cow<'_, str> {
    if id.len() <= ID_MAX {
        return Cow::Borrowed(id);
    }
    let hash = fnv1a(id.bytes());
    let beginning = &id[..id.floor_char_boundary(ID_MAX - 17)];
    Cow::Owned(format!("{beginning}~{hash:016x}"))
}

/// How many bytes of a task's name are recorded.
pub(crate) const TASK_MAX: usize = 72;

/// What the recorder of a dead child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// The child's process id.
    pub(crate) pid: u32,
    /// When it began, in milliseconds since 1970. With the process id it names this life of the process.
    pub(crate) began_ms: u64,
    /// What it was running.
    pub(crate) flights: Vec<Flight>,
}

/// How a child died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Death {
    /// The exit code, if it ended by itself.
    pub(crate) code: Option<i32>,
    /// The signal that ended it. Neither this nor a code where nobody was left to see it die.
    pub(crate) signal: Option<i32>,
    /// The machine's name.
    pub(crate) host: String,
    /// When it was noticed, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// A death with what was lost by it: what the next of kin reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) recording: Recording,
    pub(crate) death: Death,
}

impl Loss {
    /// The process that died: no other has this name, not before nor after.
    pub(crate) fn process(&self) -> String {
        process_name(&self.death.host, self.recording.pid, self.recording.began_ms)
    }
}

/// What a process is called in Kv; a recorder says when it began.
pub(crate) fn process_name(host: &str, pid: u32, began_ms: u64) -> String {
    format!("{host}/{pid}/{began_ms}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_stay_apart() {
        let short = "a".repeat(ID_MAX);
        assert_eq!(recorded_id(&short), short);
        let (one, two) = ("é".repeat(100) + "1", "é".repeat(100) + "2");
        assert_ne!(recorded_id(&one), recorded_id(&two));
        assert!(
            recorded_id(&one).len() <= ID_MAX && one.starts_with(recorded_id(&one).split('~').next().unwrap_or("?"))
        );
    }
}
