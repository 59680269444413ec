//! The three kinds of schedule, and the questions that all of them answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::cron::Cron;
use super::error::ScheduleError;
use super::every::Every;
use super::once::Once;

/// The number of slots that [`Schedule::last_between`] steps through one by one before it searches by bisection.
const STEPS_MAX: usize = 16;

/// The slots of an entry: the moments at which it is due. Cloning is cheap.
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
#[non_exhaustive]
pub enum Schedule {
    /// Slots at the times that a cron line names.
    Cron(Arc<Cron>),
    /// Slots at equal distances.
    Every(Every),
    /// A single slot.
    Once(Once),
}

impl Schedule {
    /// Returns the schedule of a cron line in the time zone with the IANA name `tz`.
    ///
    /// Five fields, `minute hour day month weekday`, or six with seconds first: numbers, names (`MON`, `JAN`, in
    /// capitals or not), `*`, ranges (also around the end: `FRI-MON`, `22-2`), steps (`*/5`, `10-50/20`) and lists.
    /// Weekdays run from 1 for Monday to 7 for Sunday, which is also 0. The day may be `L`, the last of the month, or
    /// `LW`, the last weekday of the month; the weekday may be `FRIL`, the last Friday of the month, or `FRI#2`, the
    /// second. `?` in one of the two means `*`. A day matches if it matches one of the two fields, unless one of them
    /// begins with a star; then it has to match both.
    ///
    /// A line that names hours means local times: where the clock is put forward, skipped slots fire once, at the first
    /// moment after the change; where it is put back, repeated slots fire the first time only. A line with slots in
    /// every hour means elapsed time, and runs through both halves of a repeated hour.
    ///
    /// The error names the field, the mistake and the remedy. A line that names only days that never come is an error
    /// too.
    pub fn cron(line: &str, tz: &str) -> Result<Self, ScheduleError> {
        Cron::new(line, tz).map(|cron| Self::Cron(Arc::new(cron)))
    }

    /// Returns a schedule with a slot every `period`, which is at least one second: exactly at `anchor`, `anchor +
    /// period`, `anchor + 2 × period`, …
    pub fn every(period: Duration, anchor: DateTime<Utc>) -> Result<Self, ScheduleError> {
        Every::new(period, anchor).map(Self::Every)
    }

    /// Returns a schedule with a single slot.
    pub fn once(at: DateTime<Utc>) -> Self {
        Self::Once(Once::new(at))
    }

    /// Returns a schedule with a single slot, written with an offset (`2030-01-31T08:00:00Z`) or as local time in the
    /// zone `tz`.
    pub fn once_at(text: &str, tz: Option<&str>) -> Result<Self, ScheduleError> {
        Once::read(text, tz).map(Self::Once)
    }

    /// Returns the first slot later than `after`, if there is one within 40 years; cron lines end with the year 2100.
    ///
    /// The cost does not depend on how far away the slot is, except for lines with `L` and `LW`, which look at a few
    /// days of each month they name.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.next_after(after),
            Self::Every(every) => every.next_after(after),
            Self::Once(once) => once.next_after(after),
        }
    }

    /// Returns the slots later than `from` and no later than `to`, oldest first, at most `max` of them.
    pub fn slots_between(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: usize) -> Vec<DateTime<Utc>> {
        let next = |slot: &DateTime<Utc>| self.next_after(*slot);
        std::iter::successors(self.next_after(from), next).take_while(|slot| *slot <= to).take(max).collect()
    }

    /// Returns the newest slot later than `from` and no later than `to`. Computes some tens of slots, however many
    /// there are in between.
    pub fn last_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if let Self::Every(every) = self {
            return every.last_until(to).filter(|slot| *slot > from);
        }
        let in_time = |after| self.next_after(after).filter(|slot| *slot <= to);
        // After most outages there are only a few, and stepping forward finds the last one.
        let mut from = from;
        let mut last = None;
        for _ in 0..STEPS_MAX {
            let Some(slot) = in_time(from) else { return last };
            (from, last) = (slot, Some(slot));
        }
        // Backward from the end in growing steps, until there is a slot ahead.
        let mut step = TimeDelta::seconds(1);
        let (mut slot, mut none_after) = loop {
            let start = to.checked_sub_signed(step).filter(|start| *start > from).unwrap_or(from);
            match in_time(start) {
                Some(slot) => break (slot, to),
                None if start == from => return last,
                None => step = step * 2,
            }
        };
        // Then bisection. Slots of one schedule are at least a second apart.
        while none_after - slot >= TimeDelta::seconds(1) {
            let middle = slot + (none_after - slot) / 2;
            match in_time(middle) {
                Some(later) => slot = later,
                None => none_after = middle,
            }
        }
        Some(slot)
    }

    /// Returns the number of slots later than `from` and no later than `to`, counted up to `max`.
    pub fn count_between(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: u64) -> u64 {
        if let Self::Every(every) = self {
            return every.count_between(from, to).min(max);
        }
        let next = |slot: &DateTime<Utc>| self.next_after(*slot);
        let slots = std::iter::successors(self.next_after(from), next).take_while(|slot| *slot <= to);
        slots.zip(0..max).count() as u64
    }

    /// Returns the schedule in English: `at 09:00 on weekdays, Europe/Berlin`.
    pub fn describe(&self) -> String {
        match self {
            Self::Cron(cron) => cron.describe(),
            Self::Every(every) => every.describe(),
            Self::Once(once) => once.describe(),
        }
    }
}

/// The canonical text of a schedule, equal for equal slots written in the same way: `cron 0 9 * * MON-FRI
/// Europe/Berlin`, `every 30s`, `once 2030-01-31T08:00:00Z`. Beats compare it to notice that an entry's schedule has
/// changed.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => cron.fmt(f),
            Self::Every(every) => every.fmt(f),
            Self::Once(once) => once.fmt(f),
        }
    }
}
