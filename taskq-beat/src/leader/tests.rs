//! The election: one leads, terms rise, and trust ends before the lease.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use taskq::backend::SharedKv;
use taskq::backend::memory::MemoryBackend;
use taskq::internal::clock::Clock;
use tokio::time::Instant;

use super::candidate::{Candidate, Look, TERM, look};
use super::holder::{Holder, LEADER, holder};
use super::lease::Renewal;
use super::timing::{LEASE, LOOK_EVERY, RENEW_EVERY, RENEWAL_MAX, TRUSTED_FOR};
use super::trust::Trust;
use crate::versioned::encode;

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
    let renewed = encode(&Holder { renewals: 7, ..there });
    kv.put(LEADER, renewed, Some(LEASE)).await.expect("memory");
    assert_eq!(lease.renew().await.expect("memory"), Renewal::Done);
}
