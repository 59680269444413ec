//! At most one call per key: `.unique("key", "1h")`.
//!
//! The first call reserves the key, sends its message, and marks the key as sent. A later call that finds the key
//! marked returns the first call's task. One that finds it reserved and not marked must not answer yet, because the
//! first call may still fail: it waits until the key is marked, is given up, or is so old that its owner must have
//! died; then it sends under the first call's id, marked as resent, so that workers run one of the two.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Client;
use super::sent::{CallFacts, SentCall};
use crate::backend::kv::{Versioned, first_version, from_versioned_json, to_json};
use crate::backend::{BackendError, Put};
use crate::canvas::{CallParts, Unique};
use crate::error::Error;
use crate::io;
use crate::message::TaskId;

/// The interval at which a call that waits for another one's reservation reads it.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The reservation of a unique key, as it is kept in Kv.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reservation {
    id: TaskId,
    at: DateTime<Utc>,
    sent: bool,
    /// The version of this format; absent means 1.
    #[serde(default = "first_version")]
    v: u32,
}

/// The version of [`Reservation`] that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// The next step of a call, given the reservation of its key.
#[derive(Debug, PartialEq)]
enum KeyStep {
    Reserve,
    Join(TaskId),
    Wait,
    TakeOver(Reservation),
}

/// Reads the reservation under `key`. A reservation in a newer format is an error: it
/// may mean something else.
fn read(key: &str, value: &[u8]) -> Result<Reservation, BackendError> {
    match from_versioned_json(key, value, VERSION)? {
        Versioned::Known(reservation) => Ok(reservation),
        Versioned::Newer(v) => {
            let text =
                format!("its format is version {v}, written by a newer taskq; update this program, or delete the key");
            Err(BackendError::Nonsense { what: format!("the value of {key:?}"), source: text.into() })
        }
    }
}

fn decide(there: Option<Reservation>, now: DateTime<Utc>, patience: Duration) -> KeyStep {
    match there {
        None => KeyStep::Reserve,
        Some(reservation) if reservation.sent => KeyStep::Join(reservation.id),
        Some(reservation) if (now - reservation.at).to_std().is_ok_and(|age| age > patience) => {
            KeyStep::TakeOver(reservation)
        }
        Some(_) => KeyStep::Wait,
    }
}

impl Client {
    /// Sends the call unless another one holds its key; returns the one that was sent.
    pub(super) async fn send_unique(&self, parts: CallParts, id: TaskId, unique: Unique) -> Result<SentCall, Error> {
        self.require_own_process()?;
        let facts = CallFacts::of(&parts);
        let kv = self.kv().ok_or(Error::NoResultBackend)?;
        let key = format!("unique/{}/{}", parts.task, unique.key);
        // A publish that takes longer than its time-out has failed; twice that leaves room for slow clocks.
        let patience = self.settings().publish_timeout * 2;
        loop {
            let there = kv.get(&key).await?;
            let reservation = there.as_deref().map(|value| read(&key, value)).transpose()?;
            let now = self.clock().now();
            let (id, expected, resent) = match decide(reservation, now, patience) {
                // Another program may have sent it, with other options.
                KeyStep::Join(id) => return Ok(SentCall { id, facts: None }),
                KeyStep::Wait => {
                    io::pause(LOOK_EVERY).await;
                    continue;
                }
                KeyStep::Reserve => (id.clone(), None, false),
                KeyStep::TakeOver(dead) => (dead.id, there, true),
            };
            let reserved = Reservation { id: id.clone(), at: now, sent: false, v: VERSION };
            let value = to_json(&reserved);
            if kv.compare_and_put(&key, expected, value.clone(), Some(unique.ttl)).await? != Put::Done {
                continue;
            }
            return match self.send_now(parts, id, resent).await {
                Ok(id) => {
                    let sent = to_json(&Reservation { sent: true, ..reserved });
                    kv.compare_and_put(&key, Some(value), sent, Some(unique.ttl)).await?;
                    Ok(SentCall { id, facts: Some(facts) })
                }
                Err(error) => {
                    // The task does not exist, so the key must not point to it. If this fails too, the key is taken
                    // over once it is old enough.
                    if let Err(kept) = kv.delete(&key, Some(value)).await {
                        tracing::warn!(key, error = %kept, "the unique key of a failed call could not be given up");
                    }
                    Err(error)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_a_key() {
        let now = Utc::now();
        let patience = Duration::from_secs(60);
        let id = TaskId::new();
        let reservation =
            |age, sent| Reservation { id: id.clone(), at: now - chrono::TimeDelta::seconds(age), sent, v: VERSION };
        for (there, expected) in [
            (None, KeyStep::Reserve),
            (Some(reservation(0, true)), KeyStep::Join(id.clone())),
            (Some(reservation(1000, true)), KeyStep::Join(id.clone())),
            (Some(reservation(10, false)), KeyStep::Wait),
            (Some(reservation(-10, false)), KeyStep::Wait),
            (Some(reservation(61, false)), KeyStep::TakeOver(reservation(61, false))),
        ] {
            assert_eq!(decide(there.clone(), now, patience), expected, "{there:?}");
        }
    }

    #[test]
    fn a_reservation_has_a_version() {
        let reservation = Reservation { id: TaskId::new(), at: Utc::now(), sent: true, v: VERSION };
        let written = to_json(&reservation);
        assert_eq!(read("unique/t/k", &written).expect("it was just written"), reservation);
        let without = String::from_utf8(written.to_vec()).expect("JSON").replace(",\"v\":1", "");
        assert_eq!(read("unique/t/k", without.as_bytes()).expect("absent means 1"), reservation);
        let error = read("unique/t/k", b"{\"v\":2,\"owner\":7}").expect_err("it is newer");
        let text = crate::fault::full_message(&error);
        assert!(text.contains("unique/t/k") && text.contains("version 2") && text.contains("update"), "{text}");
    }
}
