//! One task, as the worker and the caller know it.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{ArgumentError, Arguments, Context, ContextParts, TaskError, TaskOptions};
use crate::message::{Headers, Json, TaskId};

/// What an attempt gives: the result, serialized, or an error with its directive.
pub type TaskResult = Result<Json, TaskError>;

/// Everything that is known of a task at compile time. Made by `#[task]`.
pub struct Definition {
    /// The name in messages.
    pub name: &'static str,
    /// What the attribute said.
    pub options: TaskOptions,
    /// The parameters in order, without the context.
    pub parameters: &'static [Parameter],
    /// The result's type, as written.
    pub result: &'static str,
    /// Where the function is.
    pub place: Place,
    /// Decodes the arguments and gives what is to be run.
    pub start: fn(Context, &Arguments<'_>) -> Result<Body, ArgumentError>,
}

/// A parameter of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name; callers may pass it by this.
    pub name: &'static str,
    /// Its type, as written.
    pub type_name: &'static str,
}

/// Where a function is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The package.
    pub package: &'static str,
    /// The source file.
    pub file: &'static str,
    /// The line of its name.
    pub line: u32,
}

/// An attempt, ready to run.
pub enum Body {
    /// An async task: polled on the task runtime.
    Async(BoxFuture<'static, TaskResult>),
    /// A plain function: called on the blocking pool.
    Blocking(Box<dyn FnOnce() -> TaskResult + Send>),
}

impl Definition {
    /// Fails, as the worker would, if the task cannot be started with these arguments: if there are too many or too few, a
    /// name that no parameter has, or a value of another type. Decodes them as an attempt does; nothing is run.
    pub fn check_arguments(&self, positional: &[Value], named: &Map<String, Value>) -> Result<(), ArgumentError> {
        let raw = |value: &Value| serde_json::value::to_raw_value(value).expect("JSON can be written as JSON");
        let positional: Vec<_> = positional.iter().map(raw).collect();
        let named: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), raw(value))).collect();
        let arguments = Arguments::new(
            positional.iter().map(|value| &**value).collect(),
            named.iter().map(|(name, value)| ((*name).into(), &**value)).collect(),
        );
        let id = TaskId::new();
        let context = Context::new(ContextParts {
            root_id: id.clone(),
            id,
            task: self.name,
            attempt: 0,
            retries_left: 0,
            parent_id: None,
            headers: Headers::new(),
            deadline: None,
            cancelled: watch::channel(false).1,
            progress: Arc::default(),
            state: Arc::default(),
        });
        (self.start)(context, &arguments).map(drop)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} (package {})", self.file, self.line, self.package)
    }
}

/// Definitions of one name are one task: a registry takes only one of them.
impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Definition {}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Definition({} at {})", self.name, self.place)
    }
}
