//! The tasks of a run as plain data: how each behaves, and how it has to end.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskq::TaskState;

use super::dice::Dice;

/// The behavior of a task; the task receives it as its argument. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are explained by their variant")]
pub enum Behavior {
    /// Takes `ms`.
    Work { ms: u64 },
    /// Takes `ms` as a plain function, which blocks its thread.
    Plain { ms: u64 },
    /// Does its work and fails, in every attempt before number `until`.
    Flaky { until: u32 },
    /// Does its work and panics, in every attempt before number `until`.
    Panicking { until: u32 },
    /// Fails permanently.
    Failing,
    /// Panics in every attempt.
    Hopeless,
    /// Cancels itself.
    Cancelling,
    /// Snoozes until `ms` after it was sent.
    Snoozing { ms: u64 },
    /// Reports its progress `steps` times, `ms` apart.
    Progress { steps: u64, ms: u64 },
    /// Takes `ms` and ignores the request to stop.
    Long { ms: u64 },
    /// Blocks a thread of the runtime for `ms`.
    Blocking { ms: u64 },
    /// Never ends and never awaits.
    Spinning,
    /// Occupies `mb` MiB of memory for `ms`.
    Hogging { mb: u64, ms: u64 },
    /// Crashes its process: in every run if `always`, otherwise in its first run only.
    Dying { how: CrashKind, always: bool },
}

/// The way in which a task crashes its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashKind {
    /// `abort()`.
    Abort,
    /// SIGSEGV.
    Segfault,
    /// Endless recursion.
    StackOverflow,
    /// SIGKILL, as the out-of-memory killer sends it.
    Killed,
}

/// The end that a task must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// The terminal state; `None` for messages of which it is only known that they must not vanish.
    pub state: Option<TaskState>,
    /// The number of the last attempt, 0 first, where that is certain.
    pub last_attempt: Option<u32>,
    /// Whether each attempt has an effect.
    pub effects: bool,
    /// Whether the task waits before it runs because it was asked to (a countdown, a snooze).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// The time in milliseconds, counted from the task's beginning, after which the worker must have ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_ms: Option<u64>,
}

impl Expect {
    /// Expects only that the message does not vanish.
    pub const fn nothing() -> Self {
        Self { state: None, last_attempt: None, effects: false, waits: false, limit_ms: None }
    }
}

impl Behavior {
    /// Returns the name of the task that behaves like this.
    pub fn task(&self) -> &'static str {
        match self {
            Self::Work { .. } => "torture.work",
            Self::Plain { .. } => "torture.plain",
            Self::Flaky { .. } => "torture.flaky",
            Self::Panicking { .. } => "torture.panicking",
            Self::Failing => "torture.failing",
            Self::Hopeless => "torture.hopeless",
            Self::Cancelling => "torture.cancelling",
            Self::Snoozing { .. } => "torture.snoozing",
            Self::Progress { .. } => "torture.progress",
            Self::Long { .. } => "torture.long",
            Self::Blocking { .. } => "torture.blocking",
            Self::Spinning => "torture.spinning",
            Self::Hogging { .. } => "torture.hogging",
            Self::Dying { .. } => "torture.dying",
        }
    }

    /// Returns the end that a task with this behavior must have.
    pub fn expect(&self) -> Expect {
        let (state, last_attempt, effects) = match *self {
            Self::Flaky { until } | Self::Panicking { until } => (TaskState::Success, Some(until), true),
            Self::Failing => (TaskState::Failure, Some(0), true),
            Self::Hopeless => (TaskState::Failure, Some(1), true),
            Self::Cancelling => (TaskState::Revoked, Some(0), true),
            Self::Spinning => (TaskState::Failure, Some(0), false),
            // How often its deaths are charged to it is the supervisor's business.
            Self::Dying { always: true, .. } => (TaskState::Failure, None, false),
            Self::Dying { always: false, .. } => (TaskState::Success, None, true),
            _ => (TaskState::Success, Some(0), true),
        };
        let waits = matches!(self, Self::Snoozing { .. });
        Expect { state: Some(state), last_attempt, effects, waits, ..Expect::nothing() }
    }

    /// Returns how long a task with this behavior disturbs the others by itself.
    pub(super) fn disturbs_for(&self) -> Duration {
        match self {
            Self::Blocking { ms } => Duration::from_millis(*ms),
            _ => Duration::ZERO,
        }
    }
}

/// A task that a run is going to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The behavior.
    pub behavior: Behavior,
    /// The delay during which the broker holds the message back.
    pub countdown: Option<Duration>,
    /// The hard time limit.
    pub time_limit: Option<Duration>,
}

impl Planned {
    /// Plans a task with this behavior, without delay and limit.
    pub fn of(behavior: Behavior) -> Self {
        Self { behavior, countdown: None, time_limit: None }
    }

    /// Returns the end that the task must have.
    pub fn expect(&self) -> Expect {
        let expect = self.behavior.expect();
        let limit_ms = self.time_limit.map(|limit| limit.as_millis() as u64);
        Expect { waits: expect.waits || self.countdown.is_some(), limit_ms, ..expect }
    }
}

/// The kind of ordinary tasks in a run. Of several requests the later variant wins, since it is more special.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mix {
    /// Some tasks of every kind.
    #[default]
    Everything,
    /// Tasks of a few milliseconds, all of which succeed.
    Brief,
    /// Tasks of 50 ms.
    Short,
    /// Tasks of a second.
    Seconds,
    /// Tasks that take longer than the grace and ignore the request to stop.
    Long,
}

impl Mix {
    /// Returns how many tasks keep `slots` slots busy for long enough.
    pub(super) fn tasks(self, slots: usize) -> usize {
        match self {
            Self::Everything => 1000,
            Self::Brief => 20_000,
            Self::Short => 2000,
            Self::Seconds => 12 * slots,
            Self::Long => 4 * slots,
        }
    }

    /// Draws one ordinary task.
    pub(super) fn draw(self, dice: &mut Dice) -> Planned {
        let behavior = match self {
            Self::Brief => Behavior::Work { ms: dice.between(0, 5) },
            Self::Short => Behavior::Work { ms: 50 },
            Self::Seconds => Behavior::Work { ms: 1000 },
            Self::Long => Behavior::Long { ms: 6000 },
            Self::Everything => match dice.between(0, 100) {
                0..40 => Behavior::Work { ms: dice.between(0, 5) },
                40..55 => Behavior::Work { ms: dice.between(20, 250) },
                55..65 => Behavior::Plain { ms: dice.between(1, 60) },
                65..73 => Behavior::Flaky { until: dice.between(1, 3) as u32 },
                73..79 => Behavior::Panicking { until: 1 },
                79..83 => Behavior::Failing,
                83..85 => Behavior::Hopeless,
                85..87 => Behavior::Cancelling,
                87..92 => Behavior::Snoozing { ms: dice.between(100, 1500) },
                92..96 => Behavior::Progress { steps: dice.between(2, 6), ms: dice.between(5, 60) },
                _ => {
                    let countdown = Some(Duration::from_millis(dice.between(100, 2000)));
                    let behavior = Behavior::Work { ms: dice.between(0, 20) };
                    return Planned { behavior, countdown, time_limit: None };
                }
            },
        };
        Planned::of(behavior)
    }
}
