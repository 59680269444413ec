//! The driver of a reader: one task on the I/O thread per consumption, which carries out the reader's turns.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::lease::RENEW_EVERY;
use super::reader::{SqliteReader, Step};
use super::turn::Turn;
use crate::broker::Delivery;
use crate::broker::reading::PullReader;
use crate::io;
use crate::sqlite::{Fault, FaultKind, Observer};

/// Bounds of the delay between attempts while the file is unusable.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Creates the lease and begins to take messages.
pub(super) async fn begin(reader: &Arc<SqliteReader>) -> Result<(), Fault> {
    if let Step::Turn(turn) = reader.plan(true) {
        carry_out(reader, turn).await?;
    }
    let observer: Arc<dyn Observer> = Arc::clone(reader) as Arc<dyn Observer>;
    reader.database.observe(Arc::downgrade(&observer));
    drop(io::spawn(drive(Arc::clone(reader))));
    Ok(())
}

/// Takes messages once, as many as the prefetch allows.
pub(super) async fn browse(reader: &Arc<SqliteReader>, limit: usize) -> Result<Vec<Delivery>, Fault> {
    let mut deliveries = Vec::new();
    while deliveries.len() < limit {
        let Step::Turn(turn) = reader.plan(true) else { break };
        let before = deliveries.len();
        if let Err(fault) = carry_out(reader, turn).await {
            // Messages that were taken already are given back.
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

/// Runs until the reader is closed and all messages are given back.
async fn drive(reader: Arc<SqliteReader>) {
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
                // Another file may have the name by now, and settlements of this one's messages must not go there.
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

async fn carry_out(reader: &Arc<SqliteReader>, turn: Turn) -> Result<(), Fault> {
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
