//! The definition of a task: its name, options, parameters and body, the context it runs in, and the meaning of its
//! errors.
//!
//! `#[task]` makes one [`Definition`] per function and registers it; the [`Registry`] holds all of them. A worker looks
//! up the task's name, passes the arguments to [`Definition::start`], and gets either a [`Body`] to run or an
//! [`ArgumentError`] that names the parameter.

mod arguments;
mod context;
mod error;
pub(crate) mod kind;
mod options;
mod registry;
mod retry;
mod task;

pub use arguments::{ArgumentError, ArgumentPlace, Arguments, ForeignArgument};
pub use context::{Context, ContextParts, ProgressCell};
pub use error::{Directive, TaskError};
pub use options::{AckMode, Backoff, ScheduleAttribute, TaskOptions};
pub use registry::{Registration, Registry, RegistryError};
pub use retry::{Decision, RetryPolicy, delay_before};
pub use task::{Body, Definition, Parameter, SourceLocation, StartTask, TaskResult};
