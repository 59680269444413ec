//! The I/O thread, on which all connections live.
//!
//! Sockets, heartbeats, publishers and the settler run on a runtime of their own, so that code in tasks cannot
//! stop them, and so that a client outlives the runtime that it was made on (each `#[tokio::test]` has its own).
//! The thread starts with the first client and ends with the process. A process that was forked starts another.

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
    static STARTING: Mutex<()> = Mutex::new(());
    let process = std::process::id();
    if let Some(handle) = started_by(process) {
        return Ok(handle);
    }
    let _only_one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = started_by(process) {
        return Ok(handle);
    }
    let Some(free) = STARTED.iter().find(|started| started.get().is_none()) else {
        return Err(io::Error::other("this process was forked from one that was forked, too often"));
    };
    // tokio panics, rather than failing, if it lacks descriptors at its first start.
    shortage::require_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("taskq-io".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(&free.get_or_init(|| StartedThread { process, handle }).handle)
}

/// An I/O thread that was started.
struct StartedThread {
    process: u32,
    handle: Handle,
}

/// The number of times that a process with an I/O thread can be forked from another one.
const FORKS_MAX: usize = 8;

/// The I/O threads of this process and of those that it was forked from, which it has copies of: a fork takes no
/// threads along, so each needs its own.
static STARTED: [OnceLock<StartedThread>; FORKS_MAX] = [const { OnceLock::new() }; FORKS_MAX];

fn started_by(process: u32) -> Option<&'static Handle> {
    let started = STARTED.iter().map_while(OnceLock::get).find(|started| started.process == process);
    started.map(|started| &started.handle)
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

/// Waits for `future` for at most `limit` like [`within`], by the clock of the current runtime where there is one: a
/// test may have paused it.
pub fn timeout_here<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    match Handle::try_current() {
        Ok(_) => time::timeout(limit, future),
        Err(_) => within(limit, future),
    }
}

/// Waits for this long, by the clock of the I/O runtime.
pub async fn pause(time: Duration) {
    // Nothing is waited for but the time.
    drop(within(time, std::future::pending::<()>()).await);
}

/// Waits for `future` for at most `limit`, counted from now. The clock is that of the I/O runtime, since the caller's
/// may have no timers, or stand still.
pub fn within<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    let _context = handle().enter();
    time::timeout(limit, future)
}

/// Returns a random number between 0 and 1, uniform enough to spread clients out.
#[cfg(any(feature = "amqp", feature = "redis"))]
pub(crate) fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    // Each `RandomState` has new keys.
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}
