//! Flights: plain data about running tasks, and about the death of the process that ran them.

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
    /// The generation of the task; `dead retry` begins a new one.
    pub(crate) generation: u32,
    /// The number of the attempt, 0 first.
    pub(crate) attempt: u32,
    /// Whether a quarantine process ran it, and no other task beside it.
    pub(crate) in_quarantine: bool,
    /// The time at which the body began, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Whether the crashing thread was running this very task.
    pub(crate) culprit: bool,
}

/// A body that begins, as it is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlightEntry<'a> {
    /// The fields have the meaning of those of [`Flight`].
    pub(crate) id: &'a str,
    pub(crate) task: &'a str,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    pub(crate) in_quarantine: bool,
    pub(crate) since_ms: u64,
}

/// The number of bytes of an id that are recorded. taskq's ids have 36; Celery lets users choose.
pub(crate) const ID_MAX: usize = 120;

/// Returns the id as it is recorded: unchanged, or if it is too long its beginning and a hash of all of it, so that two
/// tasks whose ids begin alike are not taken for one.
pub(crate) fn recorded_id(id: &str) -> Cow<'_, str> {
    if id.len() <= ID_MAX {
        return Cow::Borrowed(id);
    }
    let hash = fnv1a(id.bytes());
    let beginning = &id[..id.floor_char_boundary(ID_MAX - 17)];
    Cow::Owned(format!("{beginning}~{hash:016x}"))
}

/// The number of bytes of a task's name that are recorded.
pub(crate) const TASK_MAX: usize = 72;

/// The recording of a dead child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// The process id of the child.
    pub(crate) pid: u32,
    /// The time at which it began, in milliseconds since 1970. Together with the process id it identifies the process.
    pub(crate) began_ms: u64,
    /// The tasks that it was running.
    pub(crate) flights: Vec<Flight>,
}

/// The death of a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Death {
    /// The exit code, if the child exited.
    pub(crate) code: Option<i32>,
    /// The signal that ended the child. Neither this nor a code if no supervisor was left to see its end.
    pub(crate) signal: Option<i32>,
    /// The name of the machine.
    pub(crate) host: String,
    /// The time at which the death was noticed, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// The loss of a process: its death and the tasks that it was running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) recording: Recording,
    pub(crate) death: Death,
}

impl Loss {
    /// Returns the name of the process that died. No other process has it, before or after.
    pub(crate) fn process(&self) -> String {
        process_name(&self.death.host, self.recording.pid, self.recording.began_ms)
    }
}

/// Returns the name of a process in Kv; its recorder knows when it began.
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
