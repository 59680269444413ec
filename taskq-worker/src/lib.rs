//! The worker of [taskq] and its command line.
//!
//! The program that holds the tasks is the worker. Its `main` is one line, and it *is* the command line:
//!
//! ```no_run
//! # mod my_app {}
//! use my_app as _; // links the crate whose tasks this worker runs
//!
//! fn main() -> std::process::ExitCode {
//!     taskq_worker::main()
//! }
//! ```
//!
//! What tasks share, such as a pool of connections, is given to them by [`main_with`] in place of `main`.
//!
//! Without that `use` the linker drops a crate that is mentioned nowhere, and its tasks with it; a worker without
//! tasks therefore refuses to start, and says so. Tasks that are written in the program itself need no `use`.
//!
//! ```sh
//! export TASKQ_BROKER_URL=amqp://guest:guest@localhost:5672/%2f TASKQ_RESULT_URL=redis://localhost:6379/0
//! my-app worker &
//! my-app call my_app.add 2 3 --wait
//! ```
//!
//! The program `taskq`, which this crate installs, is the same command line without tasks: it sends, looks and tidies
//! up, and `taskq -A path/to/my-app worker` hands over to a program that has tasks.
//!
//! A worker inside a program that does other things too is a [`Worker`]:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = taskq::Client::from_env().await?;
//! let summary = taskq_worker::Worker::builder(client).concurrency(8).run().await?;
//! println!("{} tasks done", summary.succeeded);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
// Recording what runs is for a supervisor: without one, nothing reads it, and its parts are not used.
#![cfg_attr(not(all(unix, feature = "supervise")), allow(dead_code, unused_imports))]

#[cfg(feature = "cli")]
mod cli;
mod engine;
#[doc(hidden)]
pub mod internal;
mod recorder;
#[cfg(all(unix, feature = "supervise"))]
mod supervise;
#[cfg(feature = "cli")]
mod telemetry;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::understands;
#[cfg(feature = "cli")]
pub use cli::{main, main_with};
pub use engine::{Worker, WorkerBuilder, WorkerControl, WorkerError, WorkerSummary};
