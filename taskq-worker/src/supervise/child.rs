//! One child as the supervisor knows it.

use std::time::Duration;

use tokio::time::Instant;

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// To run tasks, as one of the processes that were asked for, 0 first.
    Of(usize),
    /// To run suspects one by one.
    Alone,
}

/// How far a child has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It connects.
    Starting,
    /// It takes work.
    Working,
    /// It was told to finish what it has begun; ended by force at this time.
    Leaving(Instant),
    /// It was ended by force.
    Killed(Why),
}

/// Why a child was ended by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody asked for an end at once, or there is no point in going on.
    AtOnce,
    /// It did not end in time. Whatever it could give back it has given back; what is left are tasks that cannot be
    /// stopped, whose ends are recorded.
    Late,
    /// It said nothing for too long.
    Silent,
    /// It did not become ready in time.
    NotReady,
}

/// A child that was started and has not ended.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: u32,
    pub(super) place: Place,
    pub(super) phase: Phase,
    started: Instant,
    ready_at: Option<Instant>,
    /// When it last said anything, or was last seen stopped.
    heard_at: Instant,
    was_warned_of: bool,
    /// It was stopped when it was last looked at, and has said nothing since.
    stopped: bool,
    /// What keeps it from its work, in its words, and since when anything does.
    trouble: Option<(String, Instant)>,
    /// It said that it has ended in good order.
    pub(super) ended: bool,
}

impl Child {
    pub(super) fn new(place: Place, now: Instant) -> Self {
        Self {
            pid: 0,
            place,
            phase: Phase::Starting,
            started: now,
            ready_at: None,
            heard_at: now,
            was_warned_of: false,
            stopped: false,
            trouble: None,
            ended: false,
        }
    }

    /// It said something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.stopped = false;
        self.was_warned_of = false;
    }

    /// Its silence begins anew, since whoever listens was away.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// It is stopped, and its silence no fault.
    pub(super) fn is_stopped(&mut self, now: Instant) {
        self.heard_at = now;
        self.stopped = true;
    }

    pub(super) fn ready(&mut self, now: Instant) {
        self.ready_at = Some(now);
        self.phase = Phase::Working;
    }

    /// What keeps it from its work, if anything does: words that go on after its name.
    pub(super) fn meets(&mut self, trouble: Option<String>, now: Instant) {
        let since = self.trouble.take().map_or(now, |(_, since)| since);
        self.trouble = trouble.map(|trouble| (trouble, since));
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

    /// True the first time that its silence is noticed.
    pub(super) fn is_news_that_it_is_silent(&mut self) -> bool {
        !std::mem::replace(&mut self.was_warned_of, true)
    }

    pub(super) fn starting_for(&self, now: Instant) -> Option<Duration> {
        (self.phase == Phase::Starting).then(|| now - self.started)
    }

    /// Whether its end is what the supervisor wanted, or what it said before. What it was running then is not lost by
    /// a fault of its own.
    pub(super) fn end_is_planned(&self) -> bool {
        self.ended || matches!(self.phase, Phase::Killed(Why::AtOnce | Why::Late))
    }

    /// What is wrong with it, in words.
    pub(super) fn complaint(&self, now: Instant) -> Option<String> {
        let pid = self.pid;
        if self.stopped {
            return Some(format!("the process {pid} is stopped; `kill -CONT {pid}` lets it go on"));
        }
        let silent = self.silent_for(now);
        if silent >= super::policy::SILENT_WARN {
            return Some(format!("the process {pid} has said nothing for {} s", silent.as_secs()));
        }
        let (trouble, since) = self.trouble.as_ref()?;
        let lasts = now - *since;
        (lasts >= super::policy::IDLE_RED).then(|| format!("the process {pid} {trouble}, since {} s", lasts.as_secs()))
    }
}
