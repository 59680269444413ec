//! A capability: messages to everybody who listens at the moment, and answers to one.
//!
//! Nothing of this is kept: a worker that does not listen misses a message, and is told so when it listens again. What
//! has to reach workers that are away is kept elsewhere, in Kv.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::BrokerError;
use crate::message::WireMessage;
use crate::remote::ReplyAddress;

/// A stream of what is heard. It never ends while the broker is open, over outages of any length; dropping it ends the
/// listening.
pub type Listening = BoxStream<'static, Heard>;

/// An event of listening.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Heard {
    /// From now on messages arrive; earlier ones may have been missed. The first event, and the first after an outage.
    Since,
    /// A message has arrived.
    Message(WireMessage),
}

/// An address for answers, and the answers.
pub struct Inbox {
    /// The address.
    pub address: ReplyAddress,
    /// The answers.
    pub answers: Listening,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Messages to all who listen, and answers to one of them.
pub trait Broadcast: Send + Sync {
    /// Begins to listen, as the worker `node`, to messages that are told to all workers.
    fn listen<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<Listening, BrokerError>>;

    /// Tells a message to all workers that listen. `Ok` means that it was sent, not that it was heard.
    fn tell(&self, message: WireMessage) -> BoxFuture<'_, Result<(), BrokerError>>;

    /// Opens an address for answers. Completes once answers arrive there.
    fn open_inbox(&self) -> BoxFuture<'_, Result<Inbox, BrokerError>>;

    /// Tells those who watch events. `key` is the routing key by which they choose. `Ok` means that it was sent, not
    /// that anybody watches.
    fn announce<'a>(&'a self, key: &'a str, message: WireMessage) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// Begins to watch events, those of all nodes.
    fn watch_events(&self) -> BoxFuture<'_, Result<Listening, BrokerError>>;

    /// Sends an answer to an address. `Ok` means that it was sent; an address that is gone is no error.
    fn answer<'a>(&'a self, address: &'a ReplyAddress, message: WireMessage) -> BoxFuture<'a, Result<(), BrokerError>>;
}
