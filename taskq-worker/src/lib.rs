//! The worker of [taskq] and its command line.
//!
//! A program that holds tasks is also their worker and their command line. Its `main` is one line:
//!
//! ```no_run
//! # mod my_app {}
//! use my_app as _; // links the crate whose tasks this worker runs
//!
//! # #[cfg(feature = "cli")]
//! fn main() -> std::process::ExitCode {
//!     taskq_worker::main()
//! }
//! # #[cfg(not(feature = "cli"))]
//! # fn main() {}
//! ```
//!
//! Without that `use` the linker drops a crate that is mentioned nowhere, and its tasks with it; a worker without tasks
//! therefore refuses to start, and says so. Tasks that are written in the program itself need no `use`. State that
//! tasks share, such as a pool of connections, is passed to `main_with` in place of `main`.
//!
//! ```sh
//! export TASKQ_BROKER_URL=amqp://guest:guest@localhost:5672/%2f TASKQ_RESULT_URL=redis://localhost:6379/0
//! my-app worker &
//! my-app call my_app.add 2 3 --wait
//! ```
//!
//! The program `taskq`, in the crate `taskq-cli`, is the same command line without tasks: it enqueues, inspects and
//! tidies up, and `taskq -A path/to/my-app worker` hands over to a program that has tasks.
//!
//! A [`Worker`] can also be embedded in a program that does other things:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = taskq::Client::from_settings().await?;
//! let summary = taskq_worker::Worker::builder(client).concurrency(8).run().await?;
//! println!("{} tasks done", summary.succeeded);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! All are on by default, except for `failpoints`. With `default-features = false, features = ["amqp", "redis"]` a
//! program that embeds a worker compiles no command line, no log subscriber and no SQLite.
//!
//! | feature | adds |
//! |---|---|
//! | `cli` | the command line: `main`, `main_with`, and the log |
//! | `supervise` | workers of several processes under a supervisor, on Unix; implies `cli` |
//! | `amqp` | RabbitMQ as broker |
//! | `redis` | Redis as result backend and Kv store |
//! | `sqlite` | a file as broker, result backend and Kv store; needs a C compiler |
//! | `toml` | settings from `taskq.toml` |
//! | `gzip`, `msgpack` | compressed messages, and arguments as MessagePack |
//! | `failpoints` | named points at which tests may crash the worker |

#![cfg_attr(docsrs, feature(doc_cfg))]
// Recording what runs is for a supervisor: without one, nothing reads it, and its parts are not used.
#![cfg_attr(not(all(unix, feature = "supervise")), allow(dead_code, unused_imports))]

#[cfg(feature = "cli")]
mod cli;
mod engine;
#[doc(hidden)]
pub mod internal;
mod recorder;
mod remote;
#[cfg(all(unix, feature = "supervise"))]
mod supervise;
#[cfg(feature = "cli")]
mod telemetry;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::understands;
#[cfg(feature = "cli")]
pub use cli::{main, main_with};
pub use engine::{RunSnapshot, Worker, WorkerBuilder, WorkerControl, WorkerError, WorkerSnapshot, WorkerSummary};
