//! The data of messages and results: ids, headers, envelopes, states, records.
//!
//! Pure data. Nothing here does I/O, awaits, reads a clock or depends on a wire format; those are the
//! business of [`codec`](crate::codec) and of the adapters.

mod envelope;
mod failure;
mod headers;
mod ids;
mod record;
mod run_key;
mod state;
mod wire;

pub use envelope::{Envelope, Payload, TimeLimits};
pub use failure::Failure;
#[doc(hidden)]
pub use failure::shortened;
pub use headers::{HeaderValue, Headers};
pub use ids::{InvalidTaskId, TaskId};
pub use record::{Json, Progress, Record};
pub use run_key::RunKey;
pub use state::TaskState;
pub use wire::{Properties, WireMessage};
