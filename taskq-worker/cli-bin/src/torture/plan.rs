//! The plan of a run: which tasks are sent, and when which fault strikes. It depends on a seed and nothing else, so a
//! run can be repeated.

use std::time::Duration;

use super::catalog::Fault;
use super::dice::Dice;
use super::workload::{Mix, Planned};

/// The least time over which tasks are sent, so that there is something to strike at.
const SPAN_MIN: Duration = Duration::from_secs(5);

/// The amount of work in a run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The number of tasks, if it was given.
    pub tasks: Option<usize>,
    /// The number of tasks that run at the same time.
    pub slots: usize,
}

/// The tasks and faults of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The tasks in the order in which they are sent, evenly over the time that the faults take.
    pub tasks: Vec<Planned>,
    /// The faults in order, each with the pause before it.
    pub strikes: Vec<(Duration, Fault)>,
}

impl Plan {
    /// Draws the plan of this load and these faults. Each fault strikes `times` times, by default as often as its entry
    /// in the catalog says.
    pub fn make(seed: u64, load: Load, faults: &[Fault], times: Option<u32>) -> Self {
        let mut dice = Dice::new(seed);
        let mix: Mix = faults.iter().map(|fault| fault.mix()).max().unwrap_or_default();
        let tasks = load.tasks.unwrap_or(mix.tasks(load.slots));
        let mut planned: Vec<Planned> = (0..tasks).map(|_| mix.draw(&mut dice)).collect();
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

    /// Returns how long the faults take if nothing delays them.
    pub(super) fn span(&self, hold: Duration) -> Duration {
        let strikes = self.strikes.iter().map(|(pause, fault)| *pause + fault.takes(hold)).sum();
        let by_tasks = self.tasks.iter().map(|task| task.behavior.disturbs_for()).max().unwrap_or_default();
        SPAN_MIN.max(by_tasks).max(strikes)
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
    use super::super::workload::Behavior;
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        let plan = |seed| Plan::make(seed, Load::of(200), &[Fault::Kill, Fault::Abort], None);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let Plan { tasks, strikes } = plan(7);
        let dying = tasks.iter().filter(|task| matches!(task.behavior, Behavior::Dying { .. })).count();
        assert!(dying > 0, "aborting is done by tasks");
        assert_eq!(tasks.len(), 200 + dying);
        assert_eq!(strikes.len(), Fault::Kill.times() as usize, "aborting is done by tasks alone");
        assert_eq!(Plan::make(7, Load::of(10), &[Fault::Kill], Some(3)).strikes.len(), 3);
    }

    #[test]
    fn everything_has_something_of_everything() {
        let tasks = Plan::make(1, Load::of(1000), &[], None).tasks;
        for name in ["work", "plain", "flaky", "panicking", "failing", "hopeless", "cancelling", "snoozing", "progress"]
        {
            let count = tasks.iter().filter(|task| task.behavior.task() == format!("torture.{name}")).count();
            assert!(count >= 5, "{name}: {count}");
        }
        assert!(tasks.iter().any(|task| task.countdown.is_some()));
        assert!(
            Plan::make(1, Load::of(10), &[Fault::Grace, Fault::Kill], None)
                .tasks
                .iter()
                .all(|task| task.behavior.task() == "torture.long")
        );
    }
}
