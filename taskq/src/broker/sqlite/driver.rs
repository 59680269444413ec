//! Carries out what a reader decided: one task on the I/O thread per consumption.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::lease::{LEASE, Lease, RENEW_EVERY};
use super::queue::Settled;
use super::reader::{Reader, Step};
use super::statements::{self, Taken};
use crate::broker::Delivery;
use crate::broker::reading::Reading;
use crate::io;
use crate::sqlite::{Fault, FaultKind, Observer, Tx, ms_after, now_ms, presence};

/// Bounds of the delay between tries while the file does not do what it is asked.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What one consumption wants done in one transaction.
#[allow(clippy::struct_excessive_bools, reason = "each is a step that is taken or not, in any combination")]
pub(super) struct Turn {
    pub(super) lease: Arc<Lease>,
    /// The lease is to be made.
    pub(super) begins: bool,
    /// The numbers of the queues that it consumes from.
    pub(super) registered: Vec<i64>,
    pub(super) restore: bool,
    /// Leases of processes that seem to have died.
    pub(super) dead: Vec<i64>,
    pub(super) settled: Settled,
    /// It takes no more.
    pub(super) leaves: bool,
    /// It gives everything back.
    pub(super) ends: bool,
    /// What to take.
    pub(super) take: Vec<Want>,
}

/// What is to be taken from one queue.
#[derive(Debug)]
pub(super) struct Want {
    /// Its place among the queues of the consumption.
    pub(super) at: usize,
    /// Its number.
    pub(super) queue: i64,
    /// How many messages at most.
    pub(super) limit: usize,
    /// The last arrival that was known when this was decided.
    pub(super) arrivals: u64,
}

/// What became of a turn.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was carried out.
    Done {
        /// Until when the lease lasts.
        until: i64,
        /// What was taken, in the order in which it was wanted.
        taken: Vec<Vec<Taken>>,
    },
    /// The lease had run out, and nothing was done.
    Lost,
}

impl Turn {
    fn carry_out(&self, tx: &mut Tx<'_>, file: &Path) -> rusqlite::Result<Outcome> {
        let (lease, until) = (self.lease.number, ms_after(LEASE));
        if self.begins {
            self.lease.show(file);
            statements::begin_lease(tx, lease, until)?;
            for queue in &self.registered {
                statements::register(tx, lease, *queue)?;
            }
        } else if !statements::renew(tx, lease, until)? {
            return Ok(Outcome::Lost);
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
        // Looked at again here, where nobody else writes: only now it is certain.
        for dead in self.dead.iter().filter(|dead| presence::is_dead(file, **dead)) {
            if statements::end_lease(tx, *dead)? {
                tracing::warn!("a process has ended without giving its messages back, so they go to others");
            }
        }
        let taken = self.take.iter().map(|want| statements::take(tx, lease, want.queue, want.limit));
        Ok(Outcome::Done { until, taken: taken.collect::<rusqlite::Result<_>>()? })
    }
}

/// Makes the lease and begins to take messages.
pub(super) async fn begin(reader: &Arc<Reader>) -> Result<(), Fault> {
    if let Step::Turn(turn) = reader.plan(true) {
        carry_out(reader, turn).await?;
    }
    let observer: Arc<dyn Observer> = Arc::clone(reader) as Arc<dyn Observer>;
    reader.database.observe(Arc::downgrade(&observer));
    drop(io::spawn(drive(Arc::clone(reader))));
    Ok(())
}

/// Takes messages once, up to as many as the prefetch allows.
pub(super) async fn browse(reader: &Arc<Reader>, limit: usize) -> Result<Vec<Delivery>, Fault> {
    let mut deliveries = Vec::new();
    while deliveries.len() < limit {
        let Step::Turn(turn) = reader.plan(true) else { break };
        let before = deliveries.len();
        if let Err(fault) = carry_out(reader, turn).await {
            // What was taken already goes back.
            reader.close();
            drop(io::spawn(drive(Arc::clone(reader))));
            return Err(fault);
        }
        deliveries.extend(std::iter::from_fn(|| reader.next()));
        if deliveries.len() == before {
            break;
        }
    }
    reader.stop();
    drop(io::spawn(drive(Arc::clone(reader))));
    Ok(deliveries)
}

/// Works until the reader is closed and everything is given back.
async fn drive(reader: Arc<Reader>) {
    let mut renew_at = Instant::now() + RENEW_EVERY;
    let mut delay = RETRY_MIN;
    loop {
        let turn = match reader.plan(Instant::now() >= renew_at) {
            Step::Turn(turn) => turn,
            Step::Wait(until) => {
                let until = until.map_or(renew_at, |until| until.min(renew_at));
                tokio::select! {
                    () = reader.driver.notified() => {}
                    () = sleep_until(until) => {}
                }
                continue;
            }
        };
        let ends = turn.ends;
        match carry_out(&reader, turn).await {
            Ok(()) => {
                renew_at = Instant::now() + RENEW_EVERY;
                delay = RETRY_MIN;
            }
            Err(fault) if ends => {
                tracing::warn!(%fault, "messages could not be given back; others get them when the lease runs out");
            }
            Err(fault) if fault.kind == FaultKind::Gone => {
                // Another file may have the name by now, and nothing of this one's can be done in that.
                tracing::error!(%fault, "no more messages can be taken or settled, so the consumption ends");
                reader.close();
            }
            Err(fault) => {
                tracing::error!(%fault, "cannot take or settle messages; trying again in {delay:?}");
                sleep(delay).await;
                delay = (delay * 2).min(RETRY_MAX);
            }
        }
        if ends {
            return reader.finish();
        }
    }
}

async fn carry_out(reader: &Arc<Reader>, turn: Turn) -> Result<(), Fault> {
    let turn = Arc::new(turn);
    let (shared, file) = (Arc::clone(&turn), Arc::clone(reader.database.path()));
    let outcome = reader.database.write(move |tx| shared.carry_out(tx, &file)).await;
    match outcome {
        Ok(outcome) => {
            reader.carried_out(&turn, outcome);
            Ok(())
        }
        Err(fault) => {
            reader.failed(&turn);
            Err(fault)
        }
    }
}
