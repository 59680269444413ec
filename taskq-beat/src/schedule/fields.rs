//! Parsing of cron lines into the values that each field names. Pure text work; nothing here knows the time.

use super::error::ScheduleError;
use super::field::{DAY, Field, HOUR, MINUTE, MONTH, SECOND, Set, WEEKDAY, range};

/// The remedy for a wrong number of fields.
const FORM: &str = "write five fields, `minute hour day month weekday`, or six with seconds first";

/// The nicknames of other cron programs, each with the equivalent line and that line in English.
const NICKNAMES: [(&str, &str, &str); 7] = [
    ("@yearly", "0 0 1 1 *", "every January 1st"),
    ("@annually", "0 0 1 1 *", "every January 1st"),
    ("@monthly", "0 0 1 * *", "the first of every month"),
    ("@weekly", "0 0 * * SUN", "every Sunday"),
    ("@daily", "0 0 * * *", "every midnight"),
    ("@midnight", "0 0 * * *", "every midnight"),
    ("@hourly", "0 * * * *", "every full hour"),
];

/// A parsed cron line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) seconds: Set,
    pub(super) minutes: Set,
    pub(super) hours: Set,
    pub(super) days: Days,
    pub(super) months: Set,
    pub(super) weekdays: Weekdays,
}

/// The days of a month that the field for days names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// The days listed by number, 1 to 31.
    pub(super) set: Set,
    /// `L`: the last day of the month.
    pub(super) last: bool,
    /// `LW`: the last of Monday to Friday.
    pub(super) last_weekday: bool,
    /// Whether the field begins with a star or is `?`, and so leaves the choice of days to the other field.
    pub(super) is_open: bool,
}

/// The days of a week that the field for weekdays names; 0 is Sunday.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Weekdays {
    /// The weekdays that match every week.
    pub(super) set: Set,
    /// `5L`: the weekdays that match the last time in each month.
    pub(super) last: Set,
    /// `5#2`: the weekdays that match the second time in each month, and likewise from first to fifth.
    pub(super) nth: [Set; 5],
    /// Whether the field begins with a star or is `?`, and so leaves the choice of days to the other field.
    pub(super) is_open: bool,
}

/// Returns a line in the form in which it is kept and shown: one space between fields, names in capitals.
pub(super) fn normal(line: &str) -> String {
    line.split_whitespace().map(str::to_ascii_uppercase).collect::<Vec<_>>().join(" ")
}

impl Fields {
    pub(super) fn read(line: &str) -> Result<Self, ScheduleError> {
        let wrong = |why: String| ScheduleError::Line { line: line.trim().to_owned(), why };
        if line.trim_start().starts_with('@') {
            let known = NICKNAMES.iter().find(|(name, ..)| line.trim().eq_ignore_ascii_case(name));
            let (same, words) = known.map_or(("0 0 * * *", "every midnight"), |(_, same, words)| (same, words));
            return Err(wrong(format!("is a nickname, which is not understood; {FORM}: \"{same}\" is {words}")));
        }
        let line_fields: Vec<String> = line.split_whitespace().map(str::to_ascii_uppercase).collect();
        let (second, rest) = match line_fields.as_slice() {
            rest @ [_, _, _, _, _] => ("0", rest),
            [second, rest @ ..] if rest.len() == 5 => (second.as_str(), rest),
            other => {
                let are = if other.len() == 1 { "field" } else { "fields" };
                return Err(wrong(format!("has {} {are}; {FORM}: \"*/5 * * * *\" is every five minutes", other.len())));
            }
        };
        let in_field = |field: &Field, text: &str, why: String| ScheduleError::Field {
            line: line.trim().to_owned(),
            field: field.name,
            text: text.to_owned(),
            why,
        };
        let plain = |field: &Field, text: &str| field.plain(text).map_err(|why| in_field(field, text, why));
        Ok(Self {
            seconds: plain(&SECOND, second)?,
            minutes: plain(&MINUTE, &rest[0])?,
            hours: plain(&HOUR, &rest[1])?,
            days: Days::read(&rest[2]).map_err(|why| in_field(&DAY, &rest[2], why))?,
            months: plain(&MONTH, &rest[3])?,
            weekdays: Weekdays::read(&rest[4]).map_err(|why| in_field(&WEEKDAY, &rest[4], why))?,
        })
    }

    /// Whether the line has slots in every hour of the day. A line like that means elapsed time, not local time.
    pub(super) fn is_hourly(&self) -> bool {
        self.hours == range(0, 23)
    }
}

/// Whether a field for days is `?`, which matches every day.
fn is_any(text: &str) -> bool {
    text == "?"
}

impl Days {
    fn read(text: &str) -> Result<Self, String> {
        let mut days = Self { is_open: text.starts_with('*') || is_any(text), ..Self::default() };
        if is_any(text) {
            days.set = range(1, 31);
            return Ok(days);
        }
        for part in text.split(',') {
            match part {
                "L" => days.last = true,
                "LW" | "WL" => days.last_weekday = true,
                part if part.ends_with('W') => {
                    return Err(format!(
                        "`{part}`, the weekday nearest to a day, is not understood; \"LW\" is the last weekday of the month"
                    ));
                }
                part if part.starts_with('L') => {
                    return Err(format!("`{part}` is not understood; \"L\" is the last day of the month"));
                }
                part => days.set |= DAY.part(part)?,
            }
        }
        Ok(days)
    }
}

impl Weekdays {
    fn read(text: &str) -> Result<Self, String> {
        let mut weekdays = Self { is_open: text.starts_with('*') || is_any(text), ..Self::default() };
        if is_any(text) {
            weekdays.set = range(0, 6);
            return Ok(weekdays);
        }
        for part in text.split(',') {
            if let Some((day, nth)) = part.split_once('#') {
                let place = match nth.parse::<usize>() {
                    Ok(nth @ 1..=5) => nth - 1,
                    _ => {
                        return Err(format!(
                            "`{part}`: a weekday comes up to five times a month; write \"FRI#1\" to \"FRI#5\""
                        ));
                    }
                };
                weekdays.nth[place] |= 1 << (WEEKDAY.value(day)? % 7);
            } else if part == "L" {
                return Err("`L` needs a weekday here; write \"FRIL\" for the last Friday of the month".to_owned());
            } else if let Some(day) = part.strip_suffix('L') {
                weekdays.last |= 1 << (WEEKDAY.value(day)? % 7);
            } else {
                weekdays.set |= WEEKDAY.part(part)?;
            }
        }
        Ok(weekdays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[u32]) -> Set {
        values.iter().fold(0, |set, value| set | (1 << value))
    }

    #[test]
    fn days_of_their_own_kind() {
        let days = Days::read("L,15").expect("it is one");
        assert_eq!((days.set, days.last, days.is_open), (set(&[15]), true, false));
        assert!(Days::read("LW").expect("it is one").last_weekday);
        assert!(Days::read("?").expect("it is one").is_open);
        assert!(Days::read("*/2").expect("it is one").is_open);
        let weekdays = Weekdays::read("5L,MON#1,7#5,3").expect("it is one");
        assert_eq!((weekdays.set, weekdays.last), (set(&[3]), set(&[5])));
        assert_eq!((weekdays.nth[0], weekdays.nth[4]), (set(&[1]), set(&[0])));
    }

    #[test]
    fn mistakes_name_the_field_and_the_remedy() {
        for (line, expected) in [
            ("", "has 0 fields; write five fields"),
            ("* * * *", "has 4 fields; write five fields"),
            ("* * * * * * *", "has 7 fields"),
            (
                "@Hourly",
                "is a nickname, which is not understood; write five fields, `minute hour day month weekday`, or \
              six with seconds first: \"0 * * * *\" is every full hour",
            ),
            ("@reboot", "is a nickname"),
            (
                "60 * * * *",
                "the minute `60` of the cron line \"60 * * * *\": `60` is too large; minutes go from 0 to 59",
            ),
            ("0 24 * * *", "hours go from 0 to 23"),
            ("0 0 0 * *", "the day `0` of the cron line \"0 0 0 * *\": `0` is too small; days go from 1 to 31"),
            ("0 0 * 13 *", "months go from 1 to 12, or from JAN to DEC"),
            ("0 0 * * 8", "`8` is too large; weekdays go from 0 to 7, or from SUN to SAT"),
            ("99999999999 * * * *", "too large"),
            ("0 0 * * monday", "names have three letters: write \"MON\""),
            ("0 0 * * FOO", "`FOO` is not understood; weekdays go from 0 to 7"),
            ("MON * * * *", "`MON` is not understood; minutes go from 0 to 59"),
            ("*/0 * * * *", "a step of 0"),
            ("*/90 * * * *", "write `every = \"90m\"` in place of the cron line"),
            ("*/5x * * * *", "`5X` in `*/5X` is not a step"),
            ("5/15 * * * *", "`5/15` has a step but no end; write `5-59/15`"),
            ("0 0 28-3 * *", "begins after it ends; write `28-31,1-3`"),
            ("1- * * * *", "is not finished"),
            ("1,,2 * * * *", "is not finished"),
            ("/5 * * * *", "is not finished"),
            ("*/ * * * *", "is not finished"),
            ("0 ? * * *", "`?` stands alone"),
            ("0 0 15W * *", "\"LW\" is the last weekday of the month"),
            ("0 0 L-3 * *", "\"L\" is the last day of the month"),
            ("0 0 * * L", "write \"FRIL\" for the last Friday"),
            ("0 0 * * FRI#6", "up to five times a month"),
            ("-1 * * * *", "is not finished"),
        ] {
            let error = Fields::read(line).expect_err(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
