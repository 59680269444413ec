//! What is known of an entry.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use taskq::TaskId;

use crate::due::{Firing, Handled, Missed};

/// What is known of an entry, some of whose slots have been dealt with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Which slots have been dealt with. Those that are pending are among them.
    pub handled: Handled,
    /// Slots that were claimed and are not known to have been sent, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// The newest slot that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Fired>,
    /// The newest slots that were missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// How many slots have been sent.
    #[serde(default)]
    pub fired_count: u64,
    /// How many have been missed.
    #[serde(default)]
    pub missed_count: u64,
    /// The term of the leader that wrote this.
    pub term: u64,
}

/// A slot that was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The slot.
    pub slot: DateTime<Utc>,
    /// When it was due.
    pub due: DateTime<Utc>,
    /// After this it is no longer wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime<Utc>>,
}

/// A slot that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// The slot.
    pub slot: DateTime<Utc>,
    /// When it was sent.
    pub at: DateTime<Utc>,
    /// By how many milliseconds that was late.
    pub late_ms: i64,
    /// The id of the task.
    pub id: TaskId,
}

impl Facts {
    /// Of an entry none of whose slots has been dealt with.
    pub fn new(handled: Handled) -> Self {
        Self { handled, pending: Vec::new(), last: None, missed: None, fired_count: 0, missed_count: 0, term: 0 }
    }

    /// Notes slots that were missed.
    pub(crate) fn note_missed(&mut self, missed: &[Missed]) {
        self.missed_count += missed.iter().map(|missed| missed.count).sum::<u64>();
        if let Some(newest) = missed.last() {
            self.missed = Some(newest.clone());
        }
    }

    /// Notes a slot that was sent.
    pub(crate) fn note_fired(&mut self, fired: &Fired) {
        self.fired_count += 1;
        self.last = Some(fired.clone());
    }
}

impl Pending {
    pub(crate) fn of(firing: &Firing) -> Self {
        Self { slot: firing.slot, due: firing.due, expires: firing.expires }
    }

    /// By how much it is late at `now`.
    pub(crate) fn late(&self, now: DateTime<Utc>) -> TimeDelta {
        now - self.due
    }
}
