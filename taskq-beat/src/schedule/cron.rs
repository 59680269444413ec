//! Cron lines: which times on the wall they name, and when those are.
//!
//! The crate `cron` steps through the times on the wall. By itself it takes six fields and more, counts weekdays from
//! Sunday as 1, wants the day and the weekday to fit both, leaves out what a clock skips, and repeats, out of order, what a
//! clock shows twice. So it is given lines that were read and translated here, knows nothing of time zones, and what it
//! finds is put on the line of time here:
//!
//! * A line with slots in every hour (`*/5 * * * *`, `30 * * * *`) counts time that passes: where the clock is put back it
//!   goes on through both halves of the repeated hour, and where the clock is put forward nothing is made up for.
//! * A line that names hours (`30 2 * * *`, `*/10 2-4 * * *`, `0 */2 * * *`) means times on the wall: one that is shown
//!   twice counts once, the first time, and what is skipped counts once, at the first moment after the change.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;
use cron::Schedule as Line;

use super::field::{Set, range, values};
use super::fields::{self, Days, Fields, Weekdays};
use super::zone::{self, Moment};
use super::{HORIZON, ScheduleError, words};

/// The years from which on slots are looked for.
const YEARS: RangeInclusive<i32> = 1900..=2100;

/// A cron line in a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    line: Box<str>,
    tz: Tz,
    fields: Fields,
    /// A day fits if it fits one of these.
    alternatives: Box<[Alternative]>,
}

/// Some of the days that a line names, with its times of day.
#[derive(Debug, Clone)]
struct Alternative {
    line: Line,
    only: Only,
}

/// What a list of days cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    All,
    /// The last day of its month.
    LastDay,
    /// The last of Monday to Friday of its month.
    LastWorkday,
    /// A day in the last seven of its month.
    LastWeek,
}

impl Cron {
    /// The line, in the zone of this IANA name.
    pub(super) fn new(line: &str, tz: &str) -> Result<Self, ScheduleError> {
        let fields = Fields::read(line)?;
        let tz = tz.parse().map_err(|_| ScheduleError::zone(tz))?;
        let alternatives = days(&fields.days, &fields.weekdays)
            .into_iter()
            .map(|(days, weekdays, only)| Alternative { line: translated(&fields, days, weekdays), only })
            .collect();
        let cron = Self { line: fields::normal(line).into(), tz, fields, alternatives };
        // Any start will do: the horizon is longer than the cycle of leap years and weekdays.
        if cron.civil_after(NaiveDate::from_ymd_opt(2020, 1, 1).expect("a date").into()).is_none() {
            let why = "names a day that never comes; \"L\" in place of the day is the last day of the month".to_owned();
            return Err(ScheduleError::Line { line: line.trim().to_owned(), why });
        }
        Ok(cron)
    }

    /// The line: one space between fields, names in capitals.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The zone.
    pub fn tz(&self) -> Tz {
        self.tz
    }

    pub(super) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // What the crate steps through ends in 2100, and far beyond, local times cannot be written any more.
        if !YEARS.contains(&after.year()) {
            return None;
        }
        let slot = if self.fields.is_hourly() { self.next_passing(after) } else { self.next_on_the_wall(after) };
        slot.filter(|slot| *slot - after <= HORIZON)
    }

    /// For lines that name hours. What the clock shows moves forward only, if the second half of a repeat is left out and
    /// what is skipped counts as the moment after it.
    fn next_on_the_wall(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = match zone::repeat_at(self.tz, after) {
            // Or the loop would walk through the whole second half, perhaps in seconds.
            Some(repeat) if repeat.is_second => repeat.ends - TimeDelta::seconds(1),
            _ => zone::civil(self.tz, after),
        };
        loop {
            from = self.civil_after(from)?;
            let (Moment::Once(slot) | Moment::Twice(slot, _) | Moment::Skipped(slot)) = zone::moment(self.tz, from);
            if slot > after {
                return Some(slot);
            }
        }
    }

    /// For lines with slots in every hour: every moment at which the clock shows one of its times.
    fn next_passing(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = zone::civil(self.tz, after);
        if let Some(repeat) = zone::repeat_at(self.tz, after).filter(|repeat| !repeat.is_second) {
            // The rest of the first half, and then the second from its beginning.
            let next = self.civil_after(from)?;
            if next < repeat.ends
                && let Moment::Twice(first, _) = zone::moment(self.tz, next)
            {
                return Some(first);
            }
            from = repeat.begins - TimeDelta::seconds(1);
        }
        loop {
            from = self.civil_after(from)?;
            let (first, second) = match zone::moment(self.tz, from) {
                Moment::Once(slot) => (slot, slot),
                Moment::Twice(first, second) => (first, second),
                // The first moment after what is skipped is one of the line's own, or none.
                Moment::Skipped(end) => {
                    from = zone::civil(self.tz, end) - TimeDelta::seconds(1);
                    continue;
                }
            };
            if let Some(slot) = [first, second].into_iter().find(|slot| *slot > after) {
                return Some(slot);
            }
        }
    }

    /// The next time on the wall.
    fn civil_after(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.alternatives.iter().filter_map(|alternative| alternative.civil_after(after)).min()
    }

    /// In words, with the zone.
    pub(super) fn describe(&self) -> String {
        format!("{}, {}", words::of(&self.fields), self.tz)
    }
}

impl Alternative {
    fn civil_after(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut from = after.and_utc();
        loop {
            // To the crate all of this is UTC, where no clock is ever put forward or back.
            let next = self.line.after(&from).next()?.naive_utc();
            if next - after > HORIZON {
                return None;
            }
            if self.only.fits(next.date()) {
                return Some(next);
            }
            from = next.date().and_time(NaiveTime::from_hms_opt(23, 59, 59).expect("a time of day")).and_utc();
        }
    }
}

impl Only {
    fn fits(self, date: NaiveDate) -> bool {
        let left = u32::from(date.num_days_in_month()) - date.day();
        match self {
            Self::All => true,
            Self::LastDay => left == 0,
            Self::LastWeek => left < 7,
            Self::LastWorkday => match date.weekday() {
                Weekday::Sat | Weekday::Sun => false,
                Weekday::Fri => left <= 2,
                _ => left == 0,
            },
        }
    }
}

/// The days that both fields name together, as alternatives: days of the month, weekdays, and what they cannot say.
///
/// As in Vixie's cron, one of the two is enough if both choose, and a field that begins with a star chooses nothing: it only
/// narrows what the other chose.
fn days(days: &Days, weekdays: &Weekdays) -> Vec<(Set, Set, Only)> {
    const EVERY_DAY: Set = range(1, 31);
    const EVERY_WEEKDAY: Set = range(0, 6);
    let mut by_month = vec![(days.set, EVERY_WEEKDAY, Only::All)];
    by_month.extend(days.last.then_some((range(28, 31), EVERY_WEEKDAY, Only::LastDay)));
    by_month.extend(days.last_weekday.then_some((range(26, 31), EVERY_WEEKDAY, Only::LastWorkday)));
    let mut by_week = vec![(EVERY_DAY, weekdays.set, Only::All), (range(22, 31), weekdays.last, Only::LastWeek)];
    by_week
        .extend((0..).zip(weekdays.nth).map(|(nth, set)| (range(nth * 7 + 1, (nth * 7 + 7).min(31)), set, Only::All)));
    let mut all: Vec<(Set, Set, Only)> = if days.is_open || weekdays.is_open {
        let both = |one: &(Set, Set, Only), other: &(Set, Set, Only)| {
            (one.0 & other.0, one.1 & other.1, if one.2 == Only::All { other.2 } else { one.2 })
        };
        by_month.iter().flat_map(|one| by_week.iter().map(move |other| both(one, other))).collect()
    } else {
        by_month.into_iter().chain(by_week).collect()
    };
    all.retain(|(days, weekdays, _)| *days != 0 && *weekdays != 0);
    all
}

/// A line as the crate reads it: six fields of plain numbers, Sunday as 1.
fn translated(fields: &Fields, days: Set, weekdays: Set) -> Line {
    let list = |set: Set, full: Set| {
        if set == full {
            return "*".to_owned();
        }
        values(set).map(|value| value.to_string()).collect::<Vec<_>>().join(",")
    };
    let line = [
        list(fields.seconds, range(0, 59)),
        list(fields.minutes, range(0, 59)),
        list(fields.hours, range(0, 23)),
        list(days, range(1, 31)),
        list(fields.months, range(1, 12)),
        list(weekdays << 1, range(1, 7)),
    ];
    line.join(" ").parse().expect("every field is a list of numbers that are in its range")
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        (&self.line, self.tz) == (&other.line, other.tz)
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {} {}", self.line, self.tz)
    }
}
