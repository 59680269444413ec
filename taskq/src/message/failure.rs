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

impl Failure {
    /// Cuts the type's name and the arguments to `bytes_max` bytes of text each, with a note of what they had.
    #[must_use]
    pub(crate) fn shortened(mut self, bytes_max: usize) -> Self {
        self.exc_type = shortened(self.exc_type, bytes_max);
        for part in &mut self.exc_message {
            match part {
                Value::String(text) => *text = shortened(std::mem::take(text), bytes_max),
                Value::Array(_) | Value::Object(_) => {
                    let text = part.to_string();
                    if text.len() > bytes_max {
                        *part = Value::String(shortened(text, bytes_max));
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        self
    }
}

/// Cuts a text to about `bytes_max` bytes, with a note of how many it had.
pub fn shortened(mut text: String, bytes_max: usize) -> String {
    let size = text.len();
    if size <= bytes_max {
        return text;
    }
    text.truncate(text.floor_char_boundary(bytes_max));
    format!("{text} … ({size} bytes in all)")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_failure_is_cut_and_says_so() {
        let mut failure = Failure::new("shop", "NoStock", "ü".repeat(50));
        failure.exc_message.extend([json!(7), json!(["a", "b"]), json!(["x".repeat(100)])]);
        let cut = failure.shortened(11);
        assert_eq!(cut.exc_message[0], json!("üüüüü … (100 bytes in all)"));
        assert_eq!(cut.exc_message[1..3], [json!(7), json!(["a", "b"])]);
        assert_eq!(cut.exc_message[3], json!("[\"xxxxxxxxx … (104 bytes in all)"));
        assert_eq!(cut.clone().shortened(100), cut, "what is short enough stays");
    }
}
