//! Where a broker wants deliveries settled within some time: copies of what takes longer, in queues of their own.
//!
//! A consumer that needs longer publishes a copy of the message to a queue that only it consumes from, takes the copy, and
//! acknowledges the delivery it had; then the time begins anew. If its process dies, the copy goes where the message came
//! from.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{BrokerError, Consumption};

/// What the names of queues for held copies begin with.
pub const HELD_PREFIX: &str = "taskq.held.";

/// The queues of a broker in which copies are held.
pub trait HeldQueues: Send + Sync {
    /// Within which time a delivery has to be settled. After it, the broker takes everything back that came over the same
    /// channel.
    fn settle_within(&self) -> Duration;

    /// Makes `queue` exist, for copies of messages of `home`, and begins to consume from it, without a bound on how many
    /// are unsettled. To be published to as to any other queue. What is given back here goes to `home`, and so does what
    /// nobody takes within some seconds, or what was with a consumer that died; so none is lost with its process. A queue
    /// that nobody consumes from any more is gone after a day.
    fn hold<'a>(&'a self, queue: &'a str, home: &'a str) -> BoxFuture<'a, Result<Consumption, BrokerError>>;

    /// Deletes `queue`, with whatever is in it: for whoever knows that every copy was acknowledged.
    fn delete<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>>;
}
