//! A child as the supervisor knows it.

use std::time::Duration;

use tokio::time::Instant;

/// The purpose of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildRole {
    /// To run tasks, as the process with this number, 0 first.
    Worker(usize),
    /// To run the tasks of a quarantine queue one at a time.
    Quarantine,
}

/// The phase of a child's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildPhase {
    /// Connecting.
    Starting,
    /// Taking work.
    Working,
    /// Finishing what it has begun; killed at this time.
    Leaving(Instant),
    /// Killed, for this reason.
    Killed(KillReason),
}

/// The reason why a child was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KillReason {
    /// An end at once was requested, or there is no point in going on.
    AtOnce,
    /// The child did not end in time. It has given back all that it could; the tasks that are left cannot be stopped,
    /// and their ends are recorded.
    Late,
    /// The child sent nothing for too long.
    Silent,
    /// The child did not become ready in time.
    NotReady,
}

/// A child that was started and has not ended.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: u32,
    pub(super) role: ChildRole,
    pub(super) phase: ChildPhase,
    started: Instant,
    ready_at: Option<Instant>,
    /// When it last sent anything, or was last seen stopped.
    heard_at: Instant,
    was_warned_of: bool,
    /// Whether it was stopped at the last check, and has sent nothing since.
    stopped: bool,
    /// The problem that keeps it from its work, in its words, and the time since when it has had any.
    problem: Option<(String, Instant)>,
    /// Whether it reported that it has ended in good order.
    pub(super) ended: bool,
}

impl Child {
    pub(super) fn new(role: ChildRole, now: Instant) -> Self {
        Self {
            pid: 0,
            role,
            phase: ChildPhase::Starting,
            started: now,
            ready_at: None,
            heard_at: now,
            was_warned_of: false,
            stopped: false,
            problem: None,
            ended: false,
        }
    }

    /// Notes that it sent something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.stopped = false;
        self.was_warned_of = false;
    }

    /// Restarts the measurement of its silence, since the supervisor itself was not running.
    pub(super) fn restart_silence(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Notes that it is stopped, so that its silence is no fault.
    pub(super) fn is_stopped(&mut self, now: Instant) {
        self.heard_at = now;
        self.stopped = true;
    }

    pub(super) fn ready(&mut self, now: Instant) {
        self.ready_at = Some(now);
        self.phase = ChildPhase::Working;
    }

    /// Notes the problem that keeps it from its work, if any: a phrase that follows its name.
    pub(super) fn set_problem(&mut self, problem: Option<String>, now: Instant) {
        let since = self.problem.take().map_or(now, |(_, since)| since);
        self.problem = problem.map(|problem| (problem, since));
    }

    pub(super) fn was_ready(&self) -> bool {
        self.ready_at.is_some()
    }

    pub(super) fn ready_for(&self, now: Instant) -> Option<Duration> {
        self.ready_at.map(|at| now - at)
    }

    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now - self.heard_at
    }

    /// Notes that its silence was noticed. Returns `true` the first time.
    pub(super) fn notice_silence(&mut self) -> bool {
        !std::mem::replace(&mut self.was_warned_of, true)
    }

    pub(super) fn starting_for(&self, now: Instant) -> Option<Duration> {
        (self.phase == ChildPhase::Starting).then(|| now - self.started)
    }

    /// Returns whether its end is what the supervisor wanted, or what it announced. Tasks that it was running then are
    /// not lost by a fault of their own.
    pub(super) fn end_is_planned(&self) -> bool {
        self.ended || matches!(self.phase, ChildPhase::Killed(KillReason::AtOnce | KillReason::Late))
    }

    /// Describes what is wrong with it, if anything is.
    pub(super) fn describe_problem(&self, now: Instant) -> Option<String> {
        let pid = self.pid;
        if self.stopped {
            return Some(format!("the process {pid} is stopped; `kill -CONT {pid}` lets it go on"));
        }
        let silent = self.silent_for(now);
        if silent >= super::policy::SILENT_WARN {
            return Some(format!("the process {pid} has sent nothing for {} s", silent.as_secs()));
        }
        let (problem, since) = self.problem.as_ref()?;
        let lasts = now - *since;
        (lasts >= super::policy::IDLE_RED).then(|| format!("the process {pid} {problem}, since {} s", lasts.as_secs()))
    }
}
