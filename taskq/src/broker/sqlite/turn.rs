//! The work of a consumption in one transaction: what the reader decides and the driver carries out.

use std::path::Path;
use std::sync::Arc;

use super::consumed_queue::Settled;
use super::lease::{LEASE, Lease};
use super::statements::{self, TakenMessage};
use crate::sqlite::{Tx, ms_after, now_ms, presence};

/// The work of one consumption in one transaction.
#[allow(clippy::struct_excessive_bools, reason = "each is a step that is taken or not, in any combination")]
pub(super) struct Turn {
    pub(super) lease: Arc<Lease>,
    /// The lease is to be created.
    pub(super) begins: bool,
    /// The numbers of the queues that are consumed from.
    pub(super) registered: Vec<i64>,
    pub(super) restore: bool,
    /// Leases of processes that seem to have died.
    pub(super) dead: Vec<i64>,
    pub(super) settled: Settled,
    /// The consumption takes no more.
    pub(super) leaves: bool,
    /// The consumption gives everything back.
    pub(super) ends: bool,
    /// The messages to take.
    pub(super) take: Vec<Want>,
}

/// A request to take messages from one queue.
#[derive(Debug)]
pub(super) struct Want {
    /// The index of the queue among the queues of the consumption.
    pub(super) at: usize,
    /// The number of the queue.
    pub(super) queue: i64,
    /// The maximum number of messages.
    pub(super) limit: usize,
    /// The number of notices at the time of the decision.
    pub(super) arrivals: u64,
}

/// The outcome of a turn.
#[derive(Debug)]
pub(super) enum TurnOutcome {
    /// The turn was carried out.
    Done {
        /// The new expiry of the lease.
        until: i64,
        /// The messages taken, in the order of the requests.
        taken: Vec<Vec<TakenMessage>>,
    },
    /// The lease had expired, and nothing was done.
    Lost,
}

impl Turn {
    /// Carries out the turn, within a transaction on the database at `file`.
    pub(super) fn carry_out(&self, tx: &mut Tx<'_>, file: &Path) -> rusqlite::Result<TurnOutcome> {
        let (lease, until) = (self.lease.number, ms_after(LEASE));
        if self.begins {
            self.lease.show(file);
            statements::begin_lease(tx, lease, until)?;
            for queue in &self.registered {
                statements::register(tx, lease, *queue)?;
            }
        } else if !statements::renew(tx, lease, until)? {
            return Ok(TurnOutcome::Lost);
        }
        for id in &self.settled.done {
            statements::forget(tx, lease, *id)?;
        }
        for (ids, counts) in [(&self.settled.returned, true), (&self.settled.unread, false)] {
            for id in ids {
                statements::put_back(tx, lease, *id, counts)?;
            }
        }
        if self.leaves {
            statements::unregister(tx, lease)?;
        }
        if self.ends {
            statements::end_lease(tx, lease)?;
        }
        if self.restore {
            statements::restore(tx, now_ms())?;
        }
        // Checked again here, where no other process can write: only now is it certain.
        for dead in self.dead.iter().filter(|dead| presence::is_dead(file, **dead)) {
            if statements::end_lease(tx, *dead)? {
                tracing::warn!("a process has ended without giving its messages back, so they go to others");
            }
        }
        let taken = self.take.iter().map(|want| statements::take(tx, lease, want.queue, want.limit));
        Ok(TurnOutcome::Done { until, taken: taken.collect::<rusqlite::Result<_>>()? })
    }
}
