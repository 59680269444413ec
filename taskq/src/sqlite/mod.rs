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
mod lock;
mod numbers;
mod observer;
pub(crate) mod presence;
mod reader;
mod schema;
mod writer;

pub(crate) use committed::{Change, Committed};
pub(crate) use database::Database;
pub(crate) use fault::{Fault, FaultKind};
pub(crate) use location::Location;
pub(crate) use lock::lock;
pub(crate) use numbers::{ms_after, now_ms, unique_number};
pub(crate) use observer::Observer;
pub(crate) use writer::Tx;
