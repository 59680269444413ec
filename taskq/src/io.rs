//! The I/O thread, on which all connections live.
//!
//! Sockets, heartbeats, publishers and the settler run on a runtime of their own, so that code in tasks cannot
//! stop them, and so that a client outlives the runtime that it was made on (each `#[tokio::test]` has its own).
//! The thread starts with the first client and ends with the process.

use std::future::Future;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{self, Timeout};

use crate::shortage;

/// Returns the handle of the I/O runtime.
///
/// # Panics
///
/// If the thread has not been started before, and the system does not grant it.
pub fn handle() -> &'static Handle {
    start().unwrap_or_else(|error| panic!("the I/O thread of taskq cannot be started: {error}"))
}

/// Starts the I/O thread, unless it runs already, and returns the handle of its runtime. Fails, with the remedy, if the
/// system does not grant it.
pub fn start() -> io::Result<&'static Handle> {
    static IO: OnceLock<Handle> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(handle) = IO.get() {
        return Ok(handle);
    }
    let _only_one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = IO.get() {
        return Ok(handle);
    }
    // tokio panics, rather than failing, if it lacks descriptors at its first start.
    shortage::require_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("taskq-io".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(IO.get_or_init(|| handle))
}

/// Runs `future` on the I/O runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    handle().spawn(future)
}

/// Runs `future` on the I/O runtime, and waits for its answer on the caller's.
pub async fn run<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match spawn(future).await {
        Ok(output) => output,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

/// Waits for `future` for at most `limit`, counted from now. The clock is that of the I/O runtime, since the caller's
/// may have no timers, or stand still.
pub fn within<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    let _context = handle().enter();
    time::timeout(limit, future)
}
