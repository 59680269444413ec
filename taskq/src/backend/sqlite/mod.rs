//! Results and Kv values in a file, which may be the broker's file as well.
//!
//! Every stored record gets the next number. Watchers in this process are notified by the writer, right after the
//! commit. Watchers in other processes poll for records with numbers larger than the last one they have seen. A record
//! that is replaced before the next poll is not seen there, so another process may miss reports of progress, but never
//! the last record.
//!
//! [`results`] and [`facts`] are the SQL statements, and [`watch`] is the table of watchers.

mod backend;
mod facts;
mod results;
mod watch;

pub use backend::SqliteBackend;
