//! The errors of tasks, with directives on what should follow.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::fault::{BoxError, full_message};
use crate::message::Failure;

/// The consequence that an unsuccessful attempt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Directive {
    /// Another attempt by the task's retry policy: the default for every ordinary error.
    Retry,
    /// Another attempt after this delay; it counts as a retry.
    RetryIn(Duration),
    /// Another run of this attempt after this delay; it does not count as a retry.
    Snooze(Duration),
    /// No further attempt: the task ends as `FAILURE`.
    Permanent,
    /// No further attempt: the task ends as `REVOKED`.
    Cancel,
}

/// An error with a [`Directive`] on what should follow. A task may return any error; an ordinary one means another
/// attempt by the retry policy. The constructors below are for tasks that decide otherwise.
///
/// The error may be wrapped (by `anyhow`'s `context`, by the user's own enum): taskq searches the chain of sources for
/// it.
///
/// ```
/// use std::time::Duration;
/// use taskq::TaskError;
///
/// fn charge(card: &str) -> Result<(), TaskError> {
///     if card.is_empty() {
///         return Err(TaskError::permanent("no card number"));
///     }
///     Err(TaskError::retry_in(Duration::from_secs(30), "the bank asks us to wait"))
/// }
/// assert!(charge("").is_err());
/// ```
// Boxed, so that a `Result<T, TaskError>` is not much larger than a `T`.
pub struct TaskError(Box<Marker>);

/// The content of a `TaskError`, and its source. Wrappers such as `anyhow::Error` hide the type that they wrap, but not
/// its `source()`; so the content travels there.
#[derive(Debug, Clone)]
struct Marker {
    directive: Directive,
    failure: Failure,
}

impl TaskError {
    /// Fails the task without a further attempt: trying again would not help.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::from_error(Directive::Permanent, &error.into())
    }

    /// Fails, and asks for another attempt after `delay`. Counts as an attempt.
    pub fn retry_in(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self::from_error(Directive::RetryIn(delay), &error.into())
    }

    /// Asks for this attempt again after `delay`. Costs no attempt.
    pub fn snooze(delay: Duration) -> Self {
        let text = format!("snoozed for {}", humantime::format_duration(delay));
        Self::new(Directive::Snooze(delay), Failure::new("taskq", "Snooze", text))
    }

    /// Cancels the task, which ends as `REVOKED` with `why`.
    pub fn cancel(why: impl fmt::Display) -> Self {
        Self::new(Directive::Cancel, Failure::new("celery.exceptions", "TaskRevokedError", why.to_string()))
    }

    /// Converts a task's own error. Used by `#[task]`; the type is known there, and its name is kept.
    #[doc(hidden)]
    pub fn from_task<E: Into<BoxError>>(error: E) -> Self {
        let error = error.into();
        match find_marker(&*error) {
            Some(marker) => Self::new(marker.directive, with_outer_message(&*error, marker.failure)),
            None => Self::new(Directive::Retry, describe(std::any::type_name::<E>(), &*error)),
        }
    }

    /// Makes an error with this directive and stored form. For workers.
    pub fn new(directive: Directive, failure: Failure) -> Self {
        Self(Box::new(Marker { directive, failure }))
    }

    fn from_error(directive: Directive, error: &BoxError) -> Self {
        Self::new(directive, describe("taskq::TaskError", &**error))
    }

    /// Returns what the error asks for.
    pub fn directive(&self) -> Directive {
        self.0.directive
    }

    /// Returns this error with another directive.
    #[must_use]
    pub fn with_directive(self, directive: Directive) -> Self {
        Self::new(directive, self.into_failure())
    }

    /// Returns the stored form.
    pub fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// Returns the stored form, by value.
    pub fn into_failure(self) -> Failure {
        self.0.failure
    }
}

fn find_marker(error: &(dyn Error + 'static)) -> Option<Marker> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TaskError>() {
            return Some(Marker::clone(&found.0));
        }
        if let Some(found) = error.downcast_ref::<Marker>() {
            return Some(found.clone());
        }
        next = error.source();
    }
    None
}

/// Keeps the messages of wrappers around a `TaskError`.
fn with_outer_message(error: &(dyn Error + 'static), mut inner: Failure) -> Failure {
    let message = full_message(error);
    if message != inner.message() {
        inner.exc_message = vec![message.into()];
    }
    inner
}

/// Returns the stored form of an error whose static type is `type_name`: its message and its sources' messages.
fn describe(type_name: &str, error: &(dyn Error + 'static)) -> Failure {
    let (module, name) = type_place(type_name);
    Failure::new(&module, name, full_message(error))
}

/// Splits a type's name: `my_crate::errors::InvalidInput` lives in `my_crate.errors` and is called `InvalidInput`.
/// Types without information about the failure (text, boxes, `anyhow`) are called `TaskError`.
fn type_place(type_name: &str) -> (String, &str) {
    let plain = type_name.split('<').next().unwrap_or(type_name).trim_start_matches(['&', ' ']);
    let anonymous = matches!(plain, "str" | "alloc::string::String" | "alloc::boxed::Box" | "anyhow::Error");
    match plain.rsplit_once("::") {
        Some((module, name)) if !anonymous => (module.replace("::", "."), name),
        _ => ("taskq".to_owned(), "TaskError"),
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskError({:?}: {})", self.0.directive, self.0.failure)
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.message())
    }
}

impl Error for Marker {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order could not be shipped")]
    struct Shipping(#[source] TaskError);

    #[derive(Debug, thiserror::Error)]
    #[error("disk on fire")]
    struct Disk;

    #[test]
    fn ordinary_errors_are_retried_and_keep_their_type() {
        let error = TaskError::from_task(Disk);
        assert_eq!(error.directive(), Directive::Retry);
        assert_eq!(error.failure().exc_type, "Disk");
        assert_eq!(error.failure().exc_module.as_deref(), Some("taskq.definition.error.tests"));
        assert_eq!(error.to_string(), "disk on fire");
    }

    #[test]
    fn a_directive_survives_wrapping() {
        let error = TaskError::from_task(Shipping(TaskError::permanent("no such address")));
        assert_eq!(error.directive(), Directive::Permanent);
        assert_eq!(error.to_string(), "the order could not be shipped: no such address");
    }

    #[test]
    fn every_wrapper_has_its_say() {
        #[derive(Debug, thiserror::Error)]
        #[error("order 7")]
        struct Order(#[source] Shipping);

        let error = TaskError::from_task(Order(Shipping(TaskError::snooze(Duration::from_secs(1)))));
        assert_eq!(error.to_string(), "order 7: the order could not be shipped: snoozed for 1s");
        assert_eq!(error.directive(), Directive::Snooze(Duration::from_secs(1)));
    }

    #[test]
    fn text_is_an_error_too() {
        let error = TaskError::from_task("no".to_owned());
        assert_eq!((error.failure().exc_type.as_str(), error.to_string().as_str()), ("TaskError", "no"));
        assert_eq!(TaskError::from_task("no").failure().exc_module.as_deref(), Some("taskq"));
    }
}
