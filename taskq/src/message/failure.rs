//! A failure as it is stored: Celery's encoding of an exception.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The reason for which a task failed, in the form of Celery's result documents: a type, its module and the arguments
/// that it was made with. The first argument is the message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The name of the error's type, for example `InvalidInput` or `ValueError`.
    pub exc_type: String,
    /// The arguments that the error was made with; the first is its message. Never empty for failures of our own,
    /// except where Celery leaves it empty.
    #[serde(default, deserialize_with = "one_or_many")]
    pub exc_message: Vec<Value>,
    /// The module of the type, with dots: `my_crate.errors`, `builtins`.
    #[serde(default)]
    pub exc_module: Option<String>,
}

impl Failure {
    /// Makes a failure of type `exc_type` in `exc_module` with one message.
    pub fn new(exc_module: &str, exc_type: &str, message: impl Into<String>) -> Self {
        Self {
            exc_type: exc_type.to_owned(),
            exc_message: vec![Value::String(message.into())],
            exc_module: Some(exc_module.to_owned()),
        }
    }

    /// Returns the message: the arguments as text, joined by commas.
    pub fn message(&self) -> String {
        let mut text = String::new();
        for part in &self.exc_message {
            if !text.is_empty() {
                text.push_str(", ");
            }
            match part {
                Value::String(part) => text.push_str(part),
                other => text.push_str(&other.to_string()),
            }
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message();
        if message.is_empty() { f.write_str(&self.exc_type) } else { write!(f, "{}: {message}", self.exc_type) }
    }
}

/// Reads a list, or the single text that other writers store where Celery stores a list.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(parts) => parts,
        Value::Null => Vec::new(),
        one => vec![one],
    })
}
