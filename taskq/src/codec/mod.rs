//! The bytes of messages and results: Celery's message protocol 2 and its result documents. Pure functions.
//!
//! * [`celery`]: the headers of a task message ↔ [`Envelope`](crate::message::Envelope)
//! * [`body`]: `[args, kwargs, embed]` ↔ [`Arguments`](crate::definition::Arguments)
//! * [`result`]: result documents ↔ [`Record`](crate::message::Record)
//! * [`python_json`]: the output of Python's JSON encoder that JSON does not allow → JSON

pub mod body;
pub mod celery;
pub mod python_json;
pub mod result;
mod typed_values;

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;

pub use body::{BodyError, MessageBody, Serializer};
pub use celery::{DecodeError, decode, encode, is_celery_header, is_reserved_header};
