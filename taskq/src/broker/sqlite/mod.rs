//! A file as broker: durable, shared by the processes of one machine, and nothing to install.
//!
//! A message is published in one transaction and answered after the commit. A consumption takes messages under a
//! *lease*, a row that says until when they are its own, and renews it while it lives. If its process dies, the other
//! consumers see that within a second ([`crate::sqlite::presence`]) and put the messages back. Where it cannot be seen, they
//! go back when the lease is past its time, after at most 30 s; and a worker that was suspended for longer finds them given to
//! somebody else.
//!
//! When the file is deleted or replaced, there is nothing left to recover: the consumption ends, and so does its
//! worker.
//!
//! [`statements`] says all this in SQL and knows nothing of tasks or threads, [`reader`] is one consumption and decides,
//! [`reader_state`] is what it knows, [`driver`] carries out what it decided, a [`turn`] at a time, [`convert`] is how a message is written down.

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
