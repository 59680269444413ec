//! Decisions as values: slots to fire, and slots that were missed.

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use taskq::TaskId;

use super::handled::Handled;
use super::jitter::due_at;
use crate::entry::Entry;

/// The bound up to which missed slots are counted.
const COUNT_MAX: u64 = 10_000;

/// The slots of an entry to fire and those that were missed, at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The slots to fire now, oldest first.
    pub fire: Vec<Firing>,
    /// The slots that are not fired, oldest first, for the history of the entry.
    pub missed: Vec<Missed>,
    /// The slots that have been handled once this decision is carried out. Until then, asking again gives the same
    /// decision.
    pub handled: Handled,
    /// When to look again; `None` if there are no more slots or the entry is paused.
    pub wake: Option<DateTime<Utc>>,
}

/// A slot to fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The slot.
    pub slot: DateTime<Utc>,
    /// When the slot was due by the clock: its time plus jitter, or earlier if the entry is ahead of a clock that was
    /// put back.
    pub due: DateTime<Utc>,
    /// The lateness of the slot.
    pub late: TimeDelta,
    /// The id of the task to send: `<entry>@<slot>`. A slot has one id, whichever beat fires it and however often.
    pub id: TaskId,
    /// The moment after which the slot is no longer wanted.
    pub expires: Option<DateTime<Utc>>,
}

/// Slots that were not fired, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Missed {
    /// The first missed slot.
    pub first: DateTime<Utc>,
    /// The last missed slot.
    pub last: DateTime<Utc>,
    /// The number of missed slots.
    pub count: u64,
    /// Whether there are more than `count`; counting ends at 10,000.
    pub is_more: bool,
    /// The reason, which is `why` in JSON.
    #[serde(rename = "why")]
    pub reason: MissReason,
}

/// Why slots were not fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissReason {
    /// A newer slot was due as well and replaced them.
    Passed,
    /// The slot was late, and the entry has `misfire = "skip"`.
    Late,
    /// More slots than `misfire_max` were due.
    TooMany,
    /// The slot was late by more than `expires`.
    Expired,
    /// The previous run was unfinished, and the entry has `overlap = "skip"`.
    Running,
    /// The slot may or may not have been sent, and the entry has `on_doubt = "skip"`.
    InDoubt,
    /// The call can never be sent as it is: it is too large, for example.
    Refused,
    /// The slot was late when the entry was paused.
    Paused,
}

impl Missed {
    /// Reports all slots after `from` up to `last`, of which the first is `first`.
    pub(super) fn between(
        entry: &Entry,
        from: DateTime<Utc>,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
        reason: MissReason,
    ) -> Self {
        let count = entry.schedule.count_between(from, last, COUNT_MAX + 1);
        Self { first, last, count: count.min(COUNT_MAX), is_more: count > COUNT_MAX, reason }
    }
}

impl Firing {
    pub(super) fn new(entry: &Entry, slot: DateTime<Utc>, ahead: TimeDelta, now: DateTime<Utc>) -> Self {
        // By the clock, which is the time that workers know.
        let due = due_at(entry, slot) - ahead;
        let expires = entry.expires.and_then(|after| due.checked_add_signed(TimeDelta::from_std(after).ok()?));
        Self { slot, due, late: now - due, id: entry.firing_id(slot), expires }
    }
}

impl Entry {
    /// Returns the id of the task that is sent for a slot: `<entry>@<slot>`, the slot as in `2026-01-31T08:00:00Z`.
    pub fn firing_id(&self, slot: DateTime<Utc>) -> TaskId {
        let id = format!("{}@{}", self.name, slot.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        TaskId::parse(&id).expect("names are short enough")
    }
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "a newer slot was due as well",
            Self::Late => "late, and `misfire` is \"skip\"",
            Self::TooMany => "more slots than `misfire_max` were due",
            Self::Expired => "later than `expires`",
            Self::Running => "the previous run was unfinished, and `overlap` is \"skip\"",
            Self::InDoubt => "it is not known whether it was sent, and `on_doubt` is \"skip\"",
            Self::Refused => "the call cannot be sent as it is; see the log of beat",
            Self::Paused => "late when the entry was paused",
        })
    }
}
