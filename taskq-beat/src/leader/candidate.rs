//! A beat that wants to lead.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use taskq::backend::{BackendError, Put, SharedKv};
use taskq::internal::clock::Clock;
use tokio::time::Instant;

use super::holder::{Holder, LEADER};
use super::lease::Lease;
use super::timing::LEASE;
use super::trust::Trust;
use crate::versioned::{decode, encode};

/// The key of the newest term.
pub(super) const TERM: &str = "beat/term";

/// The newest term, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct NewestTerm {
    term: u64,
}

/// The lease of another beat, with the moment at which its value was first seen.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    value: Bytes,
    since: Instant,
}

/// The conclusion from a look at the lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The lease is to be taken, if this is still the stored value.
    Take(Option<Bytes>),
    /// Another beat holds the lease.
    Wait,
}

/// Decides whether to take the lease, given its stored value and the value seen before.
pub(super) fn look(watched: &mut Option<Watched>, there: Option<Bytes>, now: Instant) -> Look {
    let Some(value) = there else {
        *watched = None;
        return Look::Take(None);
    };
    match watched {
        Some(seen) if seen.value == value => {
            if now.saturating_duration_since(seen.since) >= LEASE {
                Look::Take(Some(value))
            } else {
                Look::Wait
            }
        }
        _ => {
            *watched = Some(Watched { value, since: now });
            Look::Wait
        }
    }
}

/// A beat that wants to lead.
#[derive(Debug)]
pub(crate) struct Candidate {
    kv: SharedKv,
    clock: Clock,
    beat: String,
    node: String,
    watched: Option<Watched>,
}

impl Candidate {
    pub(crate) fn new(kv: SharedKv, clock: Clock, beat: String, node: String) -> Self {
        Self { kv, clock, beat, node, watched: None }
    }

    /// Takes the lease if it is free.
    pub(crate) async fn try_once(&mut self) -> Result<Option<Arc<Lease>>, BackendError> {
        let there = self.kv.get(LEADER).await?;
        let Look::Take(expected) = look(&mut self.watched, there, Instant::now()) else { return Ok(None) };
        let trust = Trust { since: Instant::now(), since_wall: self.clock.now() };
        let Some(term) = self.next_term().await? else { return Ok(None) };
        let holder =
            Holder { beat: self.beat.clone(), node: self.node.clone(), term, since: trust.since_wall, renewals: 0 };
        let value = encode(&holder);
        match self.kv.compare_and_put(LEADER, expected, value.clone(), Some(LEASE)).await? {
            Put::Done => {}
            Put::Refused(Some(there)) if there == value => {}
            Put::Refused(_) => return Ok(None),
        }
        self.watched = None;
        Ok(Some(Arc::new(Lease::new(self.kv.clone(), self.clock.clone(), holder, value, trust))))
    }

    /// Takes a new term; `None` if another beat takes one at the same time. A term is taken before the lease: a
    /// candidate that then fails to get the lease leaves a gap, which does no harm.
    async fn next_term(&self) -> Result<Option<u64>, BackendError> {
        let there = self.kv.get(TERM).await?;
        let newest = there.as_deref().map(|value| decode::<NewestTerm>(value).map_err(|error| error.at(TERM)));
        let newest = newest.transpose()?.unwrap_or_default().term;
        // A store that was emptied has forgotten its terms; the seconds since the epoch still rise.
        let next = (newest + 1).max(u64::try_from(self.clock.now().timestamp()).unwrap_or_default());
        let put = self.kv.compare_and_put(TERM, there, encode(&NewestTerm { term: next }), None).await?;
        Ok((put == Put::Done).then_some(next))
    }
}
