//! Cron lines: the local times that they name, and the moments at which those occur.
//!
//! The crate `cron` steps through the local times. On its own it accepts six fields and more, counts weekdays from
//! Sunday as 1, requires the day and the weekday to match both, omits times that a clock skips, and repeats, out of
//! order, times that a clock shows twice. Therefore it receives lines that are parsed and translated here, and knows
//! nothing of time zones; the local times that it finds are converted to UTC here:
//!
//! * A line with slots in every hour (`*/5 * * * *`, `30 * * * *`) means elapsed time: where the clock is put back, the
//!   slots run through both halves of the repeated hour, and where the clock is put forward, nothing is made up for.
//! * A line that names hours (`30 2 * * *`, `*/10 2-4 * * *`, `0 */2 * * *`) means local times: a time that is shown
//!   twice counts once, the first time, and skipped times count once, at the first moment after the change.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;
use cron::Schedule as CivilTimes;

use super::error::ScheduleError;
use super::field::{Set, range, values};
use super::fields::{self, Days, Fields, Weekdays};
use super::zone::{self, Moment};
use super::{HORIZON, words};

/// The years in which a search for slots may begin.
const YEARS: RangeInclusive<i32> = 1900..=2100;

/// The length of a line, in bytes. One that names every value of each field is shorter.
const LINE_MAX: usize = 1000;

/// A cron line in a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    line: Box<str>,
    tz: Tz,
    fields: Fields,
    /// The sets of days that the line names; a day matches if it matches one of them.
    alternatives: Box<[Alternative]>,
}

/// Some of the days that a line names, with the line's times of day.
#[derive(Debug, Clone)]
struct Alternative {
    times: CivilTimes,
    only: DayFilter,
}

/// A condition on a date that a list of days cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DayFilter {
    All,
    /// The last day of its month.
    LastDay,
    /// The last of Monday to Friday of its month.
    LastWorkday,
    /// One of the last seven days of its month.
    LastWeek,
}

impl Cron {
    /// Parses a line, for the time zone with the IANA name `tz`.
    pub(super) fn new(line: &str, tz: &str) -> Result<Self, ScheduleError> {
        if line.len() > LINE_MAX {
            return Err(ScheduleError::long_line(line, LINE_MAX));
        }
        let fields = Fields::read(line)?;
        let tz = tz.parse().map_err(|_| ScheduleError::zone(tz))?;
        let alternatives = days(&fields.days, &fields.weekdays)
            .into_iter()
            .map(|(days, weekdays, only)| Alternative { times: translated(&fields, days, weekdays), only })
            .collect();
        let cron = Self { line: fields::normal(line).into(), tz, fields, alternatives };
        // Any start does: the horizon is longer than the cycle of leap years and weekdays.
        if cron.civil_after(NaiveDate::from_ymd_opt(2020, 1, 1).expect("a date").into()).is_none() {
            let why = "names a day that never comes; \"L\" in place of the day is the last day of the month".to_owned();
            return Err(ScheduleError::Line { line: line.trim().to_owned(), why });
        }
        Ok(cron)
    }

    /// Returns the line in its normal form: one space between fields, names in capitals.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Returns the time zone.
    pub fn tz(&self) -> Tz {
        self.tz
    }

    pub(super) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The crate `cron` ends with the year 2100, and far beyond that local times cannot be represented.
        if !YEARS.contains(&after.year()) {
            return None;
        }
        let slot = if self.fields.is_hourly() { self.next_elapsed(after) } else { self.next_local(after) };
        slot.filter(|slot| *slot - after <= HORIZON)
    }

    /// Returns the next slot of a line that names hours. Local time only moves forward here, since the second half of a
    /// repeated stretch is left out and skipped times count as the moment after the change.
    fn next_local(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = match zone::repeat_at(self.tz, after) {
            // Otherwise the loop would walk through the whole second half, perhaps second by second.
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

    /// Returns the next slot of a line with slots in every hour: every moment at which the clock shows one of its times
    /// is a slot.
    fn next_elapsed(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = zone::civil(self.tz, after);
        if let Some(repeat) = zone::repeat_at(self.tz, after).filter(|repeat| !repeat.is_second) {
            // First the rest of the first half, then the second half from its beginning.
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
                // The first moment after the change is a slot only if the line names it.
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

    /// Returns the next local time that the line names.
    fn civil_after(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.alternatives.iter().filter_map(|alternative| alternative.civil_after(after)).min()
    }

    /// Returns the line in English, with its zone.
    pub(super) fn describe(&self) -> String {
        format!("{}, {}", words::of(&self.fields), self.tz)
    }
}

impl Alternative {
    fn civil_after(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut from = after.and_utc();
        loop {
            // To the crate, local times are UTC, where no clock is ever put forward or back.
            let next = self.times.after(&from).next()?.naive_utc();
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

impl DayFilter {
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

/// Returns the days that both fields name together, as alternatives: days of the month, weekdays, and a filter.
///
/// As in Vixie's cron, matching one of the two fields is enough if both choose, and a field that begins with a star
/// chooses nothing: it only narrows the choice of the other.
fn days(days: &Days, weekdays: &Weekdays) -> Vec<(Set, Set, DayFilter)> {
    const EVERY_DAY: Set = range(1, 31);
    const EVERY_WEEKDAY: Set = range(0, 6);
    let mut by_month = vec![(days.set, EVERY_WEEKDAY, DayFilter::All)];
    by_month.extend(days.last.then_some((range(28, 31), EVERY_WEEKDAY, DayFilter::LastDay)));
    by_month.extend(days.last_weekday.then_some((range(26, 31), EVERY_WEEKDAY, DayFilter::LastWorkday)));
    let mut by_week =
        vec![(EVERY_DAY, weekdays.set, DayFilter::All), (range(22, 31), weekdays.last, DayFilter::LastWeek)];
    by_week.extend(
        (0..).zip(weekdays.nth).map(|(nth, set)| (range(nth * 7 + 1, (nth * 7 + 7).min(31)), set, DayFilter::All)),
    );
    let mut all: Vec<(Set, Set, DayFilter)> = if days.is_open || weekdays.is_open {
        let both = |one: &(Set, Set, DayFilter), other: &(Set, Set, DayFilter)| {
            (one.0 & other.0, one.1 & other.1, if one.2 == DayFilter::All { other.2 } else { one.2 })
        };
        by_month.iter().flat_map(|one| by_week.iter().map(move |other| both(one, other))).collect()
    } else {
        by_month.into_iter().chain(by_week).collect()
    };
    all.retain(|(days, weekdays, _)| *days != 0 && *weekdays != 0);
    all
}

/// Translates a line for the crate `cron`: six fields of plain numbers, Sunday as 1.
fn translated(fields: &Fields, days: Set, weekdays: Set) -> CivilTimes {
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
