//! The arguments and results of tasks, as types.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Call;
use crate::codec::{exact, finite};
use crate::definition::{TaskError, TaskResult};
use crate::redact::Secret;

/// A type that a task may take as a parameter: owned, and (de)serializable with serde.
#[diagnostic::on_unimplemented(
    message = "a task cannot take a parameter of type `{Self}`",
    label = "this type cannot travel in a message",
    note = "parameters are owned and travel as JSON: derive `serde::Serialize` and `serde::Deserialize` for `{Self}`"
)]
pub trait TaskArgument: Sized + Send + 'static {
    #[doc(hidden)]
    fn serialize_into(&self, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error>;
    #[doc(hidden)]
    fn pass<R>(call: Call<R>, parameter: &'static str, arg: &Arg<Self>) -> Call<R> {
        call.with_arg(parameter, arg)
    }
    #[doc(hidden)]
    fn take(
        arguments: &crate::definition::Arguments<'_>,
        task: &'static str,
        index: usize,
        parameter: &crate::definition::Parameter,
    ) -> Result<Self, crate::definition::ArgumentError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> TaskArgument for T {
    fn serialize_into(&self, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        finite::write(self, buffer)
    }

    fn take(
        arguments: &crate::definition::Arguments<'_>,
        task: &'static str,
        index: usize,
        parameter: &crate::definition::Parameter,
    ) -> Result<Self, crate::definition::ArgumentError> {
        arguments.take(task, index, parameter, exact::from_json)
    }
}

/// A type that a task may return as its result.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "this type cannot travel in a message",
    note = "results travel as JSON: derive `serde::Serialize` and `serde::Deserialize` for `{Self}`",
    note = "if it is an alias of `Result`, write `Result<T, E>`, or give it a name that ends in `Result`"
)]
pub trait TaskOutput: Sized + Send + 'static {
    #[doc(hidden)]
    fn to_json(&self) -> Result<crate::message::Json, serde_json::Error>;
    #[doc(hidden)]
    fn from_json(json: &str) -> Result<Self, serde_json::Error>;
    /// Converts the value to the result of its attempt.
    #[doc(hidden)]
    fn settle(&self) -> TaskResult {
        self.to_json().map_err(|error| {
            // Another attempt would return the same value, so it is not retried.
            let of = std::any::type_name::<Self>();
            TaskError::permanent(format!("the result, of type {of}, cannot be written as JSON: {error}"))
        })
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> TaskOutput for T {
    fn to_json(&self) -> Result<crate::message::Json, serde_json::Error> {
        finite::to_json(self)
    }

    fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        exact::from_json(json)
    }
}

/// An argument of a call, converted to the parameter's type.
#[derive(Debug, Clone)]
pub struct Arg<T>(pub(crate) T);

/// A value that may stand in a call where the task takes a `T`: a `T`; a `&str` for a `String`; a `T` or a `&str` for
/// an `Option` or a [`Secret`].
///
/// The argument's type is inferred from the parameter's, so literals, `None` and `vec![]` work; `x.into()` and
/// `.parse().unwrap()` do not determine their type and need a `let` with a type.
#[diagnostic::on_unimplemented(
    message = "the task takes `{T}` here, not `{Self}`",
    label = "expected `{T}`, found `{Self}`"
)]
pub trait IntoArg<T> {
    /// Converts the value to the argument.
    fn into_arg(self) -> Arg<T>;
}

impl<T> IntoArg<T> for T {
    fn into_arg(self) -> Arg<T> {
        Arg(self)
    }
}

#[diagnostic::do_not_recommend]
impl IntoArg<String> for &str {
    fn into_arg(self) -> Arg<String> {
        Arg(self.to_owned())
    }
}

#[diagnostic::do_not_recommend]
impl<T> IntoArg<Option<T>> for T {
    fn into_arg(self) -> Arg<Option<T>> {
        Arg(Some(self))
    }
}

#[diagnostic::do_not_recommend]
impl<T> IntoArg<Secret<T>> for T {
    fn into_arg(self) -> Arg<Secret<T>> {
        Arg(self.into())
    }
}

#[diagnostic::do_not_recommend]
impl IntoArg<Secret<String>> for &str {
    fn into_arg(self) -> Arg<Secret<String>> {
        Arg(self.to_owned().into())
    }
}

#[diagnostic::do_not_recommend]
impl IntoArg<Option<String>> for &str {
    fn into_arg(self) -> Arg<Option<String>> {
        Arg(Some(self.to_owned()))
    }
}
