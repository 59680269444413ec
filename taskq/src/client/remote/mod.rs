//! Remote control from the side of those who ask: requests to workers, and revoked tasks.
//!
//! Requests go by the broker's own means where it has some; otherwise by Kv ([`over_kv`]), which is in the same file as
//! the queues then.

mod control;
mod events;
mod over_kv;
mod revoke;

pub use control::FleetControl;
pub use events::Events;
pub use revoke::{KEPT_FOR, keep_revocations, kept_revocations};
pub use revoke::{RevokeCall, RevokeFuture};

use self::over_kv::OverKv;
use super::Client;
use crate::broker::Broadcast;

/// The means by which a client reaches all workers.
pub enum Reach<'a> {
    /// The means of the broker.
    Broker(&'a dyn Broadcast),
    /// The store of small values.
    Kv(OverKv),
}

impl Reach<'_> {
    /// The means, whichever they are.
    pub fn means(&self) -> &dyn Broadcast {
        match self {
            Self::Broker(broadcast) => *broadcast,
            Self::Kv(over_kv) => over_kv,
        }
    }
}

impl Client {
    /// Returns the means by which all workers are reached; `None` with a broker that has none, and without a result
    /// backend.
    #[doc(hidden)]
    pub fn reach(&self) -> Option<Reach<'_>> {
        match self.broker().broadcast() {
            Some(broadcast) => Some(Reach::Broker(broadcast)),
            None => self.kv().map(|kv| Reach::Kv(OverKv::new(kv.clone()))),
        }
    }
}
