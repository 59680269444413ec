//! A broker in this process, for tests of tasks and for programs whose tasks need not outlive them.
//!
//! All brokers of one URL share their queues, so a client and a worker of the same process are connected. Everything
//! is lost with the process; the other promises are those of every broker, checked by the same suite. [`store`] holds
//! the queues and decides, and [`reader`] is one consumption.

mod broker;
mod reader;
mod store;

pub use broker::MemoryBroker;
#[cfg(feature = "testing")]
pub(crate) use store::Waiting;
