//! The broker port: transport of task messages, and the promises that every adapter keeps.
//!
//! A broker takes a message and answers once it is safe ([`Broker::publish`]), delivers it to one consumer at a time
//! ([`Broker::consume`]) and deletes it when it is acknowledged. A message that is taken and not acknowledged returns
//! to its queue. Delays are kept by the broker too, so no worker holds a waiting message.
//!
//! Adapters reconnect by themselves: a consumption resumes after an outage of any length, without help from its
//! reader. The promises are checked, adapter by adapter, by `taskq::conformance::broker`.

mod broadcast;
mod connect;
mod consumption;
mod delivery;
mod delivery_timeout;
mod error;
mod expired;
mod options;
mod port;
mod queue;
mod reading;

#[cfg(feature = "amqp")]
pub mod amqp;
pub mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use broadcast::{Broadcast, Heard, Inbox, Listening};
pub use connect::connect;
pub use consumption::{Browse, Consumption, ConsumptionControl};
pub use delivery::{Acker, Delivery, Settlement, Settler};
pub use delivery_timeout::{DeliveryTimeout, FetchControl, RENEWAL_PREFIX};
pub use error::{BrokerError, PublishError};
pub use expired::{EXPIRED_QUEUE, ExpiredMessages};
pub use options::BrokerOptions;
pub use port::{Broker, BrokerInfo, Publication};
pub use queue::{DEAD_QUEUE, Declared, OWN_PREFIX, QUARANTINE_SUFFIX, QueueKind, QueueSpec, QueueStats};
pub(crate) use queue::{DEATH_QUEUE, DEATH_REASON, NO_QUEUE, NOT_DELAYED};
