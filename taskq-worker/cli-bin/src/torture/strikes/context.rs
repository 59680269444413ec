//! Everything that a strike may use.

use std::time::Duration;

use taskq::{BoxError, Client};

use crate::torture::catalog::Fault;
use crate::torture::dice::Dice;
use crate::torture::fleet::Fleet;
use crate::torture::ledger::{Affected, Fact, Ledger, now_ms};
use crate::torture::network::Network;
use crate::torture::options::TortureOptions;
use crate::torture::producer::Producer;
use crate::torture::timeline::{SharedTimeline, Timeline};

/// The longest time that a strike waits for the moment that it needs.
pub(super) const MOMENT_BOUND: Duration = Duration::from_secs(30);

/// The parts of a run that a strike can act on or look at.
pub(in crate::torture) struct StrikeContext<'a> {
    pub(in crate::torture) options: &'a TortureOptions,
    pub(in crate::torture) fleet: &'a Fleet,
    pub(in crate::torture) network: &'a Network,
    /// A client with direct connections, past every proxy, for observing.
    pub(in crate::torture) client: &'a Client,
    pub(in crate::torture) producer: &'a Producer,
    pub(in crate::torture) ledger: &'a Ledger,
    pub(in crate::torture) timeline: &'a SharedTimeline,
    pub(in crate::torture) queues: &'a [String],
    pub(in crate::torture) dice: Dice,
}

impl StrikeContext<'_> {
    /// Looks at the timeline so far.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Timeline) -> T) -> T {
        self.timeline.look(at)
    }

    /// Waits until `fact` returns something; returns `None` if it does not within `bound`.
    pub(super) async fn until<T>(&self, bound: Duration, mut fact: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(found) = fact(self) {
                return Some(found);
            }
            if begun.elapsed() > bound {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Notes that `fault` begins. Must be called before it does.
    pub(super) fn struck(&self, fault: Fault, affected: Affected) -> Result<u64, BoxError> {
        self.ledger.note(Fact::Struck { fault: fault.name().to_owned(), affected })?;
        Ok(now_ms())
    }

    /// Notes that `fault` is over.
    pub(super) fn over(&self, fault: Fault) -> Result<(), BoxError> {
        Ok(self.ledger.note(Fact::Over { fault: fault.name().to_owned() })?)
    }

    /// Notes a measured value.
    pub(super) fn figure(&self, name: &str, value: u64) -> Result<(), BoxError> {
        Ok(self.ledger.note(Fact::Figure { name: name.to_owned(), value })?)
    }

    /// Notes something that must not happen.
    pub(super) fn wrong(&self, what: impl Into<String>) -> Result<(), BoxError> {
        Ok(self.ledger.note(Fact::Wrong { what: what.into() })?)
    }

    /// Returns how long lasting faults are held.
    pub(super) fn hold(&self) -> Duration {
        self.options.hold
    }
}
