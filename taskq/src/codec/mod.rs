//! The bytes of messages and results: Celery's message protocol 2 and its result documents. Pure functions.
//!
//! * [`celery`]: the headers of a task message ↔ [`Envelope`](crate::message::Envelope)
//! * [`body`]: `[args, kwargs, embed]` ↔ [`Arguments`](crate::definition::Arguments)
//! * [`result`]: result documents ↔ [`Record`](crate::message::Record)
//! * [`event`]: events of tasks and workers ↔ [`Event`](crate::remote::Event)
//! * [`pidbox`]: requests to workers and their answers ↔ [`Request`](crate::remote::Request)
//! * [`finite`]: values of any type → JSON, without floats that JSON has no form for
//! * [`exact`]: JSON → values of any type, without integers that become floats
//! * [`tree`]: JSON as it is written, for whatever has to look into a value without decoding it; below it
//!   `python_json`, `typed_values` and `msgpack`, which are what other writers make of values
//!
//! No argument and no result is passed through `serde_json::Value`, which has no integers of more than 64 bits.

pub mod body;
pub mod celery;
pub mod event;
pub mod exact;
pub mod finite;
#[cfg(feature = "msgpack")]
mod msgpack;
pub mod pidbox;
mod python_json;
pub mod result;
pub mod tree;
mod typed_values;

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;

pub use body::{BodyError, MessageBody, Serializer};
pub use celery::{DecodeError, decode, encode, is_celery_header, is_reserved_header};
