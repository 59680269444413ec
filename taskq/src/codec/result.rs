//! Celery's result documents ↔ [`Record`].
//!
//! A document written by taskq begins with its `status`, and with its `generation` if that is not 0: the Redis backend
//! decides by these first bytes whether a stored document may be replaced. Facts for which Celery has
//! no key are stored under one key, `taskq`. The value of a task is passed through unchanged.
//!
//! A document of Celery's is read if it is JSON or `MessagePack`; values of Python's types in it become plain ones, as
//! in arguments.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::exact;
use super::tree::{Loss, Tree, decoded};
use super::typed_values;
use crate::message::{Failure, Json, Record, TaskId, TaskState};

/// A result document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the result of task {id} cannot be read: {why}")]
pub struct ResultError {
    /// The task of the document.
    pub id: TaskId,
    /// The fault in the document, with the remedy where there is one.
    pub why: String,
}

/// Encodes a record as a document, as Celery's clients read it.
pub fn encode(record: &Record) -> Vec<u8> {
    let document = OutgoingDocument {
        status: &record.state,
        generation: record.generation,
        result: OutgoingResult::of(record),
        traceback: record.traceback.as_deref(),
        children: [],
        date_done: record.finished_at.map(iso),
        task_id: &record.id,
        parent_id: record.parent_id.as_ref(),
        group_id: record.group_id.as_deref(),
        name: record.task.as_deref(),
        worker: record.worker.as_deref(),
        retries: record.attempt,
        taskq: OwnFacts { started: record.started_at.map(iso), retry_at: record.retry_at.map(iso) },
    };
    serde_json::to_vec(&document).expect("documents have text keys and no other map")
}

/// Decodes the record in `document`, which was found under the id `id`.
///
/// Accepts everything that Celery's clients write, and tolerates fields that other writers leave out; only `status` is
/// required.
pub fn decode(id: &TaskId, document: &[u8]) -> Result<Record, ResultError> {
    let record = if document.first() == Some(&b'{') && !typed_values::must_be_read(document) {
        plain_record(id, document)
    } else {
        foreign_record(id, document)
    };
    record.map_err(|why| ResultError { id: id.clone(), why: serializer_of(document).unwrap_or(why) })
}

fn plain_record(id: &TaskId, document: &[u8]) -> Result<Record, String> {
    let incoming = serde_json::from_slice::<Incoming<'_>>(document);
    incoming.map(|incoming| incoming.into_record(id)).map_err(|error| exact::place_of(&error))
}

/// Reads a document that is not plain JSON.
fn foreign_record(id: &TaskId, document: &[u8]) -> Result<Record, String> {
    let tree = match msgpack_tree(document) {
        Some(tree) => tree?,
        None => {
            let text = std::str::from_utf8(document).map_err(|error| error.to_string())?;
            Tree::parse(text).map_err(|error| error.to_string())?
        }
    };
    let Tree::Map(entries) = &tree else { return Err("it is no map with the key `status`".to_owned()) };
    let result = entries.iter().find(|(key, _)| decoded(key) == "result");
    let lost = result.and_then(|(_, value)| value.loss());
    // A failure is for people, who read every literal and every digit.
    let shown = result.map(|(_, value)| typed_values::plain(value.clone()).to_value());
    let plain = typed_values::plain(tree).to_json();
    let mut record = plain_record(id, plain.as_bytes())?;
    match (&record.failure, lost) {
        (Some(_), Some(_)) => record.failure = Some(read_failure(&record.state, shown)),
        (None, Some(Loss { what, why })) => record.value_fault = Some(format!("{what} is in it: {why}")),
        (_, None) => {}
    }
    Ok(record)
}

/// Reads a document in `MessagePack`; `None` if it is none.
#[cfg(feature = "msgpack")]
fn msgpack_tree(document: &[u8]) -> Option<Result<Tree<'static>, String>> {
    use super::msgpack;
    msgpack::is_map(document).then(|| msgpack::decode(document).map_err(|error| error.to_string()))
}

#[cfg(not(feature = "msgpack"))]
fn msgpack_tree(document: &[u8]) -> Option<Result<Tree<'static>, String>> {
    let is_map = matches!(document.first(), Some(0x81..=0x8f | 0xde | 0xdf));
    is_map.then(|| Err(super::BodyError::Feature("msgpack").to_string()))
}

/// Returns what is wrong with a document that another serializer wrote, as far as its bytes show it.
fn serializer_of(document: &[u8]) -> Option<String> {
    let serializer = match document {
        [0x80, 2..=5, ..] => "pickle",
        _ if is_yaml(document) => "yaml",
        _ => return None,
    };
    Some(format!(
        "a Celery worker with `result_serializer = \"{serializer}\"` wrote it, and only Python reads that; set \
         `result_serializer = \"json\"` there"
    ))
}

/// Returns whether a document looks like a map in YAML: `status: SUCCESS`, on a line of its own or between braces.
fn is_yaml(document: &[u8]) -> bool {
    let text = std::str::from_utf8(document).unwrap_or_default();
    let keys = text.split(['\n', ',', '{']).map(str::trim_start);
    !text.trim_start().starts_with("{\"") && keys.clone().any(|key| key.starts_with("status: "))
}

/// A document written by taskq. Its keys are written in this order; the first two are the prefix that Redis looks at.
#[derive(Serialize)]
struct OutgoingDocument<'a> {
    status: &'a TaskState,
    #[serde(skip_serializing_if = "is_zero")]
    generation: u32,
    result: OutgoingResult<'a>,
    traceback: Option<&'a str>,
    children: [(); 0],
    date_done: Option<String>,
    task_id: &'a TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<&'a TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    retries: u32,
    #[serde(skip_serializing_if = "OwnFacts::is_empty")]
    taskq: OwnFacts,
}

#[derive(Serialize)]
struct OwnFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
}

impl OwnFacts {
    fn is_empty(&self) -> bool {
        self.started.is_none() && self.retry_at.is_none()
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutgoingResult<'a> {
    Value(Option<&'a Json>),
    Failure(Cow<'a, Failure>),
}

impl<'a> OutgoingResult<'a> {
    fn of(record: &'a Record) -> Self {
        if !has_failure(&record.state) {
            return Self::Value(record.value.as_ref());
        }
        // A Python client fails on each read of a failure without a map, so there always is one.
        Self::Failure(match &record.failure {
            Some(failure) => Cow::Borrowed(failure),
            None => Cow::Owned(unexplained(&record.state)),
        })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Returns whether the `result` of this state is a failure.
fn has_failure(state: &TaskState) -> bool {
    matches!(state, TaskState::Failure | TaskState::Retry | TaskState::Revoked)
}

/// Returns the failure of a record that names none.
fn unexplained(state: &TaskState) -> Failure {
    match state {
        TaskState::Revoked => Failure::new("celery.exceptions", "TaskRevokedError", "revoked"),
        TaskState::Retry => Failure::new("celery.exceptions", "Retry", "no reason was recorded"),
        _ => Failure::new("builtins", "Exception", "no reason was recorded"),
    }
}

fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, false)
}

/// A document by any writer. Only fields that must be understood have a type; the others are decoded later, so that one
/// odd value does not make the rest unreadable.
#[derive(Deserialize)]
struct Incoming<'a> {
    status: TaskState,
    #[serde(borrow, default)]
    generation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    traceback: Option<&'a RawValue>,
    #[serde(borrow, default)]
    date_done: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parent_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    group_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    worker: Option<&'a RawValue>,
    #[serde(borrow, default)]
    retries: Option<&'a RawValue>,
    #[serde(borrow, default)]
    taskq: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct IncomingFacts {
    #[serde(default)]
    started: Value,
    #[serde(default)]
    retry_at: Value,
}

impl Incoming<'_> {
    fn into_record(self, id: &TaskId) -> Record {
        let facts: IncomingFacts =
            self.taskq.and_then(|facts| serde_json::from_str(facts.get()).ok()).unwrap_or_default();
        let (value, failure) = if has_failure(&self.status) {
            (None, Some(read_failure(&self.status, self.result.map(value))))
        } else {
            (read_value(&self.status, self.result), None)
        };
        Record {
            id: id.clone(),
            value,
            value_fault: None,
            failure,
            traceback: self.traceback.and_then(text),
            finished_at: self.date_done.and_then(text).as_deref().and_then(time),
            started_at: facts.started.as_str().and_then(time),
            retry_at: facts.retry_at.as_str().and_then(time),
            attempt: self.retries.and_then(count).unwrap_or_default(),
            generation: self.generation.and_then(count).unwrap_or_default(),
            task: self.name.and_then(text),
            worker: self.worker.and_then(text),
            parent_id: self.parent_id.and_then(text).and_then(|id| TaskId::parse(&id).ok()),
            group_id: self.group_id.and_then(text),
            state: self.status,
        }
    }
}

/// Returns the value of a record that is no failure. A task that succeeded always has a value, at least `null`.
fn read_value(state: &TaskState, result: Option<&RawValue>) -> Option<Json> {
    match result {
        Some(value) => Some(value.to_owned()),
        None if *state == TaskState::Success => Some(RawValue::NULL.to_owned()),
        None => None,
    }
}

/// Reads a failure from any of its forms: Celery's map, a text, or nothing.
fn read_failure(state: &TaskState, result: Option<Value>) -> Failure {
    let mut parts = match result {
        None => return unexplained(state),
        Some(Value::Object(parts)) => parts,
        Some(other) => return Failure { exc_message: vec![other], ..nameless() },
    };
    Failure {
        exc_type: match parts.remove("exc_type") {
            Some(Value::String(name)) => name,
            _ => nameless().exc_type,
        },
        exc_message: match parts.remove("exc_message") {
            Some(Value::Array(parts)) => parts,
            Some(Value::Null) | None => Vec::new(),
            Some(one) => vec![one],
        },
        exc_module: match parts.remove("exc_module") {
            Some(Value::String(module)) => Some(module),
            _ => None,
        },
    }
}

fn nameless() -> Failure {
    Failure { exc_type: "Exception".to_owned(), exc_message: Vec::new(), exc_module: None }
}

/// Reads a value for people.
fn value(json: &RawValue) -> Value {
    // It is JSON, and only its depth may be too great.
    Tree::parse(json.get()).map_or_else(|_| json.get().into(), |tree| tree.to_value())
}

/// Reads a text, or any other JSON value as its text.
fn text(json: &RawValue) -> Option<String> {
    match value(json) {
        Value::String(text) => Some(text),
        Value::Null => None,
        _ => Some(json.get().to_owned()),
    }
}

/// Reads a count, also if it was written as text.
fn count(json: &RawValue) -> Option<u32> {
    match value(json) {
        Value::Number(number) => number.as_u64().map(saturated),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Parses a point in time as Python writes it. Without an offset it is UTC.
fn time(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"));
    naive.ok().map(|naive| naive.and_utc())
}

#[cfg(test)]
mod tests;
