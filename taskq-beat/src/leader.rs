//! Which of several beats fires: the one that holds a lease in the store.
//!
//! The lease lasts [`LEASE`]; its holder renews it every [`RENEW_EVERY`], and trusts it for [`TRUSTED_FOR`] from when its last
//! renewal began, which is shorter. So whatever happens, who lost it stops before anybody else begins. A process that was
//! stopped or a machine that slept finds its trust gone when it goes on, and renews first; by then the lease may be another's.
//! Time is taken from the monotonic clock, and from the other one as well, since the first stands still while a machine sleeps.
//!
//! Others look every [`LOOK_EVERY`]. They take a lease that is gone, and also one that nobody has renewed for [`LEASE`] by
//! their own clock: a store that goes by a clock that was put back would keep a dead one's lease for an hour.
//!
//! Each lease has a higher term than all before it. It stands in all that its holder writes, and facts are only replaced by who
//! knows what is there; so even two holders, of a lease that the store gave away twice, do not claim a slot twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use taskq::backend::kv::{from_json, to_json};
use taskq::backend::{BackendError, Put, SharedKv};
use taskq::internal::clock::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

const LEADER: &str = "beat/leader";
const TERM: &str = "beat/term";

/// How long a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(10);

/// How often it is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// For how long its holder trusts it after the beginning of the last renewal.
pub const TRUSTED_FOR: Duration = Duration::from_secs(7);

/// How often those who do not hold it look.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After a renewal that failed, the next.
const RENEW_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// No renewal is waited for longer: the next may reach a store that is back.
const RENEWAL_MAX: Duration = Duration::from_secs(3);

/// Who holds the lease, for others to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// One beat's own name.
    pub beat: String,
    /// Its node, for people: `beat@host`.
    pub node: String,
    /// How often the holder has changed; higher than any before.
    pub term: u64,
    /// Since when it holds it.
    pub since: DateTime<Utc>,
    /// How often it was renewed; each renewal shows.
    pub renewals: u64,
}

/// Who holds the lease, if anybody does.
pub async fn holder(kv: &SharedKv) -> Result<Option<Holder>, BackendError> {
    kv.get(LEADER).await?.map(|value| from_json(LEADER, &value)).transpose()
}

/// For how long a holder may fire.
#[derive(Debug, Clone, Copy)]
struct Trust {
    since: Instant,
    since_wall: DateTime<Utc>,
}

impl Trust {
    fn holds(&self, now: Instant, wall: DateTime<Utc>) -> bool {
        let by_wall = (wall - self.since_wall).max(TimeDelta::zero()).to_std().unwrap_or_default();
        now.saturating_duration_since(self.since).max(by_wall) < TRUSTED_FOR
    }
}

/// The lease of somebody else, as it was first seen.
#[derive(Debug, Clone)]
struct Watched {
    value: Bytes,
    since: Instant,
}

/// What a look at the lease leads to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Take it, if this is what is there still.
    Take(Option<Bytes>),
    Wait,
}

fn look(watched: &mut Option<Watched>, there: Option<Bytes>, now: Instant) -> Look {
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

/// A beat that would lead.
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

    /// Takes the lease if it is to be had.
    pub(crate) async fn try_once(&mut self) -> Result<Option<Arc<Lease>>, BackendError> {
        let there = self.kv.get(LEADER).await?;
        let Look::Take(expected) = look(&mut self.watched, there, Instant::now()) else { return Ok(None) };
        let trust = Trust { since: Instant::now(), since_wall: self.clock.now() };
        let Some(term) = self.next_term().await? else { return Ok(None) };
        let holder =
            Holder { beat: self.beat.clone(), node: self.node.clone(), term, since: trust.since_wall, renewals: 0 };
        let value = to_json(&holder);
        match self.kv.compare_and_put(LEADER, expected, value.clone(), Some(LEASE)).await? {
            Put::Done => {}
            Put::Refused(Some(there)) if there == value => {}
            Put::Refused(_) => return Ok(None),
        }
        self.watched = None;
        let (kv, clock) = (self.kv.clone(), self.clock.clone());
        let state = State { trust, is_lost: false };
        let held = tokio::sync::Mutex::new(Held { holder, value });
        Ok(Some(Arc::new(Lease { kv, clock, term, state: Mutex::new(state), held, wanted: Notify::new() })))
    }

    /// A term that nobody has had; `None` if somebody else takes one just now. It is taken before the lease: whoever then
    /// fails to get the lease leaves a gap, which is no harm.
    async fn next_term(&self) -> Result<Option<u64>, BackendError> {
        let there = self.kv.get(TERM).await?;
        let last: u64 = there.as_deref().map(|value| from_json(TERM, value)).transpose()?.unwrap_or_default();
        // A store that was emptied has forgotten its terms; seconds go on.
        let next = (last + 1).max(u64::try_from(self.clock.now().timestamp()).unwrap_or_default());
        let put = self.kv.compare_and_put(TERM, there, to_json(&next), None).await?;
        Ok((put == Put::Done).then_some(next))
    }
}

/// The lease, as its holder has it.
#[derive(Debug)]
pub(crate) struct Lease {
    kv: SharedKv,
    clock: Clock,
    term: u64,
    state: Mutex<State>,
    /// Locked for as long as a renewal takes.
    held: tokio::sync::Mutex<Held>,
    /// Somebody would like it to be renewed now.
    wanted: Notify,
}

#[derive(Debug)]
struct State {
    trust: Trust,
    is_lost: bool,
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    /// What is in the store, as far as is known.
    value: Bytes,
}

/// How a renewal ended.
#[derive(Debug, PartialEq, Eq)]
enum Renewal {
    Done,
    /// It is gone, or another's.
    Lost,
}

impl Lease {
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Whether its holder may fire now. If not, it is renewed as soon as possible, unless it is lost.
    pub(crate) fn is_trusted(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_trusted = !state.is_lost && state.trust.holds(Instant::now(), self.clock.now());
        if !is_trusted {
            self.wanted.notify_one();
        }
        is_trusted
    }

    /// Its holder has learned that somebody has a higher term.
    pub(crate) fn lose(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_lost = true;
        self.wanted.notify_one();
    }

    /// Whether it is gone for good.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_lost
    }

    /// Renews it until it is lost; says when the store is away and when it is back.
    pub(crate) async fn keep(&self) {
        let mut is_away = false;
        let mut wait = RENEW_EVERY;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wanted.notified() => {}
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
                            |answer| answer.map_or_else(|error| with_cause(&error), |_| String::new()),
                        );
                        tracing::warn!(
                            error,
                            "beat: the lease cannot be renewed; nothing is fired from {TRUSTED_FOR:?} after its last renewal on, until the store is back"
                        );
                    }
                    // Those who wait for it ask again and again.
                    tokio::time::sleep(RENEW_AGAIN_AFTER).await;
                    Duration::ZERO
                }
            };
        }
    }

    async fn renew(&self) -> Result<Renewal, BackendError> {
        let mut held = self.held.lock().await;
        let trust = Trust { since: Instant::now(), since_wall: self.clock.now() };
        held.holder.renewals += 1;
        let next = to_json(&held.holder);
        let mut expected = held.value.clone();
        loop {
            match self.kv.compare_and_put(LEADER, Some(expected.clone()), next.clone(), Some(LEASE)).await? {
                Put::Done => break,
                Put::Refused(Some(there)) if there == next => break,
                // A renewal whose answer was lost.
                Put::Refused(Some(there)) if there != expected && self.is_own(&there, &held.holder) => expected = there,
                Put::Refused(_) => return Ok(Renewal::Lost),
            }
        }
        held.value = next;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).trust = trust;
        Ok(Renewal::Done)
    }

    fn is_own(&self, value: &[u8], holder: &Holder) -> bool {
        from_json::<Holder>(LEADER, value).is_ok_and(|there| (&there.beat, there.term) == (&holder.beat, self.term))
    }

    /// Gives it back, so that nobody has to wait for its end.
    pub(crate) async fn release(&self) -> Result<(), BackendError> {
        self.lose();
        let held = self.held.lock().await;
        self.kv.delete(LEADER, Some(held.value.clone())).await.map(drop)
    }
}

/// An error with its causes, in one line.
pub(crate) fn with_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use taskq::backend::memory::MemoryBackend;

    use super::*;

    fn candidate(kv: &SharedKv, clock: &Clock, beat: &str) -> Candidate {
        Candidate::new(kv.clone(), clock.clone(), beat.to_owned(), format!("{beat}@here"))
    }

    fn store() -> SharedKv {
        MemoryBackend::shared(&format!("memory:{}", taskq::TaskId::new()))
    }

    fn clock() -> Clock {
        Clock::manual(DateTime::from_timestamp(1_800_000_000, 0).expect("a moment"))
    }

    #[test]
    fn trust_ends_before_the_lease_by_either_clock() {
        let start = Trust { since: Instant::now(), since_wall: clock().now() };
        let second = Duration::from_secs(1);
        for (mono, wall, expected) in [
            (0, 0, true),
            (6, 6, true),
            (7, 7, false),
            // The machine slept, or the clock was put forward.
            (0, 7, false),
            (1, 3600, false),
            // The clock was put back.
            (6, -3600, true),
            (8, -3600, false),
        ] {
            let wall = start.since_wall + TimeDelta::seconds(wall);
            assert_eq!(start.holds(start.since + second * mono, wall), expected, "{mono} {wall}");
        }
        assert!(TRUSTED_FOR + RENEWAL_MAX <= LEASE && RENEW_EVERY * 2 < TRUSTED_FOR);
    }

    #[test]
    fn a_lease_is_taken_when_it_is_gone_or_not_renewed() {
        let (mut watched, now) = (None, Instant::now());
        let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        assert_eq!(look(&mut watched, None, now), Look::Take(None));
        assert_eq!(look(&mut watched, value("a"), now), Look::Wait);
        assert_eq!(look(&mut watched, value("a"), now + LEASE - LOOK_EVERY), Look::Wait);
        assert_eq!(look(&mut watched, value("b"), now + LEASE), Look::Wait, "it was renewed");
        assert_eq!(look(&mut watched, value("b"), now + LEASE * 2), Look::Take(value("b")));
        assert_eq!(look(&mut watched, None, now), Look::Take(None));
    }

    #[tokio::test]
    async fn one_leads_and_each_term_is_higher() {
        let (kv, clock) = (store(), clock());
        let (mut one, mut two) = (candidate(&kv, &clock, "one"), candidate(&kv, &clock, "two"));
        let lease = one.try_once().await.expect("memory").expect("nobody leads");
        assert!(two.try_once().await.expect("memory").is_none());
        assert_eq!(lease.renew().await.expect("memory"), Renewal::Done);
        assert!(lease.is_trusted());
        lease.release().await.expect("memory");
        assert!(!lease.is_trusted());
        let next = two.try_once().await.expect("memory").expect("it was given back");
        assert!(next.term() > lease.term(), "in the same second, too");
        assert_eq!(lease.renew().await.expect("memory"), Renewal::Lost);
        assert_eq!(holder(&kv).await.expect("memory").expect("somebody leads").beat, "two");
        lease.release().await.expect("memory");
        assert_eq!(next.renew().await.expect("memory"), Renewal::Done, "only one's own is given back");
    }

    #[tokio::test]
    async fn terms_go_on_in_a_store_that_was_emptied() {
        let (kv, clock) = (store(), clock());
        let lease = candidate(&kv, &clock, "one").try_once().await.expect("memory").expect("nobody leads");
        for key in [LEADER, TERM] {
            kv.delete(key, None).await.expect("memory");
        }
        assert_eq!(lease.renew().await.expect("memory"), Renewal::Lost);
        clock.advance(TimeDelta::seconds(1));
        let next = candidate(&kv, &clock, "two").try_once().await.expect("memory").expect("nobody leads");
        assert!(next.term() > lease.term());
    }

    #[tokio::test]
    async fn a_renewal_whose_answer_was_lost_is_not_a_loss() {
        let (kv, clock) = (store(), clock());
        let lease = candidate(&kv, &clock, "one").try_once().await.expect("memory").expect("nobody leads");
        let there = holder(&kv).await.expect("memory").expect("it leads");
        let renewed = to_json(&Holder { renewals: 7, ..there });
        kv.put(LEADER, renewed, Some(LEASE)).await.expect("memory");
        assert_eq!(lease.renew().await.expect("memory"), Renewal::Done);
    }
}
