//! Schedules in English.

use std::time::Duration;

use super::field::{Set, range, values};
use super::fields::{Days, Fields, Weekdays};

/// The largest number of times of day that are listed one by one.
const TIMES_MAX: u32 = 6;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const PLACES: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

const ALL_MINUTES: Set = range(0, 59);
const ALL_HOURS: Set = range(0, 23);
const ALL_WEEKDAYS: Set = range(0, 6);
const WORKDAYS: Set = range(1, 5);
const WEEKEND: Set = 1 << 6 | 1;
/// The set of the value 0 alone.
const ZERO: Set = 1;

/// Describes a cron line: the times of day, the days, and the months.
pub(super) fn of(fields: &Fields) -> String {
    let few = fields.seconds.count_ones() * fields.minutes.count_ones() * fields.hours.count_ones() <= TIMES_MAX;
    let is_list = few && fields.hours != ALL_HOURS;
    let time = if is_list { times(fields) } else { rhythm(fields) };
    let days = match days(&fields.days, &fields.weekdays) {
        // "every 5 minutes" needs no day; "at 09:00" does.
        None if is_list => " every day".to_owned(),
        None => String::new(),
        Some(days) => format!(" on {days}"),
    };
    format!("{time}{days}{}", months(fields.months))
}

/// Describes a period: `every 30 seconds`, `every hour`, `every 1 hour 30 minutes`.
pub(super) fn every(period: Duration) -> String {
    if period.subsec_nanos() > 0 {
        return format!("every {}", humantime::format_duration(period));
    }
    let mut rest = period.as_secs();
    let mut parts = Vec::new();
    for (unit, seconds) in [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)] {
        match rest / seconds {
            0 => {}
            1 => parts.push(format!("1 {unit}")),
            count => parts.push(format!("{count} {unit}s")),
        }
        rest %= seconds;
    }
    match parts.as_slice() {
        [one] => format!("every {}", one.strip_prefix("1 ").unwrap_or(one)),
        more => format!("every {}", more.join(" ")),
    }
}

/// Lists times of day: `at 09:00 and 17:30`.
fn times(fields: &Fields) -> String {
    let mut times = Vec::new();
    for hour in values(fields.hours) {
        for minute in values(fields.minutes) {
            times.extend(values(fields.seconds).map(|second| clock(hour, minute, second)));
        }
    }
    format!("at {}", list(times))
}

/// Describes repeated times of day: `every 5 minutes, from 09:00 to 17:55`.
fn rhythm(fields: &Fields) -> String {
    let Fields { seconds, minutes, hours, .. } = fields;
    if (*seconds, *minutes) == (ZERO, ZERO) {
        return hourly(*hours);
    }
    let within = if *seconds == ZERO {
        cycle(*minutes, "minute", "hour")
    } else if *minutes == ALL_MINUTES {
        cycle(*seconds, "second", "minute")
    } else {
        format!("{}, in {} of every hour", cycle(*seconds, "second", "minute"), named("minute", *minutes))
    };
    let during = if *hours == ALL_HOURS {
        String::new()
    } else if let Some((first, last)) = ends(*hours) {
        let begin = clock(first, lowest(*minutes), lowest(*seconds));
        format!(", from {begin} to {}", clock(last, highest(*minutes), highest(*seconds)))
    } else {
        format!(", in {}", named("hour", *hours))
    };
    format!("{within}{during}")
}

/// Describes slots at full hours.
fn hourly(hours: Set) -> String {
    match (step(hours, 24), ends(hours)) {
        (Some(1), _) => "every hour".to_owned(),
        (Some(step), _) => format!("every {step} hours"),
        (None, Some((first, last))) => format!("every hour from {} to {}", clock(first, 0, 0), clock(last, 0, 0)),
        (None, None) => format!("at {}", list(values(hours).map(|hour| clock(hour, 0, 0)))),
    }
}

/// Describes the values of one unit: `every 5 minutes`, `every minute`, or `at minutes 5 and 35 of every hour`.
fn cycle(set: Set, unit: &str, whole: &str) -> String {
    match step(set, 60) {
        Some(1) => format!("every {unit}"),
        Some(step) => format!("every {step} {unit}s"),
        None => format!("at {} of every {whole}", named(unit, set)),
    }
}

/// Lists values with their unit: `minute 5`, `minutes 5 and 35`.
fn named(unit: &str, set: Set) -> String {
    let plural = if set.is_power_of_two() { "" } else { "s" };
    format!("{unit}{plural} {}", list(values(set).map(|value| value.to_string())))
}

/// Returns the distance between the values of a set, if it begins at 0 and covers the cycle at equal distances.
fn step(set: Set, cycle: u32) -> Option<u32> {
    let step = values(set).nth(1)?;
    let is_even = cycle.is_multiple_of(step) && values(set).eq((0..cycle).step_by(step as usize));
    is_even.then_some(step)
}

/// Returns the first and the last value of a set of several consecutive values.
fn ends(set: Set) -> Option<(u32, u32)> {
    if set == 0 {
        return None;
    }
    let (first, last) = (lowest(set), highest(set));
    (first < last && set == range(first, last)).then_some((first, last))
}

fn lowest(set: Set) -> u32 {
    set.trailing_zeros()
}

fn highest(set: Set) -> u32 {
    set.ilog2()
}

fn clock(hour: u32, minute: u32, second: u32) -> String {
    match second {
        0 => format!("{hour:02}:{minute:02}"),
        second => format!("{hour:02}:{minute:02}:{second:02}"),
    }
}

/// Describes the days: `weekdays`, `the 1st and 15th`, or `None` for every day.
fn days(days: &Days, weekdays: &Weekdays) -> Option<String> {
    match (of_the_month(days), of_the_week(weekdays)) {
        (days, None) => days,
        (None, weekdays) => weekdays,
        (Some(by_month), Some(by_week)) if days.is_open || weekdays.is_open => {
            Some(format!("{by_week} that are {by_month}"))
        }
        (Some(by_month), Some(by_week)) => Some(format!("{by_month} or on {by_week}")),
    }
}

fn of_the_month(days: &Days) -> Option<String> {
    if days.set == range(1, 31) {
        return None;
    }
    let mut parts = Vec::new();
    match ends(days.set) {
        Some((first, last)) if last > first + 1 => parts.push(format!("the {} to {}", ordinal(first), ordinal(last))),
        _ if days.set == 0 => {}
        _ => parts.push(format!("the {}", list(values(days.set).map(ordinal)))),
    }
    parts.extend(days.last.then(|| "the last day of the month".to_owned()));
    parts.extend(days.last_weekday.then(|| "the last weekday of the month".to_owned()));
    Some(list(parts))
}

fn of_the_week(weekdays: &Weekdays) -> Option<String> {
    let name = |day: u32| WEEKDAYS[day as usize];
    let mut parts = Vec::new();
    match weekdays.set {
        ALL_WEEKDAYS => return None,
        0 => {}
        WORKDAYS => parts.push("weekdays".to_owned()),
        WEEKEND => parts.push("weekends".to_owned()),
        set => parts.extend(monday_first(set).map(|day| format!("{}s", name(day)))),
    }
    for (place, set) in PLACES.into_iter().zip(weekdays.nth).chain([("last", weekdays.last)]) {
        parts.extend(monday_first(set).map(|day| format!("the {place} {} of the month", name(day))));
    }
    Some(list(parts))
}

/// Iterates over the days of a set in the order of a week that begins with Monday.
fn monday_first(set: Set) -> impl Iterator<Item = u32> {
    (1..=7).map(|day| day % 7).filter(move |day| set & (1 << day) != 0)
}

/// Describes the months: ` in January and July`, or an empty text for all of them.
fn months(set: Set) -> String {
    let name = |month: u32| MONTHS[month as usize - 1];
    match ends(set) {
        _ if set == range(1, 12) => String::new(),
        Some((first, last)) if last > first + 1 => format!(" from {} to {}", name(first), name(last)),
        _ => format!(" in {}", list(values(set).map(|month| name(month).to_owned()))),
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number / 10) {
        (_, 1) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// Joins parts to `a, b and c`.
fn list(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().collect();
    match parts.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => parts.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_words() {
        for (line, words) in [
            ("* * * * *", "every minute"),
            ("*/5 * * * *", "every 5 minutes"),
            ("0 * * * *", "every hour"),
            ("30 * * * *", "at minute 30 of every hour"),
            ("*/7 * * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
            ("0 */2 * * *", "every 2 hours"),
            ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day"),
            ("0 9-17 * * *", "every hour from 09:00 to 17:00"),
            ("0 9 * * *", "at 09:00 every day"),
            ("0 9 * * MON-FRI", "at 09:00 on weekdays"),
            ("0,30 9,17 * * 6,0", "at 09:00, 09:30, 17:00 and 17:30 on weekends"),
            ("*/5 9-17 * * 1-5", "every 5 minutes, from 09:00 to 17:55 on weekdays"),
            ("*/20 0,12,13 * * *", "every 20 minutes, in hours 0, 12 and 13"),
            ("* 2 * * *", "every minute, in hour 2"),
            ("* * * * * *", "every second"),
            ("*/10 * * * * *", "every 10 seconds"),
            ("15 30 9 * * *", "at 09:30:15 every day"),
            ("30 0,30 * * * *", "at second 30 of every minute, in minutes 0 and 30 of every hour"),
            ("*/30 * 8-9 * * *", "every 30 seconds, from 08:00 to 09:59:30"),
            ("0 0 1 * *", "at 00:00 on the 1st"),
            ("0 0 1,2,3,11,22 * *", "at 00:00 on the 1st, 2nd, 3rd, 11th and 22nd"),
            ("0 0 1-7 * *", "at 00:00 on the 1st to 7th"),
            ("0 0 L * *", "at 00:00 on the last day of the month"),
            ("0 0 15,L * *", "at 00:00 on the 15th and the last day of the month"),
            ("0 0 LW * *", "at 00:00 on the last weekday of the month"),
            ("0 0 * * FRIL", "at 00:00 on the last Friday of the month"),
            ("0 0 ? * TUE#2", "at 00:00 on the second Tuesday of the month"),
            ("0 0 13 * FRI", "at 00:00 on the 13th or on Fridays"),
            ("0 0 */10 * MON", "at 00:00 on Mondays that are the 1st, 11th, 21st and 31st"),
            ("0 0 29 2 *", "at 00:00 on the 29th in February"),
            ("0 0 1 1-3,7 *", "at 00:00 on the 1st in January, February, March and July"),
            ("0 12 * JUN-AUG SUN", "at 12:00 on Sundays from June to August"),
        ] {
            let fields = Fields::read(line).expect(line);
            assert_eq!(of(&fields), words, "{line}");
        }
    }

    #[test]
    fn periods_in_words() {
        for (milliseconds, words) in [
            (1_000, "every second"),
            (30_000, "every 30 seconds"),
            (5_400_000, "every 1 hour 30 minutes"),
            (86_400_000, "every day"),
            (1_500, "every 1s 500ms"),
        ] {
            assert_eq!(every(Duration::from_millis(milliseconds)), words);
        }
    }
}
