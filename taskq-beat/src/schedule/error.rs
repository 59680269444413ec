//! Schedules that cannot be used, each with the remedy.

use std::time::Duration;

use taskq::internal::{nearest, shown};

/// The length of a text, in bytes, up to which an error shows the whole of it.
const SHOWN_MAX: usize = 100;

/// A schedule that cannot be parsed, or that has no slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A mistake in a cron line as a whole.
    #[error("the cron line {line:?} {why}")]
    Line {
        /// The line.
        line: String,
        /// The mistake and its remedy.
        why: String,
    },
    /// A mistake in one field of a cron line.
    #[error("the {field} `{text}` of the cron line {line:?}: {why}")]
    Field {
        /// The line.
        line: String,
        /// The name of the field: `second`, `minute`, `hour`, `day`, `month` or `weekday`.
        field: &'static str,
        /// The field as it is written.
        text: String,
        /// The mistake and its remedy.
        why: String,
    },
    /// An unknown time zone.
    #[error("there is no time zone {name:?}; did you mean {nearest:?}?")]
    Zone {
        /// The unknown name.
        name: String,
        /// The known name closest to it.
        nearest: &'static str,
    },
    /// A period that is too short or too long.
    #[error("`every = \"{}\"` {why}", humantime::format_duration(*period))]
    Period {
        /// The period.
        period: Duration,
        /// The mistake and its remedy.
        why: &'static str,
    },
    /// A moment that cannot be parsed.
    #[error("`once = {text:?}` {why}")]
    Moment {
        /// The text.
        text: String,
        /// The mistake and its remedy.
        why: &'static str,
    },
}

impl ScheduleError {
    /// Returns the error for an unknown time zone, with the known name closest to it.
    pub(super) fn zone(name: &str) -> Self {
        let zones = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        let city = |zone: &str| zone.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let wanted = city(&name.replace(' ', "_"));
        // Often people remember the city alone.
        let nearest = zones().find(|zone| city(zone) == wanted).or_else(|| nearest(name, zones()));
        Self::Zone { name: beginning(name), nearest: nearest.unwrap_or("UTC") }
    }

    /// Returns the error for a line that is longer than any that makes sense.
    pub(super) fn long_line(line: &str, bytes_max: usize) -> Self {
        let why = format!("is {} bytes long; write a line of at most {bytes_max}", line.len());
        Self::Line { line: beginning(line), why }
    }

    /// Returns the error for a moment that cannot be parsed.
    pub(super) fn moment(text: &str, why: &'static str) -> Self {
        Self::Moment { text: beginning(text), why }
    }
}

/// Returns a text, or only its beginning if it is long: anybody may have written it.
fn beginning(text: &str) -> String {
    match shown::cut(text, SHOWN_MAX) {
        (whole, 0) => whole.to_owned(),
        (start, _) => format!("{start}…"),
    }
}
