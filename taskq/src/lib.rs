//! A distributed task queue: annotate a function, call it, and a worker runs it.
//!
//! ```
//! use taskq::{Client, task};
//!
//! #[task]
//! pub async fn add(x: i64, y: i64) -> i64 {
//!     x + y
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), taskq::Error> {
//! // By default `taskq.toml` and the environment configure the client; this one has a broker inside its process.
//! Client::builder().broker("memory:").results("memory:").build().await?.install();
//!
//! let handle = add(2, 3).await?; // enqueued, and confirmed by the broker
//! assert_eq!(handle.status().await?.state, taskq::TaskState::Pending);
//!
//! let later = add(2, 3).queue("low").countdown("10s").expires("1h").await?;
//! assert_ne!(handle.id(), later.id());
//!
//! assert_eq!(add::run(2, 3).await, 5); // the plain function, called directly
//! # Ok(())
//! # }
//! ```
//!
//! * [`task`](macro@task): the attribute, with every option
//! * [`Call`], [`Handle`], [`Client`]: sending a call, and following its task
//! * [`Context`], [`TaskError`]: the context of a running task, and its errors
//! * [`Secret`]: arguments that no error, log or `Debug` shows
//! * [`Settings`]: `taskq.toml` and the environment
//!
//! * `testing` (a feature, for dev-dependencies): tests of tasks without a server, a worker or a sleep
//!
//! Workers and the command line are in the crate `taskq-worker`. For writers of adapters:
//! [`broker`] and [`backend`] are the ports, [`message`] the data, [`definition`] the definition of tasks.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod attempt;
pub mod backend;
pub mod broker;
pub mod canvas;
pub mod client;
mod clock;
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod definition;
mod error;
mod fault;
mod hash;
#[doc(hidden)]
pub mod internal;
mod io;
pub mod message;
#[cfg_attr(not(feature = "crypto"), allow(dead_code, reason = "without keys nothing is signed, sealed or verified"))]
mod protection;
mod redact;
pub mod remote;
pub mod settings;
mod shortage;
mod shown;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;

pub use canvas::{Arg, Call, IntoArg, python};
pub use client::{Client, Handle, Status};
pub use definition::{Context, TaskError};
pub use error::Error;
pub use fault::BoxError;
pub use message::{Record, TaskId, TaskState};
pub use protection::SignatureFault;
pub use redact::Secret;
pub use settings::Settings;
#[cfg(feature = "macros")]
pub use taskq_macros::task;

// `#[task]` writes `::taskq::…`; inside this crate, too.
#[allow(unused_extern_crates, reason = "the macro names it")]
extern crate self as taskq;

/// Items for the code that `#[task]` writes, and for nothing else.
#[doc(hidden)]
pub mod __private {
    pub use crate::canvas::task_return::{Infallible, ReturnKind, TaskFailure, TaskReturn};
    pub use crate::canvas::{Arg, Call, IntoArg, TaskArgument, TaskOutput};
    pub use crate::definition::{
        AckMode, ArgumentError, Arguments, Backoff, Body, Context, Definition, Parameter, Registration,
        ScheduleAttribute, SourceLocation, TaskError, TaskOptions, TaskResult,
    };
    pub use crate::fault::BoxError;
    pub use inventory;
    pub use std::time::Duration;
}
