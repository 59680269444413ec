//! What the supervisor does when a child ends, is silent, or has had enough: decisions over plain values.

use std::time::Duration;

/// After so many failed starts in a row, with no start that ever came through, the supervisor gives up. Where some
/// child has been ready before it never does; then this many turn health red.
pub(super) const FAILED_STARTS_MAX: u32 = 5;

/// A child that was ready for so long was healthy: when it dies, its place starts to count anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// The first pause before a start, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long the child of a new build, or one that is to relieve another, may take until it is ready. The old one goes on
/// meanwhile, and for good if it takes longer.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);

/// How much longer than its grace a child may take to end.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(10);

/// How long a child may take to end once it was told not to wait any longer: it has half a second for what is told to
/// stop, and five for giving back.
pub(super) const CANCEL_WITHIN: Duration = Duration::from_secs(15);

/// How long a child may say nothing before somebody is told.
pub(super) const SILENT_WARN: Duration = Duration::from_secs(10);

/// How long a child may say nothing before it is ended and replaced.
const SILENT_KILL: Duration = Duration::from_secs(30);

/// How long a child may take no messages, or not reach its servers, before health is red.
pub(super) const IDLE_RED: Duration = Duration::from_secs(10);

/// How old a child has to be before it is relieved: a limit that is lower than what a new child needs must not keep the
/// machine busy with starting.
const RELIEVED_AFTER: Duration = Duration::from_secs(2);

/// How often a place has failed now, after a child in it has failed that had been ready for `ready_for`.
pub(super) fn failures(before: u32, ready_for: Option<Duration>) -> u32 {
    if was_healthy(ready_for) { 1 } else { before.saturating_add(1) }
}

/// Whether a child that was ready for so long was healthy.
pub(super) fn was_healthy(ready_for: Option<Duration>) -> bool {
    ready_for.is_some_and(|ready_for| ready_for >= HEALTHY_AFTER)
}

/// The pause before the next start after so many failures: doubling, and up to a half shorter by `chance` (0 to 1), so
/// that many who failed for one reason do not come back at one time.
pub(super) fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(PAUSE_MAX).mul_f64(1.0 - chance / 2.0)
}

/// What to do about a child that has said nothing for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing.
    Fine,
    /// Tell somebody.
    Warn,
    /// End it.
    Kill,
}

/// What to do about a child that has said nothing for so long. One that is stopped, by a signal or a debugger, cannot
/// say anything, and somebody wants it so.
pub(super) fn silence(silent_for: Duration, is_stopped: impl FnOnce() -> bool) -> Silence {
    if silent_for < SILENT_WARN || is_stopped() {
        Silence::Fine
    } else if silent_for < SILENT_KILL {
        Silence::Warn
    } else {
        Silence::Kill
    }
}

/// When a child is relieved by another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// When so many attempts have ended.
    pub(crate) tasks_max: Option<u64>,
    /// When it has more bytes in RAM.
    pub(crate) memory_max: Option<u64>,
}

impl Limits {
    /// Why a child that has been ready for `ready_for` is to be relieved, if it is.
    pub(super) fn passed(self, done: u64, memory: Option<u64>, ready_for: Duration) -> Option<String> {
        if ready_for < RELIEVED_AFTER {
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
    fn a_child_is_relieved_when_it_has_had_enough() {
        const MIB: u64 = 1 << 20;
        let limits = |tasks_max, memory_max| Limits { tasks_max, memory_max };
        for (limits, done, memory, seconds, relieved) in [
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
                relieved,
                "{limits:?} {done} {memory:?}"
            );
        }
    }
}
