//! The identity of a task.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id that fits into an AMQP short string, in bytes.
const TASK_ID_BYTES_MAX: usize = 255;

/// The identity of a task: any text of 1 to 255 bytes, by default a fresh `UUIDv7`.
///
/// Copies of a message, its retries and its result all carry the same id. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(Arc<str>);

/// An error in a text that cannot serve as a task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a task id has 1 to {TASK_ID_BYTES_MAX} bytes, this one has {0}")]
pub struct InvalidTaskId(usize);

impl TaskId {
    /// Makes a fresh id: a `UUIDv7`, so that ids sort by the time they were made.
    pub fn new() -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        Self(Arc::from(&*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text)))
    }

    /// Takes this text as an id. Fails if the text is empty or longer than 255 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidTaskId> {
        if text.is_empty() || text.len() > TASK_ID_BYTES_MAX {
            return Err(InvalidTaskId(text.len()));
        }
        Ok(Self(Arc::from(text)))
    }

    /// Makes a stand-in for an id to come; it never leaves the crate.
    pub(crate) fn placeholder() -> Self {
        Self(Arc::default())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}

impl std::str::FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for TaskId {
    type Error = InvalidTaskId;

    fn try_from(text: &str) -> Result<Self, InvalidTaskId> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TaskId {
    type Error = InvalidTaskId;

    fn try_from(text: String) -> Result<Self, InvalidTaskId> {
        Self::parse(&text)
    }
}

impl Serialize for TaskId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_255_bytes() {
        assert!(TaskId::parse("").is_err());
        assert!(TaskId::parse("a").is_ok());
        assert!(TaskId::parse(&"x".repeat(255)).is_ok());
        assert!(TaskId::parse(&"x".repeat(256)).is_err());
        assert!(serde_json::from_str::<TaskId>("\"\"").is_err());
    }

    #[test]
    fn fresh_ids_sort_by_time() {
        let first = TaskId::new();
        let second = TaskId::new();
        assert!(first < second);
    }
}
