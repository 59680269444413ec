//! One field of a cron line: parsing of its values, with an error text for every mistake.

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A set of small numbers: bit n is set if the set contains n.
pub(super) type Set = u64;

/// The rules of one field.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// The plural noun for the values, for error texts.
    values: &'static str,
    min: u32,
    max: u32,
    /// The names of the values, from `min` on.
    names: &'static [&'static str],
    /// The unit of `every` that corresponds to a step, for error texts that suggest `every`; empty if there is none.
    unit: &'static str,
}

pub(super) const SECOND: Field = Field { name: "second", values: "seconds", min: 0, max: 59, names: &[], unit: "s" };
pub(super) const MINUTE: Field = Field { name: "minute", values: "minutes", min: 0, max: 59, names: &[], unit: "m" };
pub(super) const HOUR: Field = Field { name: "hour", values: "hours", min: 0, max: 23, names: &[], unit: "h" };
pub(super) const DAY: Field = Field { name: "day", values: "days", min: 1, max: 31, names: &[], unit: "d" };
pub(super) const MONTH: Field = Field { name: "month", values: "months", min: 1, max: 12, names: &MONTHS, unit: "" };
pub(super) const WEEKDAY: Field =
    Field { name: "weekday", values: "weekdays", min: 0, max: 6, names: &WEEKDAYS, unit: "" };

/// Returns the set of all values from `min` to `max`.
pub(super) const fn range(min: u32, max: u32) -> Set {
    (1 << (max + 1)) - (1 << min)
}

/// Iterates over the values of a set, smallest first.
pub(super) fn values(set: Set) -> impl Iterator<Item = u32> {
    (0..64).filter(move |value| set & (1 << value) != 0)
}

impl Field {
    /// Parses a field that is a list of values, ranges and steps.
    pub(super) fn plain(&self, text: &str) -> Result<Set, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    /// Parses one part of a list: `*`, `5`, `1-5`, `*/5`, `10-50/20`.
    pub(super) fn part(&self, part: &str) -> Result<Set, String> {
        let (of, step) = match part.split_once('/') {
            Some((of, step)) => (of, Some(self.step(part, step)?)),
            None => (part, None),
        };
        let (first, last) = if of == "*" {
            (self.min, self.max)
        } else if let Some((first, last)) = of.split_once('-') {
            self.ends(part, first, last)?
        } else if of.is_empty() {
            return Err(self.unfinished(part));
        } else {
            let value = self.value(of)?;
            if step.is_some() {
                return Err(format!("`{part}` has a step but no end; write `{of}-{}{}`", self.max, &part[of.len()..]));
            }
            (value, value)
        };
        let cycle = self.max - self.min + 1;
        let wrapped = |value: u32| (value - self.min) % cycle + self.min;
        Ok((first..=last).step_by(step.unwrap_or(1)).fold(0, |set, value| set | (1 << wrapped(value))))
    }

    fn unfinished(&self, part: &str) -> String {
        let example = match self.names {
            [] => "\"1-5\", \"*/5\" or \"1,3\"".to_owned(),
            [first, second, ..] => format!("\"1-5\", \"*/2\" or \"{first},{second}\""),
            [only] => format!("\"{only}\""),
        };
        format!("`{part}` is not finished; write for example {example}")
    }

    fn step(&self, part: &str, step: &str) -> Result<usize, String> {
        if step.is_empty() {
            return Err(self.unfinished(part));
        }
        let cycle = self.max - self.min + 1;
        match step.parse::<usize>() {
            Ok(0) => Err(format!("`{part}` has a step of 0, which never gets anywhere; write 1 or more")),
            Ok(step) if step < cycle as usize => Ok(step),
            // Otherwise "*/90" would mean every hour at minute 0, which is never intended.
            Ok(step) => Err(match self.unit {
                "" => format!("`{part}` has a step of {step}, and there are only {cycle} {}", self.values),
                unit => format!(
                    "`{part}` has a step of {step}, and there are only {cycle} {}; for a cycle of its own write \
                     `every = \"{step}{unit}\"` in place of the cron line",
                    self.values
                ),
            }),
            Err(_) => Err(format!("`{step}` in `{part}` is not a step; write a number, such as \"*/5\"")),
        }
    }

    /// Parses the ends of a range. The last value lies beyond `max` where the range wraps around, as `FRI-MON` does.
    fn ends(&self, part: &str, first: &str, last: &str) -> Result<(u32, u32), String> {
        if first.is_empty() || last.is_empty() {
            return Err(self.unfinished(part));
        }
        let (mut first, mut last) = (self.value(first)?, self.value(last)?);
        // Sunday has two numbers; at the start of a range it is the start of a week.
        if first > self.max {
            first -= 7;
            if last > self.max {
                last -= 7;
            }
        }
        if first <= last {
            return Ok((first, last));
        }
        if self.max == DAY.max {
            return Err(format!("`{part}` begins after it ends; write `{first}-31,1-{last}`"));
        }
        Ok((first, last + self.max - self.min + 1))
    }

    /// Parses one value, a number or a name. Sunday may be 7.
    pub(super) fn value(&self, text: &str) -> Result<u32, String> {
        let most = if self.max == WEEKDAY.max { 7 } else { self.max };
        if text.bytes().all(|letter| letter.is_ascii_digit()) && !text.is_empty() {
            let value = text.parse().ok().filter(|value| (self.min..=most).contains(value));
            return value.ok_or_else(|| format!("`{text}` is too {}; {}", self.excess(text), self.bounds(most)));
        }
        let place = |name: &str| self.names.iter().position(|known| *known == name);
        if let Some(place) = place(text) {
            return Ok(self.min + place as u32);
        }
        if text.contains('?') {
            return Err("`?` stands alone, and for the day or the weekday only; write `*`".to_owned());
        }
        let short = text.get(..3).filter(|short| place(short).is_some());
        Err(match short {
            Some(short) => format!("`{text}` is not understood; names have three letters: write \"{short}\""),
            None => format!("`{text}` is not understood; {}", self.bounds(most)),
        })
    }

    fn excess(&self, text: &str) -> &'static str {
        if text.parse().is_ok_and(|value: u32| value < self.min) { "small" } else { "large" }
    }

    fn bounds(&self, most: u32) -> String {
        let names = match self.names {
            [first, .., last] => format!(", or from {first} to {last}"),
            _ => String::new(),
        };
        format!("{} go from {} to {most}{names}", self.values, self.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[u32]) -> Set {
        values.iter().fold(0, |set, value| set | (1 << value))
    }

    #[test]
    fn values_ranges_steps_and_names() {
        for (field, text, expected) in [
            (&MINUTE, "*", range(0, 59)),
            (&MINUTE, "*/20", set(&[0, 20, 40])),
            (&MINUTE, "5,10-12", set(&[5, 10, 11, 12])),
            (&MINUTE, "10-50/20", set(&[10, 30, 50])),
            (&MINUTE, "05", set(&[5])),
            (&MINUTE, "*/7", set(&[0, 7, 14, 21, 28, 35, 42, 49, 56])),
            (&HOUR, "22-2", set(&[22, 23, 0, 1, 2])),
            (&HOUR, "20-4/4", set(&[20, 0, 4])),
            (&DAY, "*/10", set(&[1, 11, 21, 31])),
            (&MONTH, "JAN,MAR-MAY", set(&[1, 3, 4, 5])),
            (&MONTH, "NOV-FEB", set(&[11, 12, 1, 2])),
            (&MONTH, "*/3", set(&[1, 4, 7, 10])),
            (&WEEKDAY, "MON-FRI", set(&[1, 2, 3, 4, 5])),
            (&WEEKDAY, "0", set(&[0])),
            (&WEEKDAY, "7", set(&[0])),
            (&WEEKDAY, "5-7", set(&[5, 6, 0])),
            (&WEEKDAY, "7-2", set(&[0, 1, 2])),
            (&WEEKDAY, "0-7", range(0, 6)),
            (&WEEKDAY, "FRI-MON", set(&[5, 6, 0, 1])),
            (&WEEKDAY, "SUN-TUE", set(&[0, 1, 2])),
            (&WEEKDAY, "*/2", set(&[0, 2, 4, 6])),
        ] {
            assert_eq!(field.plain(text), Ok(expected), "{text} for {}", field.values);
        }
    }
}
