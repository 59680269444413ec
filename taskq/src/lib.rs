//! A distributed task queue: annotate a function, call it, and a worker runs it.

pub mod backend;
pub mod broker;
pub mod canvas;
pub mod client;
pub mod clock;
pub mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
pub mod io;
pub mod message;
pub mod task;

pub use canvas::{Arg, Call, IntoArg};
pub use client::{Client, Handle, Status};
pub use error::Error;
pub use message::{Record, State, TaskId};
pub use task::{Context, TaskError};
#[cfg(feature = "macros")]
pub use taskq_macros::task;

// `#[task]` writes `::taskq::…`; inside this crate, too.
#[allow(unused_extern_crates, reason = "the macro names it")]
extern crate self as taskq;

/// What the code that `#[task]` writes refers to. Not for anybody else.
#[doc(hidden)]
pub mod __private {
    pub use crate::canvas::outcome::{Infallible, Kind, Outcome, TaskFailure};
    pub use crate::canvas::{Arg, Call, IntoArg, TaskArgument, TaskOutput};
    pub use crate::task::{
        AckMode, ArgumentError, Arguments, Backoff, Body, BoxError, Context, Definition, Parameter, Place, RateLimit,
        Registration, Schedule, TaskError, TaskOptions, TaskResult,
    };
    pub use inventory;
    pub use std::time::Duration;
}
