//! From the value that a task's function returns to the result that the worker settles.
//!
//! `#[task]` decides by the text of the return type: `Result<T, E>` can fail, `i64` cannot. A name that ends in
//! `Result` may be either, and there the compiler decides: an inherent constant takes precedence over a trait's
//! constant of the same name, so [`ReturnKind`] recognizes a `Result` behind an alias as well.

use std::marker::PhantomData;

use super::TaskOutput;
use crate::definition::{Directive, TaskError, TaskResult};
use crate::fault::BoxError;

/// A type that a task may return as its error: any that converts into a boxed error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    label = "this does not convert into `Box<dyn Error + Send + Sync>`",
    note = "implement `std::error::Error` for it (`#[derive(Debug, thiserror::Error)]` does), or return `taskq::TaskError`, `String` or `anyhow::Error`"
)]
pub trait TaskFailure: Sized {
    #[doc(hidden)]
    fn into_task_error(self) -> TaskError;

    /// Converts an error of a task that decides with `retry_if` whether another attempt follows. An error that
    /// carries a directive of its own ([`TaskError::snooze`] and the like) keeps it.
    #[doc(hidden)]
    fn into_task_error_if(self, again: bool) -> TaskError {
        let error = self.into_task_error();
        let ordinary = error.directive() == Directive::Retry;
        if ordinary && !again { error.with_directive(Directive::Permanent) } else { error }
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> TaskFailure for E {
    fn into_task_error(self) -> TaskError {
        TaskError::from_task(self)
    }
}

/// Tells a `Result` from other types; see the description of this file.
pub struct ReturnKind<R>(PhantomData<fn() -> R>);

impl<T, E> ReturnKind<Result<T, E>> {
    /// Whether the type is a `Result`: always true.
    pub const FALLIBLE: bool = true;
}

/// The constant of [`ReturnKind`] for all other types.
pub trait Infallible {
    /// Whether the type is a `Result`: always false.
    const FALLIBLE: bool = false;
}

impl<R> Infallible for ReturnKind<R> {}

/// A type that a task may return, given whether it is a `Result`.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "this type cannot travel in a message",
    note = "results travel as JSON: derive `serde::Serialize` and `serde::Deserialize` for `{Self}`, or for the value in it if it is a `Result`"
)]
pub trait TaskReturn<const FALLIBLE: bool> {
    /// The type that the caller gets.
    type Value: TaskOutput;
    #[doc(hidden)]
    fn settle(self) -> TaskResult;
}

#[diagnostic::do_not_recommend]
impl<T: TaskOutput> TaskReturn<false> for T {
    type Value = T;

    fn settle(self) -> TaskResult {
        TaskOutput::settle(&self)
    }
}

#[diagnostic::do_not_recommend]
impl<T: TaskOutput, E: TaskFailure> TaskReturn<true> for Result<T, E> {
    type Value = T;

    fn settle(self) -> TaskResult {
        match self {
            Ok(value) => TaskOutput::settle(&value),
            Err(error) => Err(error.into_task_error()),
        }
    }
}
