//! The policy of the supervisor for children that end, are silent, or reach a limit: decisions over plain values.

use std::time::Duration;

/// The number of failed starts in a row after which the supervisor gives up, if no start ever succeeded. If some child
/// has been ready before, the supervisor never gives up; then this many failures turn health red.
pub(super) const FAILED_STARTS_MAX: u32 = 5;

/// The time after which a child that is ready counts as healthy: when it dies later, failures are counted from the
/// beginning.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// The shortest and the longest pause before a start.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The time within which a child that is to replace another must be ready. The old one goes on meanwhile, and for good
/// if it takes longer.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);

/// How much longer than the grace a child may take to end.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(10);

/// How long a child may take to end once it was cancelled: tasks that are told to stop have half a second, giving back
/// has five.
pub(super) const CANCEL_WITHIN: Duration = Duration::from_secs(15);

/// How long a child may be silent before a warning is logged.
pub(super) const SILENT_WARN: Duration = Duration::from_secs(10);

/// How long a child may be silent before it is killed and replaced.
const SILENT_KILL: Duration = Duration::from_secs(30);

/// How long a child may take no messages, or not reach its servers, before health is red.
pub(super) const IDLE_RED: Duration = Duration::from_secs(10);

/// How long a child has to be ready before it is replaced at a limit: a limit below what a new child needs must not
/// keep the machine busy with starting processes.
const REPLACED_AFTER: Duration = Duration::from_secs(2);

/// Returns the number of failures in a row after a child that had been ready for `ready_for` has failed.
pub(super) fn failures(before: u32, ready_for: Option<Duration>) -> u32 {
    if was_healthy(ready_for) { 1 } else { before.saturating_add(1) }
}

/// Returns whether a child that was ready for this long was healthy.
pub(super) fn was_healthy(ready_for: Option<Duration>) -> bool {
    ready_for.is_some_and(|ready_for| ready_for >= HEALTHY_AFTER)
}

/// Returns the pause before the next start after this many failures: doubling, and up to a half shorter by `chance` (0
/// to 1), so that many processes that failed for the same reason do not come back at the same time.
pub(super) fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(PAUSE_MAX).mul_f64(1.0 - chance / 2.0)
}

/// The decision about a silent child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Do nothing.
    Fine,
    /// Log a warning.
    Warn,
    /// Kill the child.
    Kill,
}

/// Decides what to do about a child that has been silent for this long. A child that is stopped, by a signal or a
/// debugger, cannot send anything, and somebody wants it so.
pub(super) fn silence(silent_for: Duration, is_stopped: impl FnOnce() -> bool) -> Silence {
    if silent_for < SILENT_WARN || is_stopped() {
        Silence::Fine
    } else if silent_for < SILENT_KILL {
        Silence::Warn
    } else {
        Silence::Kill
    }
}

/// The limits at which a child is replaced by another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The number of attempts that have ended.
    pub(crate) tasks_max: Option<u64>,
    /// The resident memory in bytes.
    pub(crate) memory_max: Option<u64>,
}

impl Limits {
    /// Returns the reason why a child that has been ready for `ready_for` is to be replaced, if it is.
    pub(super) fn passed(self, done: u64, memory: Option<u64>, ready_for: Duration) -> Option<String> {
        if ready_for < REPLACED_AFTER {
            return None;
        }
        let tasks = self.tasks_max.filter(|max| done >= *max).map(|_| format!("it has done {done} tasks"));
        tasks.or_else(|| {
            let memory = memory.filter(|memory| self.memory_max.is_some_and(|max| *memory > max))?;
            Some(format!("it has {} MiB in memory", memory >> 20))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_to_half_a_minute() {
        let seconds: Vec<f64> = (1..=12).map(|failures| pause(failures, 0.0).as_secs_f64()).collect();
        assert_eq!(seconds, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]);
        assert_eq!(pause(u32::MAX, 0.0), 30 * SECOND);
        assert_eq!(pause(1, 1.0), PAUSE_MIN / 2);
        assert_eq!(pause(0, 0.0), PAUSE_MIN);
    }

    #[test]
    fn a_healthy_child_begins_the_count_anew() {
        for (before, ready_for, now) in
            [(0, None, 1), (3, None, 4), (3, Some(9 * SECOND), 4), (3, Some(10 * SECOND), 1)]
        {
            assert_eq!(failures(before, ready_for), now, "{before} {ready_for:?}");
        }
    }

    #[test]
    fn silence_is_told_then_ended_unless_it_is_wanted() {
        for (seconds, stopped, expected) in [
            (9, false, Silence::Fine),
            (10, false, Silence::Warn),
            (10, true, Silence::Fine),
            (29, false, Silence::Warn),
            (30, false, Silence::Kill),
            (3_000, true, Silence::Fine),
        ] {
            assert_eq!(silence(seconds * SECOND, || stopped), expected, "{seconds} {stopped}");
        }
    }

    #[test]
    fn a_child_is_replaced_at_its_limits() {
        const MIB: u64 = 1 << 20;
        let limits = |tasks_max, memory_max| Limits { tasks_max, memory_max };
        for (limits, done, memory, seconds, replaced) in [
            (limits(None, None), u64::MAX, Some(u64::MAX), 100, false),
            (limits(Some(10), None), 9, None, 100, false),
            (limits(Some(10), None), 10, None, 100, true),
            (limits(Some(10), None), 10, None, 1, false),
            (limits(None, Some(MIB)), 10, Some(MIB), 100, false),
            (limits(None, Some(MIB)), 10, Some(MIB + 1), 100, true),
            (limits(None, Some(MIB)), 10, None, 100, false),
        ] {
            assert_eq!(
                limits.passed(done, memory, seconds * SECOND).is_some(),
                replaced,
                "{limits:?} {done} {memory:?}"
            );
        }
    }
}
