//! One file that is broker, result backend and Kv store; what the adapters share.
//!
//! A process opens a file once ([`Database::open`]) and gives it two threads. The *writer* owns the only connection that
//! writes: it takes everything that waits into one transaction, and answers all of it after the commit, so that
//! many small changes cost one commit. The *reader* answers questions, and in between looks every 20 ms whether
//! another process has committed anything, which SQLite says without touching the disk. What was changed in this
//! process is told to its [`Observer`]s at once, by the writer.
//!
//! Twice a second the reader also looks at what SQLite does not tell: whether the file is still the one that was opened,
//! and, for the broker, whether other processes are still alive ([`presence`]).
//!
//! [`location`] understands URLs and refuses places where a file cannot be shared, [`schema`] makes the tables,
//! [`fault`] says what went wrong and how to mend it. What the tables mean is known to the adapters alone:
//! `broker::sqlite` and `backend::sqlite`.

mod committed;
mod database;
mod fault;
mod identity;
mod location;
mod observer;
pub(crate) mod presence;
mod reader;
mod schema;
mod writer;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use committed::{Change, Committed};
pub(crate) use database::Database;
pub(crate) use fault::{Fault, FaultKind};
pub(crate) use location::Location;
pub(crate) use observer::Observer;
pub(crate) use writer::Tx;

/// The time as the file has it: milliseconds since 1970. Leases and delays are shared between processes and outlive
/// restarts, so they go by the wall clock.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// When `duration` from now is over, for certain: rounded up, and at most the end of time.
pub(crate) fn ms_after(duration: Duration) -> i64 {
    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    now_ms().saturating_add(ms).saturating_add(1)
}

/// A number that nobody else has.
pub(crate) fn unique_number() -> i64 {
    let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
    // The low half of such an id is random but for two bits; the high half is the time.
    (high ^ low).cast_signed()
}
