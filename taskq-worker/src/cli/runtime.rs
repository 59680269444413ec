//! The runtimes of commands.

use std::future::Future;

use taskq::internal::io as connections;
use tokio::runtime::{Builder, Runtime};

use super::exit::Exit;
use super::failure::Failure;

/// Creates the runtime of tasks: a thread for each processor.
pub fn task_runtime() -> Result<Runtime, Failure> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(processors()).thread_name("taskq-task").enable_all();
    start(&mut builder)
}

/// Runs a command on a runtime of one thread. Connections have a thread of their own, so this one only waits.
pub(super) fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    start(Builder::new_current_thread().enable_all())?.block_on(command)
}

/// Starts a runtime, and the thread of the connections before it, which tells what is missing for both.
fn start(builder: &mut Builder) -> Result<Runtime, Failure> {
    connections::start().and_then(|_| builder.build()).map_err(|error| Failure::cannot_start(&error))
}

/// Returns the number of processors.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
