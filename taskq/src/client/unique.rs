//! At most one call per key: `.unique("key", "1h")`.
//!
//! The first call reserves the key, sends its message, and marks the key as sent. Whoever finds the key marked has
//! the first call's task. Whoever finds it reserved and not marked must not answer yet, because the first call may
//! still fail: it waits until the key is marked, is given up, or is so old that its owner must have died; then it
//! sends under the same id, marked as resent, so that workers run one of the two.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Client;
use crate::backend::Put;
use crate::backend::kv::{from_json, to_json};
use crate::canvas::{CallParts, Unique};
use crate::error::Error;
use crate::message::TaskId;

/// How often a call that waits for another one looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What is kept under a unique key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reservation {
    id: TaskId,
    at: DateTime<Utc>,
    sent: bool,
}

/// What a call does about the key, given what is there.
#[derive(Debug, PartialEq)]
enum Step {
    Reserve,
    Join(TaskId),
    Wait,
    TakeOver(Reservation),
}

fn decide(there: Option<Reservation>, now: DateTime<Utc>, patience: Duration) -> Step {
    match there {
        None => Step::Reserve,
        Some(reservation) if reservation.sent => Step::Join(reservation.id),
        Some(reservation) if (now - reservation.at).to_std().is_ok_and(|age| age > patience) => {
            Step::TakeOver(reservation)
        }
        Some(_) => Step::Wait,
    }
}

impl Client {
    /// Sends the call unless another one holds its key; gives the id of whichever was sent.
    pub(super) async fn send_unique(&self, parts: CallParts, id: TaskId, unique: Unique) -> Result<TaskId, Error> {
        let kv = self.kv().ok_or(Error::NoResultBackend)?;
        let key = format!("unique/{}/{}", parts.task, unique.key);
        // A publish that takes longer than its time-out has failed; twice that leaves room for slow clocks.
        let patience = self.settings().publish_timeout * 2;
        loop {
            let there = kv.get(&key).await?;
            let reservation = there.as_deref().map(|value| from_json(&key, value)).transpose()?;
            let now = self.clock().now();
            let (id, expected, resent) = match decide(reservation, now, patience) {
                Step::Join(id) => return Ok(id),
                Step::Wait => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Step::Reserve => (id.clone(), None, false),
                Step::TakeOver(dead) => (dead.id, there, true),
            };
            let reserved = Reservation { id: id.clone(), at: now, sent: false };
            let value = to_json(&reserved);
            if kv.compare_and_put(&key, expected, value.clone(), Some(unique.ttl)).await? != Put::Done {
                continue;
            }
            return match self.send_now(parts, id, resent).await {
                Ok(id) => {
                    let sent = to_json(&Reservation { sent: true, ..reserved });
                    kv.compare_and_put(&key, Some(value), sent, Some(unique.ttl)).await?;
                    Ok(id)
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
        let reservation = |age, sent| Reservation { id: id.clone(), at: now - chrono::TimeDelta::seconds(age), sent };
        for (there, expected) in [
            (None, Step::Reserve),
            (Some(reservation(0, true)), Step::Join(id.clone())),
            (Some(reservation(1000, true)), Step::Join(id.clone())),
            (Some(reservation(10, false)), Step::Wait),
            (Some(reservation(-10, false)), Step::Wait),
            (Some(reservation(61, false)), Step::TakeOver(reservation(61, false))),
        ] {
            assert_eq!(decide(there.clone(), now, patience), expected, "{there:?}");
        }
    }
}
