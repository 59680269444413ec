//! The command line: one command per file, and the only room of this crate that knows clap.
//!
//! Every command answers on stdout, in tables for people and in JSON for programs ([`output`]); errors are one line on
//! stderr ([`failure`]) and an exit code ([`exit`]). The flags that say where to connect to are the same for all
//! commands ([`session`]). [`command_line`] puts the commands together; a program of taskq itself can add its own
//! ([`extra_commands`]).

mod beat;
mod call;
mod check;
mod command_line;
mod confirm;
mod dead;
mod delegate;
mod dev;
mod events;
mod exit;
mod extra_commands;
mod failure;
mod handed_over;
mod host;
mod inspect;
mod lifecycle_lines;
mod outcome;
mod output;
mod queues;
mod reload;
mod result;
mod revoke;
mod runtime;
mod schedule;
mod session;
mod setup;
mod signals;
mod status;
#[cfg(all(unix, feature = "supervise"))]
mod streams;
mod supervised;
mod tasks;
pub mod values;
mod watch;
mod work;
mod worker;
mod worker_options;

pub use command_line::{main, main_with, understands};
pub use exit::Exit;
pub use extra_commands::{ExtraCommands, check_commands, main_of, understands_of};
pub use failure::Failure;
pub use output::Output;
pub use runtime::task_runtime;
pub use session::Session;
pub use setup::Setup;
pub use supervised::CAN_SUPERVISE;
pub use worker::WorkerCommand;
