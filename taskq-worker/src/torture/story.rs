//! What the ledger tells of each task: read line by line while it grows, and as a whole in the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use taskq::TaskState;

use super::ledger::{Fact, Line, Whom};
use super::plan::Expect;

/// What is known of one task.
#[derive(Debug, Clone, Default)]
pub(super) struct Task {
    /// How it has to end; nothing for a task that nobody sent.
    pub(super) expect: Option<Expect>,
    pub(super) attempted_at: u64,
    pub(super) acknowledged_at: Option<u64>,
    pub(super) refused: bool,
    /// Its runs, in the order in which they began.
    pub(super) runs: Vec<Run>,
    /// Its ends, as they were read; more than one if they differ.
    pub(super) ends: Vec<End>,
    /// How often it is in the dead set.
    pub(super) dead: u32,
    /// How many processes it has ended.
    pub(super) deaths: u32,
}

/// One run of a body.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) attempt: u32,
    pub(super) pid: u32,
    pub(super) began_at: u64,
    /// When it was told to stop, if it noted that.
    pub(super) told_at: Option<u64>,
    /// When it did what it is there for; mostly once, if at all.
    pub(super) effect_at: Option<u64>,
}

/// A terminal record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: u64,
    pub(super) state: TaskState,
    pub(super) attempt: u32,
    pub(super) worker: Option<String>,
}

impl End {
    fn is_same(&self, other: &Self) -> bool {
        (&self.state, self.attempt, &self.worker) == (&other.state, other.attempt, &other.worker)
    }
}

/// A fault, from its beginning to its end.
#[derive(Debug, Clone)]
pub(super) struct Strike {
    pub(super) fault: String,
    pub(super) whom: Whom,
    pub(super) from: u64,
    /// Nothing while it lasts.
    pub(super) until: Option<u64>,
}

/// The whole story so far.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) strikes: Vec<Strike>,
    /// Processes that said that they would die of what they run, and when first.
    pub(super) doomed: HashMap<u32, u64>,
    pub(super) gone: Vec<(u32, Option<i32>, Option<i32>, bool)>,
    pub(super) wrong: Vec<String>,
    pub(super) figures: BTreeMap<String, u64>,
    /// When results were lost for the last time.
    pub(super) results_lost_at: Option<u64>,
    /// What was stuck when the patience was over.
    pub(super) stuck: Option<Vec<String>>,
    /// Dead messages without an id, or of tasks that nobody sent.
    pub(super) strange_dead: u64,
    /// Whether ends can be read at all.
    pub(super) has_results: bool,
    running: HashMap<u32, HashSet<(String, u32)>>,
    /// When each process began to run a body for the last time, and how often it did.
    last_began: HashMap<u32, (u64, u32)>,
    last_told: u64,
}

impl Task {
    /// When the body did its work in the attempt that has to be the last.
    pub(super) fn last_effect_at(&self) -> Option<u64> {
        let last = self.expect.as_ref()?.last_attempt;
        let of_last = self.runs.iter().filter(|run| last.is_none_or(|last| run.attempt == last));
        of_last.filter_map(|run| run.effect_at).min()
    }

    /// When its limit was reached, or will be; nothing if it has none, or has not begun.
    pub(super) fn limit_from(&self) -> Option<u64> {
        Some(self.runs.last()?.began_at + self.expect.as_ref()?.limit_ms?)
    }

    /// When it was over, as far as that can be seen. Where results were lost, or are not kept, the effect has to do.
    pub(super) fn done_at(&self, has_results: bool, results_lost_at: Option<u64>) -> Option<u64> {
        if let Some(end) = self.ends.first() {
            return Some(self.last_effect_at().unwrap_or(end.at));
        }
        if self.dead > 0 {
            return Some(self.attempted_at);
        }
        let effect = self.last_effect_at()?;
        (!has_results || results_lost_at.is_some_and(|lost| effect <= lost)).then_some(effect)
    }
}

impl Story {
    pub(crate) fn new(has_results: bool) -> Self {
        Self { has_results, ..Self::default() }
    }

    /// The story that `lines` tell.
    #[cfg(test)]
    pub(super) fn of(lines: &[Line], has_results: bool) -> Self {
        let mut story = Self::new(has_results);
        for line in lines {
            story.take(line.clone());
        }
        story
    }

    /// Takes the next line in.
    pub(crate) fn take(&mut self, line: Line) {
        let Line { at, pid, fact } = line;
        match fact {
            Fact::Attempted { id, expect } => {
                let task = self.tasks.entry(id).or_default();
                (task.expect, task.attempted_at) = (Some(expect), at);
            }
            Fact::Acknowledged { id } => self.tasks.entry(id).or_default().acknowledged_at = Some(at),
            Fact::Refused { id, .. } => self.tasks.entry(id).or_default().refused = true,
            Fact::Began { id, attempt } => {
                self.running.entry(pid).or_default().insert((id.clone(), attempt));
                let (last, count) = self.last_began.entry(pid).or_default();
                (*last, *count) = (at, *count + 1);
                let run = Run { attempt, pid, began_at: at, told_at: None, effect_at: None };
                self.tasks.entry(id).or_default().runs.push(run);
            }
            Fact::Told { id, attempt } => {
                self.last_told = at;
                let runs = &mut self.tasks.entry(id).or_default().runs;
                if let Some(run) = runs.iter_mut().rev().find(|run| run.attempt == attempt && run.pid == pid) {
                    run.told_at = Some(at);
                }
            }
            Fact::Effect { id, attempt } => self.effect(id, attempt, pid, at),
            Fact::Ended { id, state, attempt, worker } => {
                let ends = &mut self.tasks.entry(id).or_default().ends;
                let end = End { at, state, attempt, worker };
                // Whoever reads ends may read the same one again before it has read its own note of it.
                if ends.last().is_none_or(|last| !last.is_same(&end)) {
                    ends.push(end);
                }
            }
            Fact::Dead { id, .. } => match id.and_then(|id| self.tasks.get_mut(&id)) {
                Some(task) => task.dead += 1,
                None => self.strange_dead += 1,
            },
            Fact::Struck { fault, whom } => self.strikes.push(Strike { fault, whom, from: at, until: None }),
            Fact::Over { fault } => {
                let mut open = self.strikes.iter_mut().filter(|strike| strike.fault == fault && strike.until.is_none());
                if let Some(strike) = open.next() {
                    strike.until = Some(at);
                }
            }
            Fact::Doomed { id } => {
                self.doomed.entry(pid).or_insert(at);
                self.tasks.entry(id).or_default().deaths += 1;
            }
            Fact::Gone { process, code, signal, asked } => {
                self.running.remove(&process);
                self.gone.push((process, code, signal, asked));
            }
            Fact::ResultsLost => self.results_lost_at = Some(at),
            Fact::PatienceOver => self.stuck = Some(self.open().into_iter().map(str::to_owned).collect()),
            Fact::Wrong { what } => self.wrong.push(what),
            Fact::Figure { name, value } => {
                let largest = self.figures.entry(name).or_default();
                *largest = value.max(*largest);
            }
        }
    }

    fn effect(&mut self, id: String, attempt: u32, pid: u32, at: u64) {
        if let Some(running) = self.running.get_mut(&pid) {
            running.remove(&(id.clone(), attempt));
        }
        let runs = &mut self.tasks.entry(id).or_default().runs;
        let same = |run: &&mut Run| run.attempt == attempt && run.pid == pid && run.effect_at.is_none();
        match runs.iter_mut().rev().find(same) {
            Some(run) => run.effect_at = Some(at),
            // An effect without a beginning is one all the same.
            None => runs.push(Run { attempt, pid, began_at: at, told_at: None, effect_at: Some(at) }),
        }
    }

    /// What was acknowledged and is not over.
    pub(crate) fn open(&self) -> Vec<&str> {
        let open = self.tasks.iter().filter(|(_, task)| {
            task.acknowledged_at.is_some() && task.done_at(self.has_results, self.results_lost_at).is_none()
        });
        open.map(|(id, _)| id.as_str()).collect()
    }

    /// Those whose end may be there to be read: what did its work, or has a limit, and was not seen to end; with `all`,
    /// whatever was not.
    pub(crate) fn unended(&self, all: bool) -> impl Iterator<Item = &str> {
        let may_have_ended = move |task: &Task| {
            task.ends.is_empty() && (all || task.last_effect_at().is_some() || task.limit_from().is_some())
        };
        self.tasks.iter().filter(move |(_, task)| may_have_ended(task)).map(|(id, _)| id.as_str())
    }

    /// Every task's last known end.
    pub(crate) fn last_end(&self, id: &str) -> Option<(TaskState, u32, Option<String>)> {
        let end = self.tasks.get(id)?.ends.last()?;
        Some((end.state.clone(), end.attempt, end.worker.clone()))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// How many bodies the process is running.
    pub(crate) fn running(&self, pid: u32) -> usize {
        self.running.get(&pid).map_or(0, HashSet::len)
    }

    /// When the process began to run a body for the last time, in milliseconds since 1970.
    pub(crate) fn last_began(&self, pid: u32) -> Option<u64> {
        self.last_began.get(&pid).map(|(at, _)| *at)
    }

    /// How many bodies the process has begun to run.
    pub(crate) fn begun(&self, pid: u32) -> u32 {
        self.last_began.get(&pid).map_or(0, |(_, count)| *count)
    }

    /// How many runs there were.
    pub(crate) fn runs(&self) -> usize {
        self.tasks.values().map(|task| task.runs.len()).sum()
    }

    /// When a body was told to stop for the last time; 0 if never.
    pub(crate) fn last_told(&self) -> u64 {
        self.last_told
    }
}
