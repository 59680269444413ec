//! The timeline: the history of each task as the ledger tells it, read line by line during a run and as a whole in the
//! end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use taskq::TaskState;

use super::ledger::{Affected, Fact, LedgerLine};
use super::workload::Expect;

/// The history of one task.
#[derive(Debug, Clone, Default)]
pub struct TaskHistory {
    /// The end that the task must have; `None` for a task that nobody sent.
    pub expect: Option<Expect>,
    /// The time at which the sender began to send the task, in milliseconds since 1970, as all times here are.
    pub attempted_at: u64,
    /// The time at which the broker's confirm arrived.
    pub acknowledged_at: Option<u64>,
    /// Whether sending the task failed.
    pub refused: bool,
    /// The runs, in the order in which they began.
    pub runs: Vec<BodyRun>,
    /// The terminal records that were read; more than one if they differ.
    pub ends: Vec<ObservedEnd>,
    /// The number of copies in the dead set.
    pub dead: u32,
    /// The number of processes that died of the task.
    pub deaths: u32,
}

/// One run of a body.
#[derive(Debug, Clone)]
pub struct BodyRun {
    /// The number of the attempt, 0 first.
    pub attempt: u32,
    /// The process.
    pub pid: u32,
    /// The time at which it began.
    pub began_at: u64,
    /// The time at which it was told to stop, if it noted that.
    pub told_at: Option<u64>,
    /// The time at which it did its work; a run has at most one effect.
    pub effect_at: Option<u64>,
}

/// A terminal record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedEnd {
    /// The time of the read.
    pub at: u64,
    /// The terminal state.
    pub state: TaskState,
    /// The number of the attempt.
    pub attempt: u32,
    /// The node that wrote the record.
    pub worker: Option<String>,
}

impl ObservedEnd {
    fn is_same(&self, other: &Self) -> bool {
        (&self.state, self.attempt, &self.worker) == (&other.state, other.attempt, &other.worker)
    }
}

/// One strike of a fault.
#[derive(Debug, Clone)]
pub struct Strike {
    /// The name of the fault.
    pub fault: String,
    /// The processes and connections that it affects.
    pub affected: Affected,
    /// The time at which it began.
    pub from: u64,
    /// The time at which it was over; `None` while it lasts.
    pub until: Option<u64>,
}

/// Everything that the ledger has told so far.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The history of each task by its id.
    pub tasks: BTreeMap<String, TaskHistory>,
    /// The strikes, in the order in which they began.
    pub strikes: Vec<Strike>,
    /// The processes that announced that they would die of a task, with the time of their first announcement.
    pub doomed: HashMap<u32, u64>,
    /// The processes that ended: id, exit code, signal, and whether they had been told to stop.
    pub gone: Vec<(u32, Option<i32>, Option<i32>, bool)>,
    /// The observations of what must not happen.
    pub wrong: Vec<String>,
    /// The largest measured value of each name.
    pub figures: BTreeMap<String, u64>,
    /// The last time at which results were lost.
    pub results_lost_at: Option<u64>,
    /// The tasks that were stuck when the patience was over.
    pub stuck: Option<Vec<String>>,
    /// The number of dead messages without an id, or of tasks that nobody sent.
    pub strange_dead: u64,
    /// Whether terminal records can be read at all.
    pub has_results: bool,
    running: HashMap<u32, HashSet<(String, u32)>>,
    /// The time at which each process last began to run a body, and the number of bodies it began.
    last_began: HashMap<u32, (u64, u32)>,
    last_told: u64,
}

impl TaskHistory {
    /// Returns the time at which the body did its work in the attempt that must be the last.
    pub fn last_effect_at(&self) -> Option<u64> {
        let last = self.expect.as_ref()?.last_attempt;
        let of_last = self.runs.iter().filter(|run| last.is_none_or(|last| run.attempt == last));
        of_last.filter_map(|run| run.effect_at).min()
    }

    /// Returns the time at which the task's limit was or will be reached; `None` if it has none or has not begun.
    pub fn limit_from(&self) -> Option<u64> {
        Some(self.runs.last()?.began_at + self.expect.as_ref()?.limit_ms?)
    }

    /// Returns the time at which the task was over, as far as can be seen. Where results were lost or are not kept, its
    /// effect stands for its end.
    pub fn done_at(&self, has_results: bool, results_lost_at: Option<u64>) -> Option<u64> {
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

impl Timeline {
    /// Creates an empty timeline; `has_results` says whether terminal records can be read.
    pub fn new(has_results: bool) -> Self {
        Self { has_results, ..Self::default() }
    }

    /// Reads a whole ledger.
    pub fn of(lines: &[LedgerLine], has_results: bool) -> Self {
        let mut timeline = Self::new(has_results);
        for line in lines {
            timeline.take(line.clone());
        }
        timeline
    }

    /// Takes in the next line.
    pub fn take(&mut self, line: LedgerLine) {
        let LedgerLine { at, pid, fact } = line;
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
                let run = BodyRun { attempt, pid, began_at: at, told_at: None, effect_at: None };
                self.tasks.entry(id).or_default().runs.push(run);
            }
            Fact::Told { id, attempt } => {
                self.last_told = at;
                let runs = &mut self.tasks.entry(id).or_default().runs;
                if let Some(run) = runs.iter_mut().rev().find(|run| run.attempt == attempt && run.pid == pid) {
                    run.told_at = Some(at);
                }
            }
            Fact::Effect { id, attempt, .. } => self.effect(id, attempt, pid, at),
            Fact::Ended { id, state, attempt, worker } => {
                let ends = &mut self.tasks.entry(id).or_default().ends;
                let end = ObservedEnd { at, state, attempt, worker };
                // The reader may read an end again before it has seen its own note of it.
                if ends.last().is_none_or(|last| !last.is_same(&end)) {
                    ends.push(end);
                }
            }
            Fact::Dead { id, .. } => match id.and_then(|id| self.tasks.get_mut(&id)) {
                Some(task) => task.dead += 1,
                None => self.strange_dead += 1,
            },
            Fact::Struck { fault, affected } => self.strikes.push(Strike { fault, affected, from: at, until: None }),
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
        let same = |run: &&mut BodyRun| run.attempt == attempt && run.pid == pid && run.effect_at.is_none();
        match runs.iter_mut().rev().find(same) {
            Some(run) => run.effect_at = Some(at),
            // An effect without a beginning is one all the same.
            None => runs.push(BodyRun { attempt, pid, began_at: at, told_at: None, effect_at: Some(at) }),
        }
    }

    /// Lists the tasks that were acknowledged and are not over.
    pub fn open(&self) -> Vec<&str> {
        let open = self.tasks.iter().filter(|(_, task)| {
            task.acknowledged_at.is_some() && task.done_at(self.has_results, self.results_lost_at).is_none()
        });
        open.map(|(id, _)| id.as_str()).collect()
    }

    /// Returns the longest time from the first attempt to send to the last confirm in which none was confirmed.
    pub fn longest_pause_ms(&self) -> Option<u64> {
        let mut confirmed: Vec<u64> = self.tasks.values().filter_map(|task| task.acknowledged_at).collect();
        confirmed.sort_unstable();
        let first = self.tasks.values().filter(|task| task.expect.is_some()).map(|task| task.attempted_at).min()?;
        let starts = std::iter::once(first).chain(confirmed.iter().copied());
        starts.zip(&confirmed).map(|(from, to)| to.saturating_sub(from)).max()
    }

    /// Lists the tasks whose terminal record may be there to be read: those that did their work or have a limit, and
    /// were not seen to end; with `all`, every task that was not seen to end.
    pub fn unended(&self, all: bool) -> impl Iterator<Item = &str> {
        let may_have_ended = move |task: &TaskHistory| {
            task.ends.is_empty() && (all || task.last_effect_at().is_some() || task.limit_from().is_some())
        };
        self.tasks.iter().filter(move |(_, task)| may_have_ended(task)).map(|(id, _)| id.as_str())
    }

    /// Returns the last known end of a task: state, attempt and node.
    pub fn last_end(&self, id: &str) -> Option<(TaskState, u32, Option<String>)> {
        let end = self.tasks.get(id)?.ends.last()?;
        Some((end.state.clone(), end.attempt, end.worker.clone()))
    }

    /// Lists the ids of all tasks.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// Returns how many bodies the process is running.
    pub fn running(&self, pid: u32) -> usize {
        self.running.get(&pid).map_or(0, HashSet::len)
    }

    /// Returns the time at which the process last began to run a body, in milliseconds since 1970.
    pub fn last_began(&self, pid: u32) -> Option<u64> {
        self.last_began.get(&pid).map(|(at, _)| *at)
    }

    /// Returns how many bodies the process has begun to run.
    pub fn begun(&self, pid: u32) -> u32 {
        self.last_began.get(&pid).map_or(0, |(_, count)| *count)
    }

    /// Returns the number of runs.
    pub fn runs(&self) -> usize {
        self.tasks.values().map(|task| task.runs.len()).sum()
    }

    /// Returns the time at which a body was last told to stop; 0 if none was.
    pub fn last_told(&self) -> u64 {
        self.last_told
    }
}

/// A timeline that is extended and read at the same time.
#[derive(Debug)]
pub(super) struct SharedTimeline(Mutex<Timeline>);

impl SharedTimeline {
    /// Creates an empty timeline; `has_results` says whether terminal records can be read.
    pub(super) fn new(has_results: bool) -> Self {
        Self(Mutex::new(Timeline::new(has_results)))
    }

    /// Looks at the timeline so far.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Timeline) -> T) -> T {
        at(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in the next lines of the ledger.
    pub(super) fn take(&self, lines: Vec<LedgerLine>) {
        let mut timeline = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines {
            timeline.take(line);
        }
    }

    /// Forgets everything, so that the ledger can be read again from its beginning.
    pub(super) fn clear(&self) {
        let mut timeline = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *timeline = Timeline::new(timeline.has_results);
    }
}
