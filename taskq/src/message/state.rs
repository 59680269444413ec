//! The states of a task, by Celery's names.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a task, by the name in its result document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// The task is queued, or was never sent. Never stored: the absence of a document means this state.
    Pending,
    /// An attempt is running. Written once an attempt has run for about 100 ms.
    Started,
    /// The running task has reported progress.
    Progress,
    /// An attempt failed and another is due.
    Retry,
    /// The task succeeded, with a result. Terminal.
    Success,
    /// The task failed, and no further attempt follows. Terminal.
    Failure,
    /// The task was cancelled, or it expired. Terminal.
    Revoked,
    /// A state that a program defines itself, in capitals; never terminal.
    Custom(Box<str>),
}

impl TaskState {
    /// Returns whether no other state follows: `SUCCESS`, `FAILURE` or `REVOKED`.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }

    /// Returns Celery's name of the state.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Started => "STARTED",
            Self::Progress => "PROGRESS",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Custom(name) => name,
        }
    }
}

impl From<&str> for TaskState {
    fn from(name: &str) -> Self {
        match name {
            "PENDING" => Self::Pending,
            "STARTED" => Self::Started,
            "PROGRESS" => Self::Progress,
            "RETRY" => Self::Retry,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "REVOKED" => Self::Revoked,
            other => Self::Custom(other.into()),
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for TaskState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TaskState {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&*Cow::<'de, str>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::TaskState;

    #[test]
    fn names_round_trip() {
        for name in ["PENDING", "STARTED", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "UPLOADING"] {
            assert_eq!(TaskState::from(name).as_str(), name);
        }
        assert!(!TaskState::from("UPLOADING").is_terminal());
    }
}
