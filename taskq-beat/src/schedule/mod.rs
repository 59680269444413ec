//! When an entry has its slots: moments on the line of time, each of which is to be fired once.
//!
//! A schedule is a pure function of time, the same in every process that knows its text: [`Schedule::next_after`] gives the
//! first slot that is later than a moment. Everything else (what is late, what was missed) is decided in [`due`](crate::due)
//! from slots that have been handled.
//!
//! `fields` reads a cron line, `field` one field of it, `cron` steps through it, `zone` knows where clocks are put forward and
//! back, and `words` says in English what came of it.

mod cron;
mod field;
mod fields;
mod interval;
mod once;
#[cfg(test)]
mod tests;
mod words;
mod zone;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use taskq::settings::nearest;

pub use self::cron::Cron;
pub use self::interval::Every;
pub use self::once::Once;

/// How far ahead a slot is looked for: 40 years, which is longer than weekdays and leap years take to come round. What has
/// no slot within it has none.
const HORIZON: TimeDelta = TimeDelta::days(40 * 366);

/// So many slots are gone through one by one before the search for the last of them leaps.
const STEPS_MAX: usize = 16;

/// When an entry has its slots. Cloning is cheap.
///
/// ```
/// use taskq_beat::schedule::Schedule;
///
/// # fn main() -> Result<(), taskq_beat::schedule::ScheduleError> {
/// let schedule = Schedule::cron("0 9 * * MON-FRI", "Europe/Berlin")?;
/// let friday = "2026-03-27T08:00:00Z".parse().expect("a moment");
/// let monday = schedule.next_after(friday).expect("there is always another Monday");
/// assert_eq!(monday.to_string(), "2026-03-30 07:00:00 UTC"); // the clock was put forward on Sunday
/// assert_eq!(schedule.describe(), "at 09:00 on weekdays, Europe/Berlin");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the times that a cron line names.
    Cron(Arc<Cron>),
    /// At equal distances.
    Every(Every),
    /// Once.
    Once(Once),
}

/// A schedule that cannot be understood, or that has no slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A cron line as a whole.
    #[error("the cron line {line:?} {why}")]
    Line {
        /// The line.
        line: String,
        /// What is wrong with it, and the mend.
        why: String,
    },
    /// One field of a cron line.
    #[error("the {field} `{text}` of the cron line {line:?}: {why}")]
    Field {
        /// The line.
        line: String,
        /// `second`, `minute`, `hour`, `day`, `month` or `weekday`.
        field: &'static str,
        /// The field as it is written.
        text: String,
        /// What is wrong with it, and the mend.
        why: String,
    },
    /// A time zone that nobody knows.
    #[error("there is no time zone {name:?}; did you mean {nearest:?}?")]
    Zone {
        /// The name.
        name: String,
        /// The name that is most like it.
        nearest: &'static str,
    },
    /// A period that is too short or too long.
    #[error("`every = \"{}\"` {why}", humantime::format_duration(*period))]
    Period {
        /// The period.
        period: Duration,
        /// What is wrong with it, and the mend.
        why: &'static str,
    },
    /// A moment that cannot be read.
    #[error("`once = {text:?}` {why}")]
    Moment {
        /// The text.
        text: String,
        /// What is wrong with it, and the mend.
        why: &'static str,
    },
}

impl ScheduleError {
    fn zone(name: &str) -> Self {
        let zones = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        let city = |zone: &str| zone.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let wanted = city(&name.replace(' ', "_"));
        // A city alone is often all that people remember.
        let nearest = zones().find(|zone| city(zone) == wanted).or_else(|| nearest(name, zones()));
        Self::Zone { name: name.to_owned(), nearest: nearest.unwrap_or("UTC") }
    }
}

impl Schedule {
    /// At the times that a cron line names, in the time zone of this IANA name.
    ///
    /// Five fields, `minute hour day month weekday`, or six with seconds first: numbers, names (`MON`, `JAN`, in capitals
    /// or not), `*`, ranges (also around the end: `FRI-MON`, `22-2`), steps (`*/5`, `10-50/20`) and lists. Weekdays go
    /// from 1 for Monday to 7 for Sunday, which is also 0. The day may be `L`, the last of the month, or `LW`, the last
    /// weekday of the month; the weekday may be `FRIL`, the last Friday of the month, or `FRI#2`, the second. `?` for one of
    /// the two is `*`. A day fits if it fits one of the two fields, unless one of them begins with a star; then it has to
    /// fit both.
    ///
    /// A line that names hours means times on the wall: where the clock is put forward, what is skipped fires once at the
    /// first moment after that; where it is put back, what is repeated fires the first time only. A line with slots in
    /// every hour counts time that passes, through both halves of a repeated hour.
    ///
    /// Fails with the field, what is wrong with it and the mend; also if the line names a day that never comes.
    pub fn cron(line: &str, tz: &str) -> Result<Self, ScheduleError> {
        Cron::new(line, tz).map(|cron| Self::Cron(Arc::new(cron)))
    }

    /// Every `period`, which is one second or more: exactly at `anchor`, `anchor + period`, `anchor + 2 × period`, …
    pub fn every(period: Duration, anchor: DateTime<Utc>) -> Result<Self, ScheduleError> {
        Every::new(period, anchor).map(Self::Every)
    }

    /// Once.
    pub fn once(at: DateTime<Utc>) -> Self {
        Self::Once(Once::new(at))
    }

    /// Once, at a moment written with an offset (`2030-01-31T08:00:00Z`), or as what the clock shows in the zone `tz`.
    pub fn once_at(text: &str, tz: Option<&str>) -> Result<Self, ScheduleError> {
        Once::read(text, tz).map(Self::Once)
    }

    /// The first slot that is later than `after`, if there is one within 40 years; cron lines end with the year 2100. The cost does not depend on how far
    /// away it is, but for lines with `L` and `LW`, which look at a few days of each month they name.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.next_after(after),
            Self::Every(every) => every.next_after(after),
            Self::Once(once) => once.next_after(after),
        }
    }

    /// The slots that are later than `from` and no later than `to`, oldest first, and no more than `max` of them.
    pub fn slots_between(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: usize) -> Vec<DateTime<Utc>> {
        let next = |slot: &DateTime<Utc>| self.next_after(*slot);
        std::iter::successors(self.next_after(from), next).take_while(|slot| *slot <= to).take(max).collect()
    }

    /// The newest slot that is later than `from` and no later than `to`. Asks for some tens of slots, however many there
    /// are in between.
    pub fn last_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if let Self::Every(every) = self {
            return every.last_until(to).filter(|slot| *slot > from);
        }
        let in_time = |after| self.next_after(after).filter(|slot| *slot <= to);
        // After most outages there are a few, and one finds the last by going on.
        let mut from = from;
        let mut last = None;
        for _ in 0..STEPS_MAX {
            let Some(slot) = in_time(from) else { return last };
            (from, last) = (slot, Some(slot));
        }
        // Backward in growing steps, until there is a slot ahead.
        let mut step = TimeDelta::seconds(1);
        let (mut slot, mut none_after) = loop {
            let start = to.checked_sub_signed(step).filter(|start| *start > from).unwrap_or(from);
            match in_time(start) {
                Some(slot) => break (slot, to),
                None if start == from => return last,
                None => step = step * 2,
            }
        };
        // And forward in halves. Slots of one schedule are a second apart or more.
        while none_after - slot >= TimeDelta::seconds(1) {
            let middle = slot + (none_after - slot) / 2;
            match in_time(middle) {
                Some(later) => slot = later,
                None => none_after = middle,
            }
        }
        Some(slot)
    }

    /// How many slots are later than `from` and no later than `to`, but no more than `max`.
    pub fn count_between(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: u64) -> u64 {
        if let Self::Every(every) = self {
            return every.count_between(from, to).min(max);
        }
        let next = |slot: &DateTime<Utc>| self.next_after(*slot);
        let slots = std::iter::successors(self.next_after(from), next).take_while(|slot| *slot <= to);
        slots.zip(0..max).count() as u64
    }

    /// In English words: `at 09:00 on weekdays, Europe/Berlin`.
    pub fn describe(&self) -> String {
        match self {
            Self::Cron(cron) => cron.describe(),
            Self::Every(every) => every.describe(),
            Self::Once(once) => once.describe(),
        }
    }
}

/// The schedule as text, the same for the same slots written in the same way: `cron 0 9 * * MON-FRI Europe/Berlin`,
/// `every 30s`, `once 2030-01-31T08:00:00Z`. A text that has changed is another schedule.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => cron.fmt(f),
            Self::Every(every) => every.fmt(f),
            Self::Once(once) => once.fmt(f),
        }
    }
}
