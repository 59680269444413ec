//! Clocks that were moved: the wall clock against a monotonic one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// The longest time between two looks at the clock, even if nothing is due for long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The difference from the monotonic clock above which the wall clock counts as moved.
const MOVED_BY: TimeDelta = TimeDelta::seconds(2);

/// Both clocks at the last look.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockWatch {
    mono: Instant,
    wall: DateTime<Utc>,
}

impl ClockWatch {
    /// Returns a watch that begins with these times.
    pub(super) fn new(mono: Instant, wall: DateTime<Utc>) -> Self {
        Self { mono, wall }
    }

    /// Returns the time by which the wall clock was moved since the last look, if it was.
    pub(super) fn moved(&mut self, mono: Instant, wall: DateTime<Utc>) -> Option<TimeDelta> {
        let passed = TimeDelta::from_std(mono.saturating_duration_since(self.mono)).unwrap_or(TimeDelta::MAX);
        let by = (wall - self.wall) - passed;
        *self = Self { mono, wall };
        (by.abs() > MOVED_BY).then_some(by)
    }
}

/// Returns how long to wait for an entry that is due at `next`.
pub(super) fn time_until(next: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    let until = next.map_or(LOOK_EVERY, |next| (next - now).to_std().unwrap_or_default());
    until.min(LOOK_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_moved_is_noticed_and_one_that_goes_is_not() {
        let (mono, wall) = (Instant::now(), DateTime::from_timestamp(1000, 0).expect("a moment"));
        let mut clock_watch = ClockWatch::new(mono, wall);
        for (mono_ms, wall_ms, expected) in [
            (1000, 1000, None),
            (2000, 1500, None),
            // Adjusted slowly.
            (3000, 4000, None),
            (4000, 3_605_000, Some(3600)),
            (5000, 6000, Some(-3600)),
        ] {
            let wall = wall + TimeDelta::milliseconds(wall_ms);
            let moved = clock_watch.moved(mono + Duration::from_millis(mono_ms), wall);
            assert_eq!(moved.map(|by| by.num_seconds()), expected, "{wall_ms}");
        }
    }

    #[test]
    fn waits_are_bounded() {
        let now = DateTime::from_timestamp(1000, 0).expect("a moment");
        let second = Duration::from_secs(1);
        assert_eq!(time_until(None, now), second);
        assert_eq!(time_until(Some(now + TimeDelta::days(9)), now), second);
        assert_eq!(time_until(Some(now + TimeDelta::milliseconds(5)), now), Duration::from_millis(5));
        assert_eq!(time_until(Some(now - TimeDelta::days(9)), now), Duration::ZERO);
    }
}
