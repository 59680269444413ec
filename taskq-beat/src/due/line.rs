//! Which time an entry goes by: the clock's, or one that is ahead of it.
//!
//! A clock that was put back shows times whose slots were fired. For what is due at times on the clock, that is that: those
//! slots wait until the clock is past them, as in the hour that is repeated at the end of summer time. What is due at equal
//! distances must not stop for an hour, and must not fire a slot twice either. So its entry goes on with the slots after
//! those, ahead of the clock by a number of whole periods. That number is kept with what has been dealt with, so whoever
//! leads next goes on there, whether its clock was moved or not. It is what it has to be, and no more: it shrinks as soon as
//! there is time to make up, after an outage or when the clock is put forward again, and is gone when the clock has caught up.

use chrono::{DateTime, TimeDelta, Utc};

use super::handled::Handled;
use super::jitter::due_at;
use crate::entry::Entry;
use crate::schedule::{Every, Schedule};

/// The time that an entry goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Slots after this moment are open.
    pub(super) from: DateTime<Utc>,
    /// How late it is on this line.
    pub(super) now: DateTime<Utc>,
    /// By how much it is ahead of the clock.
    pub(super) ahead: TimeDelta,
}

/// The line that `entry` goes by at `now`. What was dealt with is made to fit it, and stays the same if that is asked again.
pub(super) fn line(entry: &Entry, handled: &mut Handled, now: DateTime<Utc>) -> Line {
    let from = dealt_with_until(handled, now);
    match &entry.schedule {
        Schedule::Every(every) => steady(entry, every, handled, now),
        Schedule::Cron(_) | Schedule::Once(_) => Line { from, now, ahead: TimeDelta::zero() },
    }
}

/// Until when slots have been dealt with. A clock that shows less than anything that is known begins there.
fn dealt_with_until(handled: &mut Handled, now: DateTime<Utc>) -> DateTime<Utc> {
    handled.until_at(now).unwrap_or_else(|| {
        handled.close(now, now);
        now
    })
}

/// The line of slots at equal distances, which are up to date with the clock or ahead of it.
fn steady(entry: &Entry, every: &Every, handled: &mut Handled, now: DateTime<Utc>) -> Line {
    let (from, next, limit) = loop {
        let from = dealt_with_until(handled, now);
        let next = every.next_after(from).map(|next| due_at(entry, next));
        match handled.next_stretch(now) {
            // Nothing is left open before what was dealt with when the clock showed more.
            Some((after, until)) if next.is_none_or(|next| after < next) => handled.close(now, until),
            later => break (from, next, later.map(|(after, _)| after)),
        }
    };
    handled.periods_ahead = match (every.last_until(from), next) {
        (Some(last), Some(next)) => periods_ahead(every, handled.periods_ahead, last, next, now),
        _ => 0,
    };
    let ahead = every.periods(handled.periods_ahead);
    let line = later(now, ahead);
    Line { from, now: limit.map_or(line, |limit| line.min(limit)), ahead }
}

fn later(now: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    now.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// By how many periods a line is to be ahead of a clock that it is ahead of by `is_now`, if `last` is the last slot that was
/// dealt with, and the next is due at `next`.
///
/// The next slot is fired no earlier than a period from now, and no later than two; if it is late by more than a period, the
/// line falls back so far that it is the only one.
fn periods_ahead(every: &Every, is_now: u64, last: DateTime<Utc>, next: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    let line = later(now, every.periods(is_now));
    is_now + every.periods_in(last - line) - every.periods_in(line - next).min(is_now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_is_as_far_ahead_as_it_has_to_be() {
        let every = Every::new(Duration::from_secs(10), DateTime::UNIX_EPOCH).expect("it is long enough");
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("a moment");
        for (what, is_now, now, expected) in [
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
            assert_eq!(periods_ahead(&every, is_now, at(1000), at(1010), at(now)), expected, "{what}");
        }
    }
}
