//! The timeline of an entry: the time of the clock, or a time ahead of it.
//!
//! A clock that was put back shows times whose slots were fired. Slots of cron lines and single slots then wait until
//! the clock has passed them, as in the hour that is repeated at the end of summer time. Slots at equal distances must
//! not stop for an hour, and must not fire twice either. Therefore their entry continues with the slots after those,
//! ahead of the clock by a number of whole periods. The number is stored with the handled slots, so the next leader
//! continues there, whether its clock was moved or not. It is as small as possible: it shrinks as soon as there is time
//! to make up, after an outage or when the clock is put forward again, and is 0 once the clock has caught up.

use chrono::{DateTime, TimeDelta, Utc};

use super::handled::Handled;
use super::jitter::due_at;
use crate::entry::Entry;
use crate::schedule::{Every, Schedule};

/// The time by which an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    /// The moment after which slots are open.
    pub(super) from: DateTime<Utc>,
    /// The current time of this timeline.
    pub(super) now: DateTime<Utc>,
    /// The time by which it is ahead of the clock.
    pub(super) ahead: TimeDelta,
}

impl Timeline {
    /// Returns the timeline of `entry` at `now`, and adjusts `handled` to it. Asking again changes nothing more.
    pub(super) fn of(entry: &Entry, handled: &mut Handled, now: DateTime<Utc>) -> Self {
        let from = handled_until(handled, now);
        match &entry.schedule {
            Schedule::Every(every) => steady(entry, every, handled, now),
            Schedule::Cron(_) | Schedule::Once(_) => Self { from, now, ahead: TimeDelta::zero() },
        }
    }
}

/// Returns the moment until which slots have been handled. A clock earlier than everything handled begins at `now`.
fn handled_until(handled: &mut Handled, now: DateTime<Utc>) -> DateTime<Utc> {
    handled.until_at(now).unwrap_or_else(|| {
        handled.close(now, now);
        now
    })
}

/// Returns the timeline of slots at equal distances, which is level with the clock or ahead of it.
fn steady(entry: &Entry, every: &Every, handled: &mut Handled, now: DateTime<Utc>) -> Timeline {
    let (from, next, limit) = loop {
        let from = handled_until(handled, now);
        let next = every.next_after(from).map(|next| due_at(entry, next));
        match handled.next_stretch(now) {
            // No slot is left open before those that were handled when the clock was further.
            Some((after, until)) if next.is_none_or(|next| after < next) => handled.close(now, until),
            later => break (from, next, later.map(|(after, _)| after)),
        }
    };
    handled.periods_ahead = match (every.last_until(from), next) {
        (Some(last), Some(next)) => periods_ahead(every, handled.periods_ahead, last, next, now),
        _ => 0,
    };
    let ahead = every.periods(handled.periods_ahead);
    let time = later(now, ahead);
    Timeline { from, now: limit.map_or(time, |limit| time.min(limit)), ahead }
}

fn later(now: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    now.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Returns the number of periods by which a timeline has to be ahead of the clock, given that it is ahead by `current`,
/// that `last` is the last handled slot, and that the next is due at `next`.
///
/// The next slot is fired no earlier than a period from now, and no later than two; if it is late by more than a
/// period, the timeline falls back so far that it is the only due slot.
fn periods_ahead(every: &Every, current: u64, last: DateTime<Utc>, next: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    let time = later(now, every.periods(current));
    current + every.periods_in(last - time) - every.periods_in(time - next).min(current)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timeline_is_as_far_ahead_as_it_has_to_be() {
        let every = Every::new(Duration::from_secs(10), DateTime::UNIX_EPOCH).expect("it is long enough");
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("a moment");
        for (what, current, now, expected) in [
            ("a clock that goes", 0, 1009, 0),
            ("put back by less than a period", 0, 995, 0),
            ("put back by a period", 0, 990, 1),
            ("which is fired when the clock has come to the last", 1, 1000, 1),
            ("put back by an hour", 0, 1000 - 3600, 360),
            ("put back at another moment: no firing comes early", 0, 1004 - 3600, 359),
            ("it goes on", 360, 1009 - 3600, 360),
            ("the next is due", 360, 1010 - 3600, 360),
            ("the next is late by less than a period", 360, 1019 - 3600, 360),
            ("the next is late", 360, 1025 - 3600, 359),
            ("an outage of a minute", 360, 1070 - 3600, 354),
            ("put forward again, but not all of it", 360, 970, 4),
            ("put back once more", 360, 1000 - 7200, 720),
        ] {
            assert_eq!(periods_ahead(&every, current, at(1000), at(1010), at(now)), expected, "{what}");
        }
    }
}
