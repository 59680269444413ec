//! Time limits, revoked tasks, and threads that are blocked.

use std::sync::Arc;
use std::time::Duration;

use taskq::internal::attempt::Stop;

use super::super::custody::InFlight;
use super::super::observe::{Moment, Observers};
use super::super::run::Run;

/// The number of ticks, a second's worth, beyond which one poll keeps others waiting.
const POLL_TICKS_MAX: u32 = 10;

/// The time that a body has to end by itself once its task is revoked.
const REVOKED_GRACE: Duration = Duration::from_millis(100);

/// Holds one run to its limits at `tick`. Returns `false` if it has been told to end.
pub(super) fn hold(in_flight: &InFlight, observers: &Observers, run: &Arc<Run>, tick: u32) -> bool {
    if let Some((why, since)) = run.revoked() {
        if since >= REVOKED_GRACE {
            in_flight.stop(run, why);
        }
        return false;
    }
    let Some(age) = run.running_for() else { return true };
    if run.blocks_runtime(POLL_TICKS_MAX, tick) {
        observers.observe(&Moment::BlocksRuntime { subject: run.subject() });
    }
    if run.limits.hard.is_some_and(|limit| age >= limit) {
        in_flight.stop(run, Stop::TimeLimit);
        return false;
    }
    if run.limits.soft.is_some_and(|limit| age >= limit) {
        run.hit_soft_limit();
    }
    true
}

/// Tells of a run that is past its limit, or is to be terminated, and does not listen: async code that never awaits, a
/// plain function, or a runtime that other code blocks. Its thread cannot be taken back; where the process is
/// supervised, it is replaced.
pub(super) fn tell_if_stuck(observers: &Observers, run: &Run, why: Stop) {
    // When the worker ends anyway, so does the thread.
    let is_terminated = matches!(run.revoked(), Some((Stop::Revoked { terminate: true }, _)));
    if run.is_running() && (why == Stop::TimeLimit || is_terminated) {
        observers.observe(&Moment::Stuck { subject: run.subject() });
    }
}
