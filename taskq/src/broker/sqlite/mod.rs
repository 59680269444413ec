//! A file as broker: durable, shared by the processes of one machine, and nothing to install.
//!
//! A message is published in one transaction and answered after the commit. A consumption takes messages under a
//! *lease*, a row that says until when they belong to it, and renews the lease while it lives. If its process dies,
//! the other consumers notice within a second ([`crate::sqlite::presence`]) and put the messages back. Where that
//! cannot be noticed, they go back when the lease has expired, after at most 30 s. A worker that was suspended for
//! longer finds that its messages went to other workers.
//!
//! When the file is deleted or replaced, recovery is impossible: the consumption ends, and so does its worker.
//!
//! [`statements`] is the SQL and knows nothing of tasks or threads. [`reader`] is one consumption and decides,
//! [`reader_state`] is its state, and [`driver`] carries out its decisions, one [`turn`] at a time. [`convert`]
//! defines the stored form of a message.

mod broker;
mod consumed_queue;
mod convert;
mod driver;
mod lease;
mod reader;
mod reader_state;
mod statements;
mod turn;

pub use broker::SqliteBroker;
