//! Lengths of time as people write them.

use std::time::Duration;

/// Parses a length of time such as `1h 30m`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    // humantime accepts months and years; here `1M` is far more often meant as a minute than as 30.44 days.
    let units = || text.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|unit| !unit.is_empty());
    let is_calendar = |unit: &str| unit == "M" || unit.starts_with("month") || unit.starts_with('y');
    if units().any(is_calendar) {
        return Err("a month or a year has no fixed length; write days (\"30d\"), or \"1m\" for a minute".to_owned());
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example \"30s\", \"5m\" or \"1h 30m\""))
}

/// Formats a length of time in the form that [`parse`] accepts, with days as the largest unit.
pub(super) fn format(time: Duration) -> String {
    let days = time.as_secs() / 86_400;
    let rest = Duration::new(time.as_secs() % 86_400, time.subsec_nanos());
    match (days, rest.is_zero()) {
        (0, _) => humantime::format_duration(time).to_string(),
        (_, true) => format!("{days}days"),
        (_, false) => format!("{days}days {}", humantime::format_duration(rest)),
    }
}
