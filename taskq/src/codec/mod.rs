//! How messages and results look as bytes: Celery's message protocol 2 and its result documents. Pure functions.
//!
//! * [`celery`]: the headers of a task message ↔ [`Envelope`](crate::message::Envelope)
//! * [`body`]: `[args, kwargs, embed]` ↔ [`Arguments`](crate::definition::Arguments)
//! * [`result`]: result documents ↔ [`Record`](crate::message::Record)
//! * [`python_json`]: what Python's JSON encoder writes and JSON does not allow

pub mod body;
pub mod celery;
pub mod python_json;
pub mod result;
mod typed_values;

#[cfg(test)]
mod broken_tests;
#[cfg(test)]
mod recorded;

pub use body::{Body, BodyError, Serializer};
pub use celery::{DecodeError, decode, encode, is_celery_header, is_reserved_header};
