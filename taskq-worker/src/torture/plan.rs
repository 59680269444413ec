//! The plan: which tasks are sent, and when which fault strikes. It depends on a seed and nothing else, so a run can be
//! asked for again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskq::TaskState;

use super::faults::Fault;

/// Tasks are sent over at least this long, so that there is something to strike at.
const SPAN_MIN: Duration = Duration::from_secs(5);

/// Random numbers that are the same for the same seed, on every machine and in every version (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` up to and without `high`; `low` if there is none.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % high.saturating_sub(low).max(1)
    }

    /// One of `things`.
    pub(crate) fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        (!things.is_empty()).then(|| &things[self.between(0, things.len() as u64) as usize])
    }
}

/// What a task does; travels as its argument. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum What {
    /// Takes this long.
    Work { ms: u64 },
    /// The same as a plain function, which blocks its thread.
    Plain { ms: u64 },
    /// Does its work and fails, until the attempt of this number.
    Flaky { until: u32 },
    /// Does its work and panics, until the attempt of this number.
    Panicking { until: u32 },
    /// Fails for good.
    Failing,
    /// Panics in every attempt there is.
    Hopeless,
    /// Cancels itself.
    Cancelling,
    /// Puts itself off until this long after it was sent.
    Snoozing { ms: u64 },
    /// Reports its progress on the way.
    Progress { steps: u64, ms: u64 },
    /// Takes this long whatever it is told.
    Long { ms: u64 },
    /// Blocks the thread of the runtime for this long.
    Blocking { ms: u64 },
    /// Never ends and never awaits.
    Spinning,
    /// Takes this much memory for this long.
    Hogging { mb: u64, ms: u64 },
    /// Ends its process: in its first run, or in every run.
    Dying { how: Death, always: bool },
}

/// How a task ends its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Death {
    Abort,
    Segfault,
    StackOverflow,
    /// As the out-of-memory killer does it.
    Killed,
}

/// How a task has to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expect {
    /// Its terminal state; `None` for messages of which it is only known that they must not vanish.
    pub(crate) state: Option<TaskState>,
    /// The number of its last attempt, 0 first, where that is certain.
    pub(crate) last_attempt: Option<u32>,
    /// Whether each attempt has an effect.
    pub(crate) effects: bool,
    /// It waits before it runs, by its own wish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) waits: bool,
    /// So many milliseconds after it began it has to be ended by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit_ms: Option<u64>,
}

impl Expect {
    /// Nothing, but that it does not vanish.
    pub(crate) const fn nothing() -> Self {
        Self { state: None, last_attempt: None, effects: false, waits: false, limit_ms: None }
    }
}

impl What {
    /// The name of the task that does it.
    pub(crate) fn task(&self) -> &'static str {
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

    /// How it has to end.
    pub(crate) fn expect(&self) -> Expect {
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

    /// How long it troubles others by itself.
    fn troubles_for(&self) -> Duration {
        match self {
            Self::Blocking { ms } => Duration::from_millis(*ms),
            _ => Duration::ZERO,
        }
    }
}

/// A task to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) what: What,
    /// How long the broker is to hold it back.
    pub(crate) countdown: Option<Duration>,
    /// When it is stopped.
    pub(crate) time_limit: Option<Duration>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How many tasks there are, if somebody said.
    pub(crate) tasks: Option<usize>,
    /// How many run at once.
    pub(crate) slots: usize,
}

/// What one run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The tasks, in the order in which they are sent, evenly over the time that the faults take.
    pub(crate) tasks: Vec<Planned>,
    /// The faults, in order, each with the pause before it.
    pub(crate) strikes: Vec<(Duration, Fault)>,
}

impl Plan {
    /// The plan of so much to do and these faults, each of which strikes `times` times, or as often as it does by itself.
    pub(crate) fn make(seed: u64, load: Load, faults: &[Fault], times: Option<u32>) -> Self {
        let mut dice = Dice::new(seed);
        let mix = faults.iter().map(|fault| fault.mix()).max().unwrap_or_default();
        let tasks = load.tasks.unwrap_or(mix.tasks(load.slots));
        let mut planned: Vec<Planned> = (0..tasks).map(|_| ordinary(&mut dice, mix)).collect();
        for fault in faults {
            for special in fault.specials(tasks) {
                // Not among the first: they would all strike before anything else has begun.
                let at = dice.between(planned.len() as u64 / 10, planned.len() as u64 + 1) as usize;
                planned.insert(at, special);
            }
        }
        let mut strikes: Vec<(Duration, Fault)> = Vec::new();
        for fault in faults {
            for _ in 0..times.unwrap_or(fault.times()) {
                let pause = fault.pause();
                let millis = dice.between(pause.as_millis() as u64 / 2, pause.as_millis() as u64 * 3 / 2);
                let at = dice.between(0, strikes.len() as u64 + 1) as usize;
                strikes.insert(at, (Duration::from_millis(millis), *fault));
            }
        }
        Self { tasks: planned, strikes }
    }

    /// How long the faults take, if nothing holds them up.
    pub(crate) fn span(&self, hold: Duration) -> Duration {
        let strikes = self.strikes.iter().map(|(pause, fault)| *pause + fault.takes(hold)).sum();
        let by_tasks = self.tasks.iter().map(|task| task.what.troubles_for()).max().unwrap_or_default();
        SPAN_MIN.max(by_tasks).max(strikes)
    }
}

/// Which ordinary tasks there are. What stands later is more special and wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Mix {
    /// Something of everything.
    #[default]
    Everything,
    /// Tasks of 50 ms.
    Short,
    /// Tasks of a second.
    Seconds,
    /// Tasks that take longer than the grace, and do not listen.
    Long,
}

impl Mix {
    /// How many tasks keep `slots` slots busy for long enough.
    fn tasks(self, slots: usize) -> usize {
        match self {
            Self::Everything => 1000,
            Self::Short => 2000,
            Self::Seconds => 12 * slots,
            Self::Long => 4 * slots,
        }
    }
}

fn ordinary(dice: &mut Dice, mix: Mix) -> Planned {
    let what = match mix {
        Mix::Short => What::Work { ms: 50 },
        Mix::Seconds => What::Work { ms: 1000 },
        Mix::Long => What::Long { ms: 6000 },
        Mix::Everything => match dice.between(0, 100) {
            0..40 => What::Work { ms: dice.between(0, 5) },
            40..55 => What::Work { ms: dice.between(20, 250) },
            55..65 => What::Plain { ms: dice.between(1, 60) },
            65..73 => What::Flaky { until: dice.between(1, 3) as u32 },
            73..79 => What::Panicking { until: 1 },
            79..83 => What::Failing,
            83..85 => What::Hopeless,
            85..87 => What::Cancelling,
            87..92 => What::Snoozing { ms: dice.between(100, 1500) },
            92..96 => What::Progress { steps: dice.between(2, 6), ms: dice.between(5, 60) },
            _ => {
                let countdown = Some(Duration::from_millis(dice.between(100, 2000)));
                return Planned { what: What::Work { ms: dice.between(0, 20) }, countdown, time_limit: None };
            }
        },
    };
    Planned::of(what)
}

impl Planned {
    pub(crate) fn of(what: What) -> Self {
        Self { what, countdown: None, time_limit: None }
    }

    /// How it has to end.
    pub(crate) fn expect(&self) -> Expect {
        let expect = self.what.expect();
        let limit_ms = self.time_limit.map(|limit| limit.as_millis() as u64);
        Expect { waits: expect.waits || self.countdown.is_some(), limit_ms, ..expect }
    }
}

#[cfg(test)]
impl Load {
    pub(super) fn of(tasks: usize) -> Self {
        Self { tasks: Some(tasks), slots: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        let plan = |seed| Plan::make(seed, Load::of(200), &[Fault::Kill, Fault::Abort], None);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let Plan { tasks, strikes } = plan(7);
        let dying = tasks.iter().filter(|task| matches!(task.what, What::Dying { .. })).count();
        assert!(dying > 0, "aborting is done by tasks");
        assert_eq!(tasks.len(), 200 + dying);
        assert_eq!(strikes.len(), Fault::Kill.times() as usize, "aborting is done by tasks alone");
        assert_eq!(Plan::make(7, Load::of(10), &[Fault::Kill], Some(3)).strikes.len(), 3);
    }

    #[test]
    fn the_dice_are_those_of_the_textbook() {
        // The first numbers of `SplitMix64` from 1234567: a seed must mean the same for ever.
        let mut dice = Dice::new(1_234_567);
        assert_eq!([dice.next(), dice.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert_eq!(dice.between(5, 5), 5);
        assert!((0..100).all(|_| (3..9).contains(&dice.between(3, 9))));
    }

    #[test]
    fn everything_has_something_of_everything() {
        let tasks = Plan::make(1, Load::of(1000), &[], None).tasks;
        for name in ["work", "plain", "flaky", "panicking", "failing", "hopeless", "cancelling", "snoozing", "progress"]
        {
            let count = tasks.iter().filter(|task| task.what.task() == format!("torture.{name}")).count();
            assert!(count >= 5, "{name}: {count}");
        }
        assert!(tasks.iter().any(|task| task.countdown.is_some()));
        assert!(
            Plan::make(1, Load::of(10), &[Fault::Grace, Fault::Kill], None)
                .tasks
                .iter()
                .all(|task| task.what.task() == "torture.long")
        );
    }
}
