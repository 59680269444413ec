//! The definition of one task, shared by worker and caller.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::{ArgumentError, Arguments, Context, ContextParts, TaskError, TaskOptions};
use crate::message::{Json, TaskId};

/// The result of an attempt, serialized, or an error with its directive.
pub type TaskResult = Result<Json, TaskError>;

/// The function that decodes a task's arguments and returns the body to run.
pub type StartTask = fn(Context, &Arguments<'_>) -> Result<Body, ArgumentError>;

/// The definition of a task at compile time. Made by `#[task]`.
#[non_exhaustive]
pub struct Definition {
    /// The name in messages.
    pub name: &'static str,
    /// The options that the attribute names.
    pub options: TaskOptions,
    /// The parameters in order, without the context.
    pub parameters: &'static [Parameter],
    /// The result's type, as written.
    pub result: &'static str,
    /// The place of the function in the source.
    pub location: SourceLocation,
    /// Decodes the arguments and returns the body to run.
    pub start: StartTask,
}

/// A parameter of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// The name, by which callers may pass it.
    pub name: &'static str,
    /// The type, as written.
    pub type_name: &'static str,
}

/// The place of a function in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceLocation {
    /// The package.
    pub package: &'static str,
    /// The source file.
    pub file: &'static str,
    /// The line of the function's name.
    pub line: u32,
}

/// An attempt, ready to run.
///
/// Exhaustive, since a worker must know how to run every kind of body.
pub enum Body {
    /// An async task: polled on the task runtime.
    Async(BoxFuture<'static, TaskResult>),
    /// A synchronous task: called on a thread where it may block.
    Blocking(Box<dyn FnOnce() -> TaskResult + Send>),
}

impl Definition {
    /// Defines the task `name`, with default options, without parameters, and with the result `()`.
    pub const fn new(name: &'static str, location: SourceLocation, start: StartTask) -> Self {
        Self { name, options: TaskOptions::DEFAULT, parameters: &[], result: "()", location, start }
    }

    /// Sets the options.
    #[must_use]
    pub const fn with_options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the parameters.
    #[must_use]
    pub const fn with_parameters(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    /// Sets the result's type, as written.
    #[must_use]
    pub const fn with_result(mut self, result: &'static str) -> Self {
        self.result = result;
        self
    }

    /// Checks, as the worker would, whether the task can be started with these arguments.
    ///
    /// Fails if there are too many or too few, a name that no parameter has, or a value of another type. The arguments
    /// are decoded as for an attempt, but nothing is run.
    pub fn check_arguments(&self, positional: &[Value], named: &Map<String, Value>) -> Result<(), ArgumentError> {
        let raw = |value: &Value| serde_json::value::to_raw_value(value).expect("JSON can be written as JSON");
        let positional: Vec<Json> = positional.iter().map(raw).collect();
        let named = named.iter().map(|(name, value)| (name.clone(), raw(value))).collect();
        self.check_raw_arguments(&positional, &named)
    }

    /// Checks arguments like [`check_arguments`](Self::check_arguments), as they are written.
    pub fn check_raw_arguments(
        &self,
        positional: &[Json],
        named: &BTreeMap<String, Json>,
    ) -> Result<(), ArgumentError> {
        let arguments = Arguments::new(
            positional.iter().map(|value| &**value).collect(),
            named.iter().map(|(name, value)| (name.as_str().into(), &**value)).collect(),
        );
        let context = Context::new(ContextParts::new(TaskId::new(), self.name));
        (self.start)(context, &arguments).map(drop)
    }
}

impl Parameter {
    /// Describes the parameter `name` of type `type_name`.
    pub const fn new(name: &'static str, type_name: &'static str) -> Self {
        Self { name, type_name }
    }
}

impl SourceLocation {
    /// Names the place at `line` of `file`, in `package`.
    pub const fn new(package: &'static str, file: &'static str, line: u32) -> Self {
        Self { package, file, line }
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} (package {})", self.file, self.line, self.package)
    }
}

/// Definitions with equal names are one task: a registry takes only one of them.
impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Definition {}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Definition({} at {})", self.name, self.location)
    }
}
