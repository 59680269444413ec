//! How far the clock of the result store is ahead of this machine's, where the store tells its time.
//!
//! A length of time, such as that after which a call expires, is a moment by the sender's clock in the message, since
//! that is how Celery writes it. A sender and a worker that both know their distance from one third clock can still
//! compare it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use crate::backend::{BackendError, Kv, SharedKv};
use crate::clock::Clock;
use crate::io;

/// The age at which a measurement is repeated when it is needed: clocks drift, and are set.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// The time within which the first measurement has to succeed; without it there is none yet.
const FIRST_WITHIN: Duration = Duration::from_secs(2);

/// The difference that is worth a warning.
const NOTABLE_MS: u64 = 1000;

/// No measurement.
const UNKNOWN: i64 = i64::MIN;

/// The distance between the store's clock and this machine's, as last measured. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct StoreClock(Arc<Measured>);

#[derive(Debug)]
struct Measured {
    ahead_ms: AtomicI64,
    /// When it was measured, in milliseconds since `began`.
    at_ms: AtomicI64,
    began: Instant,
    is_being_measured: AtomicBool,
    was_told: AtomicBool,
}

impl StoreClock {
    /// Nothing is known yet.
    pub(super) fn unknown() -> Self {
        Self(Arc::new(Measured {
            ahead_ms: AtomicI64::new(UNKNOWN),
            at_ms: AtomicI64::new(0),
            began: Instant::now(),
            is_being_measured: AtomicBool::new(false),
            was_told: AtomicBool::new(false),
        }))
    }

    /// Measures for the first time, and gives up soon: no call depends on it.
    pub(super) async fn begin(&self, kv: &SharedKv, clock: &Clock) {
        let measured = io::within(FIRST_WITHIN, self.clone().measure(Arc::clone(kv), clock.clone()));
        if let Err(error) = io::run(measured).await {
            tracing::debug!(%error, "the store did not tell its time");
        }
    }

    /// The distance, as far as it is known. One that is old is measured again meanwhile.
    pub(super) fn ahead(&self, kv: &SharedKv, clock: &Clock) -> Option<TimeDelta> {
        let Measured { ahead_ms, at_ms, began, is_being_measured, .. } = &*self.0;
        let ahead = ahead_ms.load(Ordering::Relaxed);
        if ahead == UNKNOWN {
            return None;
        }
        let age = elapsed_ms(*began).saturating_sub(at_ms.load(Ordering::Relaxed));
        if age >= GOOD_FOR.as_millis() as i64 && !is_being_measured.swap(true, Ordering::AcqRel) {
            drop(io::spawn(self.clone().measure(Arc::clone(kv), clock.clone())));
        }
        Some(TimeDelta::milliseconds(ahead))
    }

    async fn measure(self, kv: SharedKv, clock: Clock) {
        let measured = measure(&*kv, &clock).await;
        let Measured { ahead_ms, at_ms, began, is_being_measured, was_told } = &*self.0;
        match measured {
            Ok(Some(ahead)) => {
                let ahead = ahead.num_milliseconds();
                ahead_ms.store(ahead, Ordering::Relaxed);
                if ahead.unsigned_abs() >= NOTABLE_MS && !was_told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        ahead_ms = ahead,
                        "the clock of the result store is that much ahead of this machine's; the times of calls are \
                         compared between machines: synchronize their clocks"
                    );
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the store did not tell its time"),
        }
        at_ms.store(elapsed_ms(*began), Ordering::Relaxed);
        is_being_measured.store(false, Ordering::Release);
    }
}

/// Measures how far the clock of the store is ahead of `clock`: right up to half a round trip. `None` if the store has
/// no clock of its own.
pub async fn measure(kv: &dyn Kv, clock: &Clock) -> Result<Option<TimeDelta>, BackendError> {
    let before = clock.now();
    let asked = Instant::now();
    let Some(server) = kv.server_clock() else { return Ok(None) };
    let there = server.time().await?;
    let half = TimeDelta::from_std(asked.elapsed() / 2).unwrap_or_default();
    Ok(Some(there - (before + half)))
}

fn elapsed_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
