//! What is to be done about an entry now. Pure: values in, values out.
//!
//! [`due`] looks at an entry, at which of its slots have been dealt with, and at the clock, and says which slots to fire,
//! which were missed and why, and when to look again. Time is UTC throughout; a change to or from summer time is the
//! schedule's business and never seen here.
//!
//! **Clocks.** What decides is which slots have been dealt with, not how much time has passed. A clock that jumps forward
//! makes slots late, and they are treated as after an outage: by the entry's misfire policy, so there is no flood. A clock
//! that jumps back shows times whose slots were dealt with before: those are not fired again, and those that were left open
//! ([`Handled`]) are; an entry with slots at equal distances goes on with later slots meanwhile ([`line`]). The caller waits by a monotonic timer, looks at the clock in between, and asks about all entries again
//! when it finds that the clock was moved.

mod handled;
mod jitter;
mod line;
#[cfg(test)]
mod tests;

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use taskq::TaskId;

pub use self::handled::Handled;
use self::jitter::due_at;
use self::line::{Line, line};
use crate::entry::{Entry, Misfire, Overlap};
use crate::schedule::Schedule;

/// A slot that is late by no more than this was not missed, if it is the newest: a change of the leader takes less.
const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// Missed slots are counted so far.
const COUNT_MAX: u64 = 10_000;

/// What is to be done about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be fired now, oldest first.
    pub fire: Vec<Firing>,
    /// Not to be fired, oldest first, for the entry's history.
    pub missed: Vec<Missed>,
    /// What has been dealt with once this decision is carried out. As long as it is not, the decision is the same again.
    pub handled: Handled,
    /// When to look again; `None`: there are no more slots, or the entry is paused.
    pub wake: Option<DateTime<Utc>>,
}

/// A slot that is to be fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The slot.
    pub slot: DateTime<Utc>,
    /// When it was due by the clock: the slot, and its jitter; earlier if its entry is ahead of a clock that was put back.
    pub due: DateTime<Utc>,
    /// By how much it is late.
    pub late: TimeDelta,
    /// The id of what is sent: `<entry>@<slot>`. The same slot has the same id, whoever fires it and how often.
    pub id: TaskId,
    /// After this it is no longer wanted.
    pub expires: Option<DateTime<Utc>>,
}

/// Slots that are not fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The first of them.
    pub first: DateTime<Utc>,
    /// The last of them.
    pub last: DateTime<Utc>,
    /// How many there are.
    pub count: u64,
    /// Whether there are more than that; counting ends at 10,000.
    pub is_more: bool,
    /// Why.
    pub why: Why,
}

/// Why slots are not fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A newer slot was due as well, and stands for them.
    Passed,
    /// It was late, and the entry says `misfire = "skip"`.
    Late,
    /// There were more than `misfire_max`.
    TooMany,
    /// It was later than the entry's `expires`.
    Expired,
    /// The run before was not over, and the entry says `overlap = "skip"`.
    Running,
    /// Nobody knows whether it was sent, and the entry says `on_doubt = "skip"`.
    InDoubt,
    /// The call cannot be sent as it is, not now and not later: it is too large, for example.
    Refused,
    /// It was late when the entry was paused.
    Paused,
}

/// Decides what is to be done about `entry` at `now`, if `handled` has been dealt with. `is_running`: its run before is not
/// over; asked of entries with `overlap = "skip"` only.
pub fn due(entry: &Entry, handled: &Handled, now: DateTime<Utc>, is_running: bool) -> Decision {
    let mut decision = Decision { fire: Vec::new(), missed: Vec::new(), handled: handled.clone(), wake: None };
    if !entry.enabled {
        return decision;
    }
    let line = line(entry, &mut decision.handled, now);
    let from = line.from;
    let Some((first, newest)) = due_slots(entry, from, line.now) else {
        decision.wake = wake(entry, &decision.handled, line);
        return decision;
    };
    let wanted = wanted(entry, from, newest, line.now);
    let begins = wanted.first().map_or(newest, |oldest| *oldest);
    let open_until = decision.pass_over(entry, from, first, begins, wanted.is_empty());
    let (expired, fresh): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .map(|slot| Firing::new(entry, slot, line.ahead, now))
        .partition(|firing| firing.expires.is_some_and(|expires| expires <= now));
    decision.miss(&expired, Why::Expired);
    if is_running && entry.overlap == Overlap::Skip {
        decision.miss(&fresh, Why::Running);
    } else {
        decision.fire = fresh;
    }
    match expired.last().map(|firing| firing.slot).or(open_until) {
        // What is ahead of the clock is passed over for good: the clock has yet to show it.
        Some(open_until) if line.ahead.is_zero() => decision.handled.close_after(now, open_until, newest),
        _ => decision.handled.close(now, newest),
    }
    decision.look_again(entry, now);
    decision
}

/// The slots that were due when the entry was paused and had not been dealt with: with the pause they are given up.
pub(crate) fn given_up(entry: &Entry, handled: &Handled, paused: DateTime<Utc>) -> Option<Missed> {
    let from = handled.until_at(paused)?;
    let (first, newest) = due_slots(entry, from, paused)?;
    Some(Missed::between(entry, from, first, newest, Why::Paused))
}

/// The oldest and the newest slot after `from` that are due at `now`.
fn due_slots(entry: &Entry, from: DateTime<Utc>, now: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let is_due = |slot: &DateTime<Utc>| *slot <= now && due_at(entry, *slot) <= now;
    let first = entry.schedule.next_after(from).filter(is_due)?;
    // Almost always it is the only one.
    let second = entry.schedule.next_after(first).filter(is_due);
    if second.is_none() {
        return Some((first, first));
    }
    let newest = entry.schedule.last_between(first, now).unwrap_or(first);
    let newest = Some(newest).filter(is_due).or_else(|| before(entry, first, newest));
    Some((first, newest.unwrap_or(first)))
}

/// The slot before `slot`, if it is later than `from`.
fn before(entry: &Entry, from: DateTime<Utc>, slot: DateTime<Utc>) -> Option<DateTime<Utc>> {
    entry.schedule.last_between(from, slot - TimeDelta::nanoseconds(1))
}

/// The slots after `from` that the misfire policy lets be fired, oldest first; `newest` is the last that is due.
fn wanted(entry: &Entry, from: DateTime<Utc>, newest: DateTime<Utc>, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    match entry.misfire {
        Misfire::One => vec![newest],
        Misfire::Skip if now - due_at(entry, newest) <= ON_TIME => vec![newest],
        Misfire::Skip => Vec::new(),
        Misfire::All => {
            let older = std::iter::successors(Some(newest), |slot| before(entry, from, *slot));
            let mut slots: Vec<_> = older.take(entry.misfire_max as usize).collect();
            slots.reverse();
            slots
        }
    }
}

/// When the next slot of a line is due by the clock, if it will not have been dealt with by then.
fn wake(entry: &Entry, handled: &Handled, line: Line) -> Option<DateTime<Utc>> {
    let mut after = line.from;
    if let Schedule::Every(_) = entry.schedule {
        return entry.schedule.next_after(after).map(|slot| due_at(entry, slot) - line.ahead);
    }
    loop {
        let slot = entry.schedule.next_after(after)?;
        let due = due_at(entry, slot);
        match handled.until_at(due) {
            Some(until) if until >= slot => after = until,
            _ => return Some(due),
        }
    }
}

impl Decision {
    fn look_again(&mut self, entry: &Entry, now: DateTime<Utc>) {
        let line = line(entry, &mut self.handled, now);
        self.wake = wake(entry, &self.handled, line);
    }

    /// Reports the slots from `first` on that come before `begins`, the first that is wanted, or up to it if none is. Gives
    /// the last of them.
    fn pass_over(
        &mut self,
        entry: &Entry,
        from: DateTime<Utc>,
        first: DateTime<Utc>,
        begins: DateTime<Utc>,
        none_is_wanted: bool,
    ) -> Option<DateTime<Utc>> {
        let last = if none_is_wanted { Some(begins) } else { before(entry, from, begins) }?;
        let why = match entry.misfire {
            Misfire::Skip if none_is_wanted => Why::Late,
            Misfire::Skip | Misfire::One => Why::Passed,
            Misfire::All => Why::TooMany,
        };
        self.missed.push(Missed::between(entry, from, first, last, why));
        Some(last)
    }

    fn miss(&mut self, firings: &[Firing], why: Why) {
        if let ([first, ..], [.., last]) = (firings, firings) {
            let count = firings.len() as u64;
            self.missed.push(Missed { first: first.slot, last: last.slot, count, is_more: false, why });
        }
    }
}

impl Missed {
    /// All slots after `from` up to `last`, of which the first is `first`.
    fn between(entry: &Entry, from: DateTime<Utc>, first: DateTime<Utc>, last: DateTime<Utc>, why: Why) -> Self {
        let count = entry.schedule.count_between(from, last, COUNT_MAX + 1);
        Self { first, last, count: count.min(COUNT_MAX), is_more: count > COUNT_MAX, why }
    }
}

impl Firing {
    fn new(entry: &Entry, slot: DateTime<Utc>, ahead: TimeDelta, now: DateTime<Utc>) -> Self {
        // By the clock, which is what others know.
        let due = due_at(entry, slot) - ahead;
        let expires = entry.expires.and_then(|after| due.checked_add_signed(TimeDelta::from_std(after).ok()?));
        Self { slot, due, late: now - due, id: entry.firing_id(slot), expires }
    }
}

impl Entry {
    /// The id of what is sent for a slot: `<entry>@<slot>`, the slot as in `2026-01-31T08:00:00Z`.
    pub fn firing_id(&self, slot: DateTime<Utc>) -> TaskId {
        let id = format!("{}@{}", self.name, slot.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        TaskId::parse(&id).expect("names are short enough")
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "a newer slot was due as well",
            Self::Late => "it was late, and `misfire` is \"skip\"",
            Self::TooMany => "there were more than `misfire_max`",
            Self::Expired => "it was later than `expires`",
            Self::Running => "the run before was not over, and `overlap` is \"skip\"",
            Self::InDoubt => "nobody knows whether it was sent, and `on_doubt` is \"skip\"",
            Self::Refused => "the call cannot be sent as it is; the log says why",
            Self::Paused => "it was late when the entry was paused",
        })
    }
}
