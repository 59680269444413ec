//! The form of periods, cron lines and time zones. The meaning of a cron line's fields is up to beat.

use std::time::Duration;

use crate::duration;

/// The shortest period that beat accepts.
const PERIOD_MIN: Duration = Duration::from_secs(1);
/// The longest period that beat accepts.
const PERIOD_MAX: Duration = Duration::from_secs(40 * 366 * 86_400);

/// Reads the period of `every`. Fails with the text to write instead.
pub(crate) fn parse_every(text: &str) -> Result<Duration, String> {
    let period = duration::parse_positive(text)?;
    if period < PERIOD_MIN {
        return Err(format!(
            "{text:?} is shorter than a second; write \"1s\", and let one run of the task do the work of a second in a loop"
        ));
    }
    if period > PERIOD_MAX {
        return Err(format!("{text:?} is longer than 40 years; write a shorter time"));
    }
    Ok(period)
}

/// Checks that `line` has the form of a cron line. Fails with the text to write instead.
pub(crate) fn check_cron(line: &str) -> Result<(), String> {
    const FORM: &str = "write five fields, `minute hour day month weekday`, or six with seconds first";
    if line.starts_with('@') {
        return Err(format!(
            "{line:?} is a nickname, which is not understood; {FORM}: \"0 0 * * *\" is every midnight"
        ));
    }
    let fields = line.split_whitespace().count();
    if !(5..=6).contains(&fields) {
        let are = if fields == 1 { "field" } else { "fields" };
        return Err(format!("{line:?} has {fields} {are}; {FORM}: \"*/5 * * * *\" is every five minutes"));
    }
    for field in line.split_whitespace() {
        if let Some(stranger) = field.chars().find(|letter| !is_cron(*letter)) {
            return Err(format!(
                "`{stranger}` in {field:?} means nothing in a cron line; a field is made of numbers, names, `*`, `,`, `-`, \
                 `/` and `L`"
            ));
        }
        if field.split(',').any(|part| part.is_empty() || part.ends_with(['-', '/']) || part.starts_with(['-', '/'])) {
            return Err(format!("{field:?} is not finished; write for example \"1-5\", \"*/5\" or \"MON,WED\""));
        }
    }
    Ok(())
}

/// Checks that `name` can be the name of a time zone. Fails with the text to write instead.
pub(crate) fn check_tz(name: &str) -> Result<(), String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '_' | '-' | '+');
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!("{name:?} is not the name of a time zone; write for example \"Europe/Berlin\" or \"UTC\""))
}

fn is_cron(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '*' | ',' | '-' | '/' | '?' | '#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_second_or_more() {
        assert_eq!(parse_every("1s"), Ok(PERIOD_MIN));
        assert_eq!(parse_every("1h 30m"), Ok(Duration::from_secs(5400)));
        for text in ["0s", "999ms", "20000d", "soon"] {
            assert!(parse_every(text).expect_err(text).contains("write "), "{text}");
        }
    }

    #[test]
    fn five_and_six_fields_pass() {
        for line in ["* * * * *", "0 9 * * MON-FRI", "*/10 * * * * *", "0 0 L * ?", "0 8,20 1-7 JAN-MAR 1"] {
            assert_eq!(check_cron(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn other_forms_say_what_to_write() {
        for line in ["", "* * * *", "* * * * * * *", "@daily", "* * * * !", "1- * * * *", "1,,2 * * * *", "/5 * * * *"]
        {
            let message = check_cron(line).expect_err(line);
            assert!(message.contains("write ") || message.contains("is made of"), "{line}: {message}");
        }
    }

    #[test]
    fn a_time_zone_looks_like_one() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert_eq!(check_tz(name), Ok(()), "{name}");
        }
        for name in ["", "+02:00", "Europe Berlin", "Zürich"] {
            assert!(check_tz(name).is_err(), "{name}");
        }
    }
}
