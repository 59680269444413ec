//! A file as result backend and Kv store; the same file may be the broker.
//!
//! Every record that is stored gets the next number. Watchers in this process are told by the writer, right after the
//! commit; watchers in other processes find the records with larger numbers than they have seen when they look. A record
//! that was replaced before the next look is not seen there, so words of progress may be skipped by another process, and
//! the last one never is.
//!
//! [`results`] and [`facts`] are the statements, [`watch`] knows who waits for what.

mod backend;
mod facts;
mod results;
mod watch;

pub use backend::SqliteBackend;
