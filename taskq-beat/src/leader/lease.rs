//! The lease in the hands of its holder.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use taskq::backend::{BackendError, Put, SharedKv};
use taskq::internal::clock::Clock;
use taskq::internal::fault::full_message;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::holder::{Holder, LEADER};
use super::timing::{LEASE, RENEW_AGAIN_AFTER, RENEW_EVERY, RENEWAL_MAX, TRUSTED_FOR};
use super::trust::Trust;
use crate::versioned::{decode, encode};

/// The lease of this beat.
#[derive(Debug)]
pub(crate) struct Lease {
    kv: SharedKv,
    clock: Clock,
    term: u64,
    state: Mutex<LeaseState>,
    /// Locked during a renewal.
    stored: tokio::sync::Mutex<StoredLease>,
    /// Requests for a renewal before its time.
    renewal_wanted: Notify,
}

#[derive(Debug)]
struct LeaseState {
    trust: Trust,
    is_lost: bool,
}

#[derive(Debug)]
struct StoredLease {
    holder: Holder,
    /// The value in the store, as far as is known.
    value: Bytes,
}

/// The outcome of a renewal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The lease is renewed.
    Done,
    /// The lease has expired, or another beat holds it.
    Lost,
}

impl Lease {
    /// Returns the lease that was just taken with `holder` stored as `value`.
    pub(super) fn new(kv: SharedKv, clock: Clock, holder: Holder, value: Bytes, trust: Trust) -> Self {
        Self {
            kv,
            clock,
            term: holder.term,
            state: Mutex::new(LeaseState { trust, is_lost: false }),
            stored: tokio::sync::Mutex::new(StoredLease { holder, value }),
            renewal_wanted: Notify::new(),
        }
    }

    /// Returns the term of the lease.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Whether the holder may fire now. If not, and the lease is not lost, a renewal is requested at once.
    pub(crate) fn is_trusted(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_trusted = !state.is_lost && state.trust.holds(Instant::now(), self.clock.now());
        if !is_trusted {
            self.renewal_wanted.notify_one();
        }
        is_trusted
    }

    /// Marks the lease as lost: the holder has learned of a higher term, or gives the lease back.
    pub(crate) fn lose(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_lost = true;
        self.renewal_wanted.notify_one();
    }

    /// Whether the lease is lost for good.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_lost
    }

    /// Renews the lease until it is lost, and logs when the store goes away and when it is back.
    pub(crate) async fn keep(&self) {
        let mut is_away = false;
        let mut wait = RENEW_EVERY;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.renewal_wanted.notified() => {}
            }
            if self.is_lost() {
                return;
            }
            let renewal = tokio::time::timeout(RENEWAL_MAX, self.renew()).await;
            wait = match renewal {
                Ok(Ok(Renewal::Done)) => {
                    if std::mem::take(&mut is_away) {
                        tracing::info!(term = self.term, "beat: the store is back, and this beat still leads");
                    }
                    RENEW_EVERY
                }
                Ok(Ok(Renewal::Lost)) => {
                    self.lose();
                    return;
                }
                failed => {
                    if !std::mem::replace(&mut is_away, true) {
                        let error = failed.map_or_else(
                            |_| format!("no answer within {RENEWAL_MAX:?}"),
                            |answer| answer.map_or_else(|error| full_message(&error), |_| String::new()),
                        );
                        tracing::warn!(
                            error,
                            "beat: the lease cannot be renewed; from {TRUSTED_FOR:?} after the last renewal on, \
                             nothing is fired until the store is back"
                        );
                    }
                    // A pause, since those that wait for trust request a renewal again and again.
                    tokio::time::sleep(RENEW_AGAIN_AFTER).await;
                    Duration::ZERO
                }
            };
        }
    }

    /// Renews the lease once.
    pub(super) async fn renew(&self) -> Result<Renewal, BackendError> {
        let mut stored = self.stored.lock().await;
        let trust = Trust { since: Instant::now(), since_wall: self.clock.now() };
        stored.holder.renewals += 1;
        let next = encode(&stored.holder);
        let mut expected = stored.value.clone();
        loop {
            match self.kv.compare_and_put(LEADER, Some(expected.clone()), next.clone(), Some(LEASE)).await? {
                Put::Done => break,
                Put::Refused(Some(there)) if there == next => break,
                // An earlier renewal whose answer was lost.
                Put::Refused(Some(there)) if there != expected && self.is_own(&there, &stored.holder) => {
                    expected = there;
                }
                Put::Refused(_) => return Ok(Renewal::Lost),
            }
        }
        stored.value = next;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).trust = trust;
        Ok(Renewal::Done)
    }

    /// Whether a stored value is this lease, as another renewal left it.
    fn is_own(&self, value: &[u8], holder: &Holder) -> bool {
        decode::<Holder>(value).is_ok_and(|there| (&there.beat, there.term) == (&holder.beat, self.term))
    }

    /// Gives the lease back, so that the next leader need not wait until it expires.
    pub(crate) async fn release(&self) -> Result<(), BackendError> {
        self.lose();
        let stored = self.stored.lock().await;
        self.kv.delete(LEADER, Some(stored.value.clone())).await.map(drop)
    }
}
