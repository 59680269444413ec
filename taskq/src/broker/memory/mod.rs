//! A broker in this process, for tests of tasks and for programs that need nothing to outlive them.
//!
//! All brokers of one URL share their queues, so a client and a worker of the same process meet. Everything is
//! lost with the process; the other promises are those of every broker, and the same suite checks them.
//! [`store`] holds the queues and decides, [`reader`] is one consumption.

mod broker;
mod reader;
mod store;

pub use broker::MemoryBroker;
#[cfg(feature = "testing")]
pub(crate) use store::Waiting;
