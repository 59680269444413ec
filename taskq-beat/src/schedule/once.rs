//! Schedules with a single slot.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

use super::error::ScheduleError;
use super::zone::{self, Moment};

/// A single slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once(DateTime<Utc>);

impl Once {
    pub(super) fn new(at: DateTime<Utc>) -> Self {
        Self(at)
    }

    /// Parses a moment: with an offset from UTC, or as local time in the zone `tz`. A skipped local time is the first
    /// moment after the change, and a repeated one is the first of the two.
    pub(super) fn read(text: &str, tz: Option<&str>) -> Result<Self, ScheduleError> {
        let wrong = |why: &'static str| ScheduleError::moment(text, why);
        if let Ok(at) = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)) {
            return match tz {
                None => Ok(Self(at.to_utc())),
                Some(_) => Err(wrong("has an offset from UTC, and there is a `tz` beside it; keep one of them")),
            };
        }
        let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
        let civil = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
        let civil = civil.ok_or_else(|| wrong("is not a moment; write for example \"2030-01-31T08:00:00Z\""))?;
        let tz = tz.ok_or_else(|| wrong("does not say where; add a `Z` for UTC, or `tz = \"Europe/Berlin\"`"))?;
        let tz = tz.parse().map_err(|_| ScheduleError::zone(tz))?;
        let (Moment::Once(at) | Moment::Twice(at, _) | Moment::Skipped(at)) = zone::moment(tz, civil);
        Ok(Self(at))
    }

    /// Returns the moment of the slot.
    pub fn at(&self) -> DateTime<Utc> {
        self.0
    }

    pub(super) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(self.0).filter(|at| *at > after)
    }

    pub(super) fn describe(&self) -> String {
        format!("once, at {}", self.0.format("%Y-%m-%d %H:%M:%S%.f UTC"))
    }
}

impl fmt::Display for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "once {}", self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_an_offset_or_in_a_zone() {
        let berlin = Some("Europe/Berlin");
        for (text, tz, expected) in [
            ("2030-01-31T08:00:00Z", None, "2030-01-31T08:00:00Z"),
            ("2030-01-31 08:00:00+02:00", None, "2030-01-31T06:00:00Z"),
            ("2030-01-31T08:00:00.25Z", None, "2030-01-31T08:00:00.250Z"),
            ("2030-01-31T08:00", berlin, "2030-01-31T07:00:00Z"),
            ("2030-07-31 08:00:00", berlin, "2030-07-31T06:00:00Z"),
            ("2026-03-29T02:30", berlin, "2026-03-29T01:00:00Z"),
            ("2026-10-25T02:30", berlin, "2026-10-25T00:30:00Z"),
        ] {
            let once = Once::read(text, tz).expect(text);
            assert_eq!(once.to_string(), format!("once {expected}"), "{text} in {tz:?}");
        }
    }

    #[test]
    fn other_texts_say_what_to_write() {
        for (text, tz, expected) in [
            ("tomorrow", None, "`once = \"tomorrow\"` is not a moment; write for example"),
            ("2030-02-30T08:00:00Z", None, "is not a moment"),
            ("2030-01-31T08:00", None, "add a `Z` for UTC, or `tz = \"Europe/Berlin\"`"),
            ("2030-01-31T08:00:00Z", Some("UTC"), "keep one of them"),
            ("2030-01-31T08:00", Some("Berlin"), "did you mean"),
        ] {
            let error = Once::read(text, tz).expect_err(text).to_string();
            assert!(error.contains(expected), "{text} in {tz:?}: {error}");
        }
    }
}
