//! A database file that can serve as broker, result backend and Kv store: the part that the adapters share.
//!
//! A process opens a file once ([`Database::open`]) and gives it two threads. The *writer* owns the only connection
//! that writes. It puts all pending changes into one transaction and answers them after the commit, so that many small
//! changes cost one commit. The *reader* answers queries. Between them it checks every 20 ms whether another process
//! has committed anything, which SQLite can tell without touching the disk. Changes by this process are passed on to
//! its [`Observer`]s by the writer, at once.
//!
//! Twice a second the reader also checks what SQLite does not report: whether the file is still the one that was
//! opened, and, for the broker, whether other processes are still alive ([`presence`]).
//!
//! [`location`] parses URLs and rejects places where a file cannot be shared, [`companions`] decides which users a file
//! is for, [`schema`] creates the tables and [`tables`] refuses others, [`fault`] names the cause of an error and its
//! remedy, and [`holders`] the processes that keep the file locked. Only the adapters, `broker::sqlite` and
//! `backend::sqlite`, know the meaning of the tables.

mod committed;
mod companions;
mod creation;
mod database;
mod fault;
mod files;
mod holders;
mod identity;
mod location;
mod lock;
mod numbers;
mod observer;
pub(crate) mod presence;
mod reader;
mod schema;
mod tables;
mod writer;

pub(crate) use committed::{Change, Committed};
pub(crate) use companions::exposure;
pub(crate) use database::Database;
pub(crate) use fault::{Fault, FaultKind};
pub(crate) use location::Location;
pub(crate) use lock::lock;
pub(crate) use numbers::{ms_after, now_ms, unique_number};
pub(crate) use observer::Observer;
pub(crate) use writer::Tx;
