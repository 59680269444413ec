//! The admission of a delivery, before anything runs: a pure decision.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::definition::{Definition, Registry};
use crate::message::Envelope;

/// The time by which a message may be early and still wait in a slot of this worker; a round trip through the broker
/// would take longer.
const EARLY_BY_MAX: Duration = Duration::from_millis(50);

/// Bounds of the delay after which a message comes back that another build may be able to run.
const PUT_BACK_MIN: Duration = Duration::from_secs(1);
const PUT_BACK_MAX: Duration = Duration::from_secs(60);

/// The decision about a delivery.
///
/// Exhaustive, since a worker must act on every decision; the worker is released together with this crate. Throttled
/// tasks will be a variant of their own, `Throttled(Duration)`.
#[derive(Debug, PartialEq)]
pub enum Admission {
    /// Run the task at once: this is certainly the first delivery of the only copy.
    Run(&'static Definition),
    /// Claim the run first: the message may be a copy of one that is running or has run.
    Claim(&'static Definition),
    /// Let the broker hold the message for this long: it is not yet due.
    PutOff(Duration),
    /// Let the message come back after this long: this worker does not know the task, and a deploy may be under way.
    /// The delay adds to [`Envelope::put_back`].
    PutBack(Duration),
    /// Give the message up: no worker has known the task for the whole grace period.
    Unknown,
    /// Revoke the task: it has expired.
    Expired,
    /// Revoke the task: somebody has asked for that.
    Revoked,
}

/// The current time, as a worker knows it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The time by the worker's clock.
    pub time: DateTime<Utc>,
    /// How far the clock of the result store is ahead of that.
    pub store_ahead: Option<TimeDelta>,
}

impl Now {
    /// Returns the time by the clock of the message's sender, as far as that can be known: both know how far they are
    /// from the clock of one store. Otherwise the clocks are taken to agree.
    fn by_sender_of(&self, envelope: &Envelope) -> DateTime<Utc> {
        let apart = self.store_ahead.zip(envelope.sender_clock).and_then(|(here, there)| here.checked_sub(&there));
        apart.and_then(|apart| self.time.checked_add_signed(apart)).unwrap_or(self.time)
    }
}

/// Decides about a delivery.
///
/// `now` is the time by this worker's clock, which may know how far the clock of the result store is ahead of it.
/// `revoked` tells whether the task was revoked, `redelivered` is the broker's mark that a consumer may have had the
/// message before, and `unknown_grace` the time for which a message is put back whose task is not in `registry`.
pub fn admit(
    envelope: &Envelope,
    revoked: bool,
    redelivered: bool,
    registry: &Registry,
    unknown_grace: Duration,
    now: Now,
) -> Admission {
    if revoked {
        return Admission::Revoked;
    }
    if envelope.expires.is_some_and(|expires| expires <= now.by_sender_of(envelope)) {
        return Admission::Expired;
    }
    if let Some(early) = early_by(envelope, now.time).filter(|early| *early > EARLY_BY_MAX) {
        return Admission::PutOff(early);
    }
    let Some(definition) = registry.get(&envelope.task) else {
        return put_back_after(envelope, unknown_grace).map_or(Admission::Unknown, Admission::PutBack);
    };
    if redelivered || envelope.may_be_copy() { Admission::Claim(definition) } else { Admission::Run(definition) }
}

/// Returns the delay after which a message comes back that this worker cannot run and another build may; `None` once
/// it has been put back for `grace`. Only delays count, which brokers serve: the clocks of workers may differ.
pub fn put_back_after(envelope: &Envelope, grace: Duration) -> Option<Duration> {
    let age = envelope.put_back.unwrap_or_default();
    // A quarter of the age doubles the age every three rounds or so: frequent at first, rare later.
    (age < grace).then(|| (age / 4).clamp(PUT_BACK_MIN, PUT_BACK_MAX).min(grace))
}

/// Returns the time until the message is due; `None` if it is due.
pub fn early_by(envelope: &Envelope, now: DateTime<Utc>) -> Option<Duration> {
    if envelope.delay_served {
        return None;
    }
    envelope.eta.and_then(|eta| (eta - now).to_std().ok()).filter(|early| !early.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition;
    use crate::message::{Payload, TaskId};

    #[crate::task(name = "admit.known")]
    async fn known() {}

    fn envelope(task: &'static str) -> Envelope {
        Envelope::new(TaskId::new(), task, Payload::default())
    }

    #[test]
    fn each_delivery_has_its_exit() {
        let registry = definition::Registry::collect().expect("no two tasks of one name here");
        let definition = registry.get("admit.known").expect("it is linked");
        let now = Utc::now();
        let grace = Duration::from_secs(600);
        let ago = |seconds| Some(now - TimeDelta::seconds(seconds));
        let at = |change: fn(&mut Envelope)| {
            let mut envelope = envelope("admit.known");
            change(&mut envelope);
            envelope
        };
        let cases = [
            ("a first delivery", at(|_| ()), false, Admission::Run(definition)),
            ("redelivered", at(|_| ()), true, Admission::Claim(definition)),
            ("resent", at(|envelope| envelope.resent = true), false, Admission::Claim(definition)),
            ("fired by beat", at(|envelope| envelope.scheduled = true), false, Admission::Claim(definition)),
            ("a retry", at(|envelope| envelope.attempt = 1), false, Admission::Claim(definition)),
            ("expired", Envelope { expires: ago(1), ..envelope("admit.known") }, false, Admission::Expired),
            ("expired and unknown", Envelope { expires: ago(0), ..envelope("x") }, false, Admission::Expired),
            ("due", Envelope { eta: ago(1), ..envelope("admit.known") }, false, Admission::Claim(definition)),
            ("early", Envelope { eta: ago(-9), ..envelope("x") }, false, Admission::PutOff(Duration::from_secs(9))),
            (
                "early by a clock, and late enough by the broker",
                Envelope { eta: ago(-60), delay_served: true, ..envelope("admit.known") },
                false,
                Admission::Claim(definition),
            ),
            ("unknown", envelope("x"), false, Admission::PutBack(Duration::from_secs(1))),
            (
                "unknown for long",
                Envelope { put_back: Some(Duration::from_secs(100)), ..envelope("x") },
                true,
                Admission::PutBack(Duration::from_secs(25)),
            ),
            ("unknown for ever", Envelope { put_back: Some(grace), ..envelope("x") }, false, Admission::Unknown),
        ];
        for (what, envelope, redelivered, expected) in cases {
            let now = Now { time: now, store_ahead: None };
            assert_eq!(admit(&envelope, false, redelivered, &registry, grace, now), expected, "{what}");
        }
    }

    #[test]
    fn a_revoked_task_is_not_run_whatever_else_is_the_matter_with_it() {
        let registry = definition::Registry::collect().expect("no two tasks of one name here");
        let now = Now { time: Utc::now(), store_ahead: None };
        for task in ["admit.known", "x"] {
            for eta in [None, Some(now.time + TimeDelta::seconds(9))] {
                let envelope = Envelope { eta, ..envelope(task) };
                let admission = admit(&envelope, true, true, &registry, Duration::from_secs(600), now);
                assert_eq!(admission, Admission::Revoked, "{task} {eta:?}");
            }
        }
    }

    #[test]
    fn a_call_expires_by_the_clock_of_its_sender() {
        let registry = definition::Registry::collect().expect("no two tasks of one name here");
        let seconds = TimeDelta::seconds;
        let time = Utc::now();
        // How far the store's clock is ahead of the worker's and of the sender's, and in how long the call expires by
        // the worker's clock.
        for (here, there, left, is_expired) in [
            (None, None, 1, false),
            (None, None, -1, true),
            (Some(0), Some(0), -1, true),
            (Some(0), Some(60), -30, false),
            (Some(0), Some(60), -61, true),
            (Some(0), Some(-60), 59, true),
            (Some(-3600), Some(-3540), -30, false),
            (None, Some(60), -30, true),
            (Some(60), None, 30, false),
        ] {
            let envelope = Envelope {
                expires: Some(time + seconds(left)),
                sender_clock: there.map(seconds),
                ..envelope("admit.known")
            };
            let now = Now { time, store_ahead: here.map(seconds) };
            let admission = admit(&envelope, false, false, &registry, Duration::ZERO, now);
            assert_eq!(admission == Admission::Expired, is_expired, "{here:?} {there:?} {left}");
        }
        let extreme = Envelope { sender_clock: Some(TimeDelta::MIN), ..envelope("admit.known") };
        let now = Now { time, store_ahead: Some(TimeDelta::MAX) };
        assert_eq!(now.by_sender_of(&extreme), time);
    }

    #[test]
    fn a_message_is_put_back_for_the_grace_and_no_longer() {
        for grace in [0, 1, 2, 600, 86_400].map(Duration::from_secs) {
            let mut envelope = envelope("x");
            let mut rounds = 0;
            while let Some(delay) = put_back_after(&envelope, grace) {
                envelope.put_back = Some(envelope.put_back.unwrap_or_default() + delay);
                rounds += 1;
            }
            let total = envelope.put_back.unwrap_or_default();
            assert!(total >= grace && total <= grace + PUT_BACK_MAX, "{grace:?}: {total:?}");
            assert!(rounds < 2000, "{grace:?}: {rounds} rounds");
        }
    }
}
