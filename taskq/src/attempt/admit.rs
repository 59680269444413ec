//! The admission of a delivery, before anything runs: a pure decision.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::definition::{Definition, Registry};
use crate::message::Envelope;

/// The time by which a message may be early and still wait in a slot of this worker; a round trip through the broker
/// would take longer.
const EARLY_BY_MAX: Duration = Duration::from_millis(50);

/// Bounds of the delay after which a message with an unknown task comes back.
const UNKNOWN_DELAY_MIN: Duration = Duration::from_secs(1);
const UNKNOWN_DELAY_MAX: Duration = Duration::from_secs(60);

/// The decision about a delivery.
///
/// Exhaustive, since a worker must act on every decision; the worker is released together with this crate. Revoked
/// tasks and throttled ones will each be a variant of their own, `Revoked` and `Throttled(Duration)`.
#[derive(Debug, PartialEq)]
pub enum Admission {
    /// Run the task at once: this is certainly the first delivery of the only copy.
    Run(&'static Definition),
    /// Claim the run first: the message may be a copy of one that is running or has run.
    Claim(&'static Definition),
    /// Let the broker hold the message for this long: it is not yet due.
    PutOff(Duration),
    /// Let the message come back after this long: this worker does not know the task, and a deploy may be under way.
    PutBack(Duration),
    /// Give the message up: no worker has known the task for the whole grace period.
    Unknown,
    /// Revoke the task: it has expired.
    Expired,
}

/// Decides about a delivery.
///
/// `redelivered` is the broker's mark that a consumer may have had the message before, and `unknown_grace` the time for
/// which a message is put back whose task is not in `registry`.
pub fn admit(
    envelope: &Envelope,
    redelivered: bool,
    registry: &Registry,
    unknown_grace: Duration,
    now: DateTime<Utc>,
) -> Admission {
    if envelope.expires.is_some_and(|expires| expires <= now) {
        return Admission::Expired;
    }
    if let Some(early) = early_by(envelope, now).filter(|early| *early > EARLY_BY_MAX) {
        return Admission::PutOff(early);
    }
    let Some(definition) = registry.get(&envelope.task) else {
        let age = envelope.unknown_since.map_or(Duration::ZERO, |since| (now - since).to_std().unwrap_or_default());
        return if age >= unknown_grace {
            Admission::Unknown
        } else {
            // A delay of a quarter of the age doubles the age every three rounds or so: frequent at first, rare later.
            let delay = (age / 4).clamp(UNKNOWN_DELAY_MIN, UNKNOWN_DELAY_MAX);
            Admission::PutBack(delay.min(unknown_grace))
        };
    };
    if redelivered || envelope.may_be_copy() { Admission::Claim(definition) } else { Admission::Run(definition) }
}

/// Returns the time until the message is due; `None` if it is due.
pub fn early_by(envelope: &Envelope, now: DateTime<Utc>) -> Option<Duration> {
    envelope.eta.and_then(|eta| (eta - now).to_std().ok()).filter(|early| !early.is_zero())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

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
            ("unknown", envelope("x"), false, Admission::PutBack(Duration::from_secs(1))),
            (
                "unknown for long",
                Envelope { unknown_since: ago(100), ..envelope("x") },
                true,
                Admission::PutBack(Duration::from_secs(25)),
            ),
            ("unknown for ever", Envelope { unknown_since: ago(600), ..envelope("x") }, false, Admission::Unknown),
        ];
        for (what, envelope, redelivered, expected) in cases {
            assert_eq!(admit(&envelope, redelivered, &registry, grace, now), expected, "{what}");
        }
    }
}
