//! Slots at equal distances.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::error::ScheduleError;
use super::{HORIZON, words};

/// The shortest period. Beat is a scheduler, not a clock: work that is needed more often belongs into a task that
/// loops.
const PERIOD_MIN: Duration = Duration::from_secs(1);

/// Slots at equal distances: at `anchor + n × period` for n = 0, 1, 2, …, exactly. Neither a late slot nor a restart
/// moves a later slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    period: TimeDelta,
    anchor: DateTime<Utc>,
}

impl Every {
    pub(crate) fn new(period: Duration, anchor: DateTime<Utc>) -> Result<Self, ScheduleError> {
        if period < PERIOD_MIN {
            return Err(ScheduleError::Period {
                period,
                why: "is shorter than a second; for more let one run of the task do the work of a second in a loop",
            });
        }
        match TimeDelta::from_std(period) {
            Ok(period) if period <= HORIZON => Ok(Self { period, anchor }),
            _ => Err(ScheduleError::Period { period, why: "is longer than 40 years; write a shorter one" }),
        }
    }

    /// Returns the distance from one slot to the next.
    pub fn period(&self) -> Duration {
        self.period.to_std().expect("it was made from one")
    }

    /// Returns the first slot.
    pub fn anchor(&self) -> DateTime<Utc> {
        self.anchor
    }

    /// Returns the length of `count` periods, or the longest representable time if that is too long.
    pub(crate) fn periods(&self, count: u64) -> TimeDelta {
        time(i128::from(count).saturating_mul(nanoseconds(self.period))).unwrap_or(TimeDelta::MAX)
    }

    /// Returns the number of whole periods in a length of time; 0 if it is negative.
    pub(crate) fn periods_in(&self, time: TimeDelta) -> u64 {
        u64::try_from(nanoseconds(time) / nanoseconds(self.period)).unwrap_or_default()
    }

    pub(crate) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after < self.anchor {
            return Some(self.anchor).filter(|anchor| *anchor - after <= HORIZON);
        }
        self.at(self.number_at(after) + 1)
    }

    /// Returns the newest slot no later than `at`.
    pub(crate) fn last_until(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if at < self.anchor { None } else { self.at(self.number_at(at)) }
    }

    /// Returns the number of slots later than `from` and no later than `to`.
    pub(super) fn count_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
        let until = |at: DateTime<Utc>| if at < self.anchor { 0 } else { self.number_at(at) + 1 };
        u64::try_from(until(to) - until(from)).unwrap_or_default()
    }

    /// Returns the number of the newest slot no later than `at`, which must not be before the anchor.
    fn number_at(&self, at: DateTime<Utc>) -> i128 {
        nanoseconds(at - self.anchor) / nanoseconds(self.period)
    }

    fn at(&self, number: i128) -> Option<DateTime<Utc>> {
        self.anchor.checked_add_signed(time(number.checked_mul(nanoseconds(self.period))?)?)
    }

    pub(super) fn describe(&self) -> String {
        let every = words::every(self.period());
        if self.anchor == DateTime::UNIX_EPOCH {
            return every;
        }
        format!("{every} from {} on", self.anchor.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

const NANOSECONDS: i128 = 1_000_000_000;

fn nanoseconds(time: TimeDelta) -> i128 {
    i128::from(time.num_seconds()) * NANOSECONDS + i128::from(time.subsec_nanos())
}

/// Converts nanoseconds to a length of time, if they are not negative and not too many.
fn time(nanoseconds: i128) -> Option<TimeDelta> {
    let seconds = i64::try_from(nanoseconds / NANOSECONDS).ok()?;
    TimeDelta::new(seconds, u32::try_from(nanoseconds % NANOSECONDS).ok()?)
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {}", humantime::format_duration(self.period()))?;
        if self.anchor != DateTime::UNIX_EPOCH {
            write!(f, " from {}", self.anchor.to_rfc3339_opts(SecondsFormat::AutoSi, true))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_period_is_a_second_or_more() {
        for period in
            [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(41 * 366 * 86_400), Duration::MAX]
        {
            Every::new(period, DateTime::UNIX_EPOCH).expect_err("it is too short or too long");
        }
        let error = Every::new(Duration::from_millis(100), DateTime::UNIX_EPOCH).expect_err("it is too short");
        assert!(error.to_string().starts_with("`every = \"100ms\"` is shorter than a second;"), "{error}");
        Every::new(PERIOD_MIN, DateTime::UNIX_EPOCH).expect("it is long enough");
    }

    #[test]
    fn the_anchor_is_the_first_slot() {
        let anchor = DateTime::from_timestamp(1_000_000, 500_000_000).expect("a moment");
        let every = Every::new(Duration::from_secs(7), anchor).expect("it is long enough");
        assert_eq!(every.next_after(anchor - TimeDelta::days(3)), Some(anchor));
        assert_eq!(every.next_after(anchor), Some(anchor + TimeDelta::seconds(7)));
        assert_eq!(every.last_until(anchor), Some(anchor));
        assert_eq!(every.last_until(anchor - TimeDelta::nanoseconds(1)), None);
    }

    proptest! {
        #[test]
        fn the_nth_slot_is_n_periods_after_the_anchor(
            period_ms in 1_000_u64..10_000_000, anchor_ms in 0_i64..4_000_000_000_000, n in 0_i32..1_000_000,
        ) {
            let anchor = DateTime::from_timestamp_millis(anchor_ms).expect("a moment");
            let period = Duration::from_millis(period_ms);
            let every = Every::new(period, anchor).expect("it is long enough");
            let slot = anchor + TimeDelta::from_std(period).expect("small") * n;
            let just_before = slot - TimeDelta::nanoseconds(1);
            prop_assert_eq!(every.next_after(just_before), Some(slot));
            prop_assert_eq!(every.last_until(slot), Some(slot));
            prop_assert_eq!(every.count_between(just_before, slot), 1);
            prop_assert_eq!(every.count_between(anchor - TimeDelta::days(1), slot), u64::from(n.unsigned_abs()) + 1);
            prop_assert_eq!(every.count_between(slot, just_before), 0);
        }
    }
}
