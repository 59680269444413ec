//! Time limits, and threads that are blocked.

use std::sync::Arc;

use taskq::internal::attempt::Stop;

use super::super::custody::InFlight;
use super::super::observe::{Moment, Observers};
use super::super::run::Run;

/// The number of ticks, a second's worth, beyond which one poll keeps others waiting.
const POLL_TICKS_MAX: u32 = 10;

/// Holds one run to its limits at `tick`. Returns `false` if it has been told to end.
pub(super) fn hold(in_flight: &InFlight, observers: &Observers, run: &Arc<Run>, tick: u32) -> bool {
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

/// Tells of a run that is past its limit and does not listen: async code that never awaits, a plain function, or a
/// runtime that other code blocks. Its thread cannot be taken back; where the process is supervised, it is replaced.
pub(super) fn tell_if_stuck(observers: &Observers, run: &Run, why: Stop) {
    // When the worker ends anyway, so does the thread.
    if run.is_running() && why == Stop::TimeLimit {
        observers.observe(&Moment::Stuck { subject: run.subject() });
    }
}
