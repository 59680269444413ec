//! The retry policy: a pure decision about what follows a failed attempt.

use std::time::Duration;

use super::{Backoff, Directive, TaskOptions};
use crate::hash::unit_interval;

/// The rule by which a task is retried: how often, and after which delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The number of retries after the first attempt.
    pub retries: u32,
    /// The bounds of the delays.
    pub backoff: Backoff,
}

impl RetryPolicy {
    /// The default policy: 3 retries, with delays of 1 s to 10 min.
    pub const DEFAULT: Self = Self { retries: 3, backoff: Backoff::DEFAULT };

    /// Returns the policy of a task with these options.
    pub fn of(options: &TaskOptions) -> Self {
        Self {
            retries: options.retries.unwrap_or(Self::DEFAULT.retries),
            backoff: options.backoff.unwrap_or(Self::DEFAULT.backoff),
        }
    }
}

/// The decision about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Another attempt, its number one higher, after this delay.
    Retry(Duration),
    /// This attempt once more, after this delay.
    Snooze(Duration),
    /// No further attempt: the task has failed.
    Fail,
    /// No further attempt: the task cancelled itself.
    Cancel,
}

impl RetryPolicy {
    /// Decides what follows when attempt `attempt` (counted from 0) of the task `id` ended with `directive`.
    ///
    /// The decision depends on the arguments alone, so a worker that decides again after a crash comes to the same one.
    pub fn decide(&self, id: &str, attempt: u32, directive: Directive) -> Decision {
        let again = |delay| if attempt < self.retries { Decision::Retry(delay) } else { Decision::Fail };
        match directive {
            Directive::Retry => again(delay_before(self.backoff, id, attempt)),
            Directive::RetryIn(delay) => again(delay),
            Directive::Snooze(delay) => Decision::Snooze(delay),
            Directive::Permanent => Decision::Fail,
            Directive::Cancel => Decision::Cancel,
        }
    }
}

/// Returns the delay between attempt `attempt` (counted from 0) of the task `id` and the next: exponential with full
/// jitter.
///
/// Uniform in `[0, min(max, min × 2^attempt)]`, but never under a tenth of that bound, so that a dependency that
/// is down is not asked again at once. The jitter is drawn from the id and the attempt, not from a generator:
/// copies of a message agree on it, different tasks spread.
pub fn delay_before(backoff: Backoff, id: &str, attempt: u32) -> Duration {
    let doubled = backoff.min.checked_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
    let bound = doubled.unwrap_or(backoff.max).min(backoff.max);
    bound.mul_f64(0.1 + 0.9 * unit_interval(id.bytes().chain(attempt.to_le_bytes()))).min(backoff.max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn decisions() {
        let policy = RetryPolicy { retries: 2, backoff: Backoff::DEFAULT };
        let five = Duration::from_secs(5);
        for (attempt, directive, expected) in [
            (0, Directive::RetryIn(five), Decision::Retry(five)),
            (1, Directive::RetryIn(five), Decision::Retry(five)),
            (2, Directive::RetryIn(five), Decision::Fail),
            (2, Directive::Retry, Decision::Fail),
            (9, Directive::Snooze(five), Decision::Snooze(five)),
            (0, Directive::Permanent, Decision::Fail),
            (0, Directive::Cancel, Decision::Cancel),
        ] {
            assert_eq!(policy.decide("id", attempt, directive), expected, "attempt {attempt}, {directive:?}");
        }
        assert!(matches!(policy.decide("id", 0, Directive::Retry), Decision::Retry(delay) if delay <= SECOND));
    }

    #[test]
    fn jitter_spreads_over_ids() {
        let mut fractions: Vec<f64> =
            (0..1000).map(|n| unit_interval(format!("task-{n}").bytes().chain(0_u32.to_le_bytes()))).collect();
        fractions.sort_by(f64::total_cmp);
        for (rank, fraction) in fractions.iter().enumerate() {
            assert!((fraction - rank as f64 / 1000.0).abs() < 0.06, "rank {rank} is {fraction}");
        }
    }

    proptest! {
        #[test]
        fn a_delay_keeps_its_bounds(min_ms in 0_u64..100_000, max_ms in 0_u64..10_000_000, id in ".{1,40}", attempt in 0_u32..200) {
            let backoff = Backoff { min: Duration::from_millis(min_ms), max: Duration::from_millis(max_ms) };
            let delay = delay_before(backoff, &id, attempt);
            prop_assert!(delay <= backoff.max);
            prop_assert_eq!(delay, delay_before(backoff, &id, attempt));
            if attempt < 8 {
                prop_assert!(delay <= backoff.min * 2_u32.pow(attempt));
            }
        }
    }
}
