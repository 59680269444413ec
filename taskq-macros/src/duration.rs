//! Durations in their written form.

use std::time::Duration;

/// The upper bound of the delay between attempts, unless the task sets one.
const BACKOFF_MAX_DEFAULT: Duration = Duration::from_secs(600);

/// Parses a duration such as `"30s"`, `"5m"` or `"1h 30m"`. Fails with the text to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    // humantime knows months and years; in a task's options `1M` is far more often a minute than 30.44 days.
    if let Some(unit) = units(text).find(|unit| is_calendar_unit(unit)) {
        return Err(format!(
            "`{unit}` in {text:?} is a month or a year, which have no fixed length; write days (\"30d\"), or \"1m\" for a \
             minute"
        ));
    }
    humantime::parse_duration(text).map_err(|error| {
        format!("{text:?} is not a length of time ({error}); write for example \"30s\", \"5m\" or \"1h 30m\"")
    })
}

/// Parses a duration that is not zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => {
            Err(format!("{text:?} is no time at all; write for example \"30s\", or leave the option out"))
        }
        duration => Ok(duration),
    }
}

/// Parses the bounds of a delay: `"1s..5m"`, or `"2s"` with the default upper bound.
pub(crate) fn parse_backoff(text: &str) -> Result<(Duration, Duration), String> {
    let Some((min, max)) = text.split_once("..") else {
        let min = parse(text)?;
        return Ok((min, BACKOFF_MAX_DEFAULT.max(min)));
    };
    let (min, max) = (min.trim(), max.trim());
    if min.is_empty() || max.is_empty() {
        return Err(format!("{text:?} has one end only; write both (\"1s..5m\"), or the shorter time alone (\"1s\")"));
    }
    let (min, max) = (parse(min)?, parse(max)?);
    if max < min {
        return Err(format!("{text:?} ends before it begins; write the shorter time first: \"1s..5m\""));
    }
    Ok((min, max))
}

/// Iterates over the words between the numbers.
fn units(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty())
}

fn is_calendar_unit(unit: &str) -> bool {
    matches!(unit, "M" | "month" | "months" | "y" | "yr" | "yrs" | "year" | "years")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [
            ("30s", secs(30)),
            ("5m", secs(300)),
            ("1h 30m", secs(5400)),
            ("1h30m", secs(5400)),
            ("2 days", secs(172_800)),
            ("250ms", Duration::from_millis(250)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_says_what_to_write() {
        for text in ["", "30", "s", "soon", "-5s", "5 parsecs", "1M", "3 months", "1y", "1h 2years"] {
            let message = parse(text).expect_err(text);
            assert!(message.contains("write "), "{text}: {message}");
        }
        assert!(parse("1M").expect_err("a month").contains("month"));
        assert!(parse_positive("0s").is_err());
    }

    #[test]
    fn a_backoff_has_two_ends() {
        assert_eq!(parse_backoff("1s..5m"), Ok((secs(1), secs(300))));
        assert_eq!(parse_backoff("1s .. 5m"), Ok((secs(1), secs(300))));
        assert_eq!(parse_backoff("2s"), Ok((secs(2), secs(600))));
        assert_eq!(parse_backoff("20m"), Ok((secs(1200), secs(1200))));
        for text in ["5m..1s", "1s..", "..5m", "1s..2s..3s", "fast"] {
            assert!(parse_backoff(text).is_err(), "{text}");
        }
    }
}
