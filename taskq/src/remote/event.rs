//! Events: what happens to tasks and workers, told to those who watch.

use serde_json::{Map, Value};

/// An event, in the terms of Celery's: a type such as `task-started`, and fields.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The type, for example `task-succeeded` or `worker-heartbeat`.
    pub kind: String,
    /// The fields by their names, without the type.
    pub fields: Map<String, Value>,
}

impl Event {
    /// Makes an event without fields.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), fields: Map::new() }
    }

    /// Adds a field, and returns the event.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// Returns a text field.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    /// Returns the routing key of the event: the type with `.` in place of the first `-`.
    pub fn routing_key(&self) -> String {
        self.kind.replacen('-', ".", 1)
    }
}
