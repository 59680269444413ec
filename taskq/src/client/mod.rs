//! The client: sends calls, and follows their tasks.
//!
//! The path of a call begins here. Awaiting it ([`send`]) finds the client, `publish` makes the message and hands it to
//! the broker, and a [`Handle`] then follows the task through the result backend; it keeps what the sender knows
//! (`sent`). On the way, `router` declares queues, `unique` lets at most one call per key through, and `installed`
//! finds the client of calls that name none. `store_clock` knows how far another clock is from this machine's, and
//! `patience` warns of tasks that may wait for each other in vain. [`DeadSet`] reads and empties the queue of tasks
//! that failed for good. `remote` asks workers, and revokes tasks.

mod builder;
mod connected;
pub(crate) mod dead;
mod handle;
mod installed;
pub(crate) mod node;
mod patience;
mod protect;
mod publish;
pub(crate) mod remote;
mod router;
pub mod send;
mod send_all;
mod sent;
pub(crate) mod store_clock;
mod unique;

pub use builder::ClientBuilder;
pub use connected::Client;
pub use dead::{DeadEntry, DeadFilter, DeadLetter, DeadSet};
pub use handle::{Handle, Status, Updates};
#[cfg(feature = "testing")]
pub(crate) use installed::ask_first;
pub use installed::current;
pub use remote::{Events, FleetControl, RevokeCall, RevokeFuture};
pub use send::{GetFuture, SendFuture};
pub use send_all::{SendAll, SendReport};
