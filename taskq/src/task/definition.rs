//! One task, as the worker and the caller know it.

use std::fmt;

use futures_util::future::BoxFuture;

use super::{ArgumentError, Arguments, Context, TaskError, TaskOptions};
use crate::message::Json;

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
