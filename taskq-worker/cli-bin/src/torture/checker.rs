//! The verdict: a pure function of the ledger.
//!
//! The terms are those of Jepsen's queue checker. Effects that a strike explains are no failure: a run that was cut off
//! is run again, and tasks that a process had taken when it died may run twice. Everything that no strike explains is a
//! failure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use taskq::TaskState;

use super::ledger::Affected;
use super::timeline::{BodyRun, Strike, TaskHistory, Timeline};

/// The number of attempts that a worker may have finished and not acknowledged: 64 ends that wait for the settler, 128
/// that it is settling, 64 acknowledgements on their way (`ARCHITECTURE.md`, "How many runs may repeat").
pub const WINDOW: u64 = 64 + 128 + 64;

/// How long after a strike a process may still begin tasks that were in its buffer when it was struck: it does not know
/// yet that these messages have been given to another worker.
const STALE_FOR_MS: u64 = 10_000;

/// The least time for which a send is unanswered that is made again: opening a connection to another node or another
/// channel takes several round trips before the copy can be sent. What was answered faster was sent once.
const SENT_AGAIN_MS: u64 = 10;

/// The number of process deaths after which it must be known which task is to blame.
const DEATHS_MAX: u32 = 5;

/// The least number of tasks for which percentiles mean something.
const COMPARED_MIN: usize = 100;

/// The largest number of examples of each kind.
const NAMED_MAX: usize = 10;

/// The result of checking a ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Findings {
    /// The number of tasks that the sender tried to send.
    pub attempted: u64,
    /// The number of these that the broker confirmed.
    pub acknowledged: u64,
    /// The number of these that ended as they must.
    pub ok: u64,
    /// The number of acknowledged tasks that are gone: not even new workers found them.
    pub lost: u64,
    /// The number of effects beyond one for each attempt.
    pub duplicated: u64,
    /// The number of duplicates that the strikes allow.
    pub duplicated_allowed: u64,
    /// The derivation of the number of allowed duplicates, in words.
    pub duplicated_allowed_because: String,
    /// The number of acknowledged tasks that were not over when the patience was, and that new workers freed.
    pub stuck: u64,
    /// The number of tasks that were never acknowledged and ran all the same. Allowed: the answer got lost.
    pub recovered: u64,
    /// The number of events that no strike explains.
    pub unexpected: u64,
    /// The number of runs that were cut off.
    pub cut_off: u64,
    /// The number of strikes.
    pub strikes: u64,
    /// The number of processes of workers that were killed or died of a task.
    pub deaths: u64,
    /// Further measured values by name.
    pub figures: BTreeMap<String, u64>,
    /// The first failures of each kind, in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Returns whether everything that was promised was kept.
    pub fn held(&self) -> bool {
        self.lost == 0 && self.stuck == 0 && self.unexpected == 0 && self.duplicated <= self.duplicated_allowed
    }
}

/// Checks a ledger, given how many tasks a process runs at once, and for how many milliseconds no send need be
/// accepted.
pub fn check(timeline: &Timeline, concurrency: u64, pause_ms_max: Option<u64>) -> Findings {
    let mut checker = Checker { timeline, found: Findings::default(), unexpected: Vec::new() };
    for (id, task) in &timeline.tasks {
        checker.task(id, task);
    }
    checker.stuck();
    checker.processes();
    checker.unexpected.extend(timeline.wrong.iter().cloned());
    if timeline.strange_dead > 0 {
        checker.unexpected.push(format!("{} messages in the dead set that nobody sent", timeline.strange_dead));
    }
    checker.allowed(concurrency);
    checker.pause(pause_ms_max);
    checker.times();
    checker.finish()
}

struct Checker<'a> {
    timeline: &'a Timeline,
    found: Findings,
    unexpected: Vec<String>,
}

impl Checker<'_> {
    fn task(&mut self, id: &str, task: &TaskHistory) {
        let Some(expect) = &task.expect else {
            return self.unexpected.push(format!("{id}: nobody sent it"));
        };
        self.found.attempted += 1;
        let over = task.done_at(self.timeline.has_results, self.timeline.results_lost_at).is_some();
        match task.acknowledged_at {
            Some(_) => self.found.acknowledged += 1,
            None if over || !task.runs.is_empty() => self.found.recovered += 1,
            // Never acknowledged, never seen: nothing was promised.
            None => return,
        }
        let before = self.unexpected.len();
        if task.deaths > DEATHS_MAX {
            self.unexpected
                .push(format!("{id}: it ended {} processes, and {DEATHS_MAX} are enough to know", task.deaths));
        }
        self.runs(id, task);
        if over {
            self.attempts(id, task);
            self.end(id, task, expect.state.as_ref());
        } else if task.acknowledged_at.is_some() {
            self.found.lost += 1;
            self.example(format!(
                "lost: {id}, which must end {}: {}",
                words(expect.state.as_ref()),
                runs_in_words(task)
            ));
        }
        if over && task.acknowledged_at.is_some() && self.unexpected.len() == before {
            self.found.ok += 1;
        }
    }

    /// Checks that the runs of each attempt follow one another, and each only because the one before was struck.
    fn runs(&mut self, id: &str, task: &TaskHistory) {
        let waits = task.expect.as_ref().is_some_and(|expect| expect.waits);
        let mut earlier: BTreeMap<u32, Vec<&BodyRun>> = BTreeMap::new();
        let mut attempt = 0;
        for run in &task.runs {
            // The copy that a sender made because no answer came may overtake the original, and all that follows it.
            let has_copy = self.timeline.strikes.iter().any(|strike| is_in_doubt(task, strike));
            if run.attempt < attempt && !has_copy {
                self.unexpected.push(format!("{id}: attempt {} began after attempt {attempt}", run.attempt));
            }
            attempt = attempt.max(run.attempt);
            let earlier = earlier.entry(run.attempt).or_default();
            let Some(before) = earlier.last().copied() else {
                earlier.push(run);
                continue;
            };
            self.found.duplicated += u64::from(before.effect_at.is_some() && run.effect_at.is_some());
            self.found.cut_off += u64::from(before.effect_at.is_none() && !waits);
            if let Some(told) = before.told_at {
                let longest = self.found.figures.entry("runs_again_after_told_ms".to_owned()).or_default();
                *longest = (*longest).max(run.began_at.saturating_sub(told));
            }
            // A task that snoozes begins several times, and does its work once.
            let snoozes = waits && before.effect_at.is_none();
            // If it is struck between sending its later self and acknowledging, there are two of it from then on.
            let chain = if waits { &earlier[..] } else { &earlier[earlier.len() - 1..] };
            let is_explained = chain.iter().any(|before| self.explains(task, before, run));
            earlier.push(run);
            if !snoozes && !is_explained {
                self.unexpected.push(format!(
                    "{id}: attempt {} ran again in process {} though nothing struck process {}, which ran it before",
                    run.attempt, run.pid, before.pid
                ));
            }
        }
    }

    /// Returns whether a strike explains that the run `again` followed the run `before`.
    fn explains(&self, task: &TaskHistory, before: &BodyRun, again: &BodyRun) -> bool {
        let doomed = |pid: u32| self.timeline.doomed.contains_key(&pid);
        if doomed(before.pid) && before.pid != again.pid {
            return true;
        }
        self.timeline.strikes.iter().any(|strike| {
            let until = strike.until.unwrap_or(u64::MAX);
            let struck = |pid| match &strike.affected {
                Affected::Processes(pids) | Affected::Connections(pids) | Affected::Everybody(pids) => {
                    pids.contains(&pid)
                }
                Affected::Producer | Affected::Nobody => false,
            };
            let cut_off = struck(before.pid) && before.began_at <= until && again.began_at >= strike.from;
            let stale = struck(again.pid)
                && again.began_at >= strike.from
                && again.began_at <= until.saturating_add(STALE_FOR_MS);
            cut_off || stale || is_in_doubt(task, strike)
        })
    }

    /// Checks that no attempt is skipped, and none is added.
    fn attempts(&mut self, id: &str, task: &TaskHistory) {
        let Some(expect) = &task.expect else { return };
        let Some(last) = expect.last_attempt.filter(|_| expect.effects) else { return };
        let done: BTreeSet<u32> =
            task.runs.iter().filter(|run| run.effect_at.is_some()).map(|run| run.attempt).collect();
        for attempt in (0..=last).filter(|attempt| !done.contains(attempt)) {
            self.unexpected.push(format!("{id}: it is over, and attempt {attempt} had no effect"));
        }
        if let Some(more) = done.range(last + 1..).next() {
            self.unexpected.push(format!("{id}: attempt {more} ran, and {last} must be the last"));
        }
    }

    /// Checks that the task ends once, as it must.
    fn end(&mut self, id: &str, task: &TaskHistory, state: Option<&TaskState>) {
        let mut ends = task.ends.iter();
        if let (Some(end), Some(state)) = (ends.next(), state) {
            let last = task.expect.as_ref().and_then(|expect| expect.last_attempt);
            if end.state != *state || last.is_some_and(|last| last != end.attempt) {
                self.unexpected
                    .push(format!("{id}: it ended {} in attempt {}, and must end {state}", end.state, end.attempt));
            }
        }
        // A record that was written again after it had been lost is no second end.
        let lost = self.timeline.results_lost_at;
        if let Some(other) = ends.find(|end| lost.is_none_or(|lost| end.at > lost && task.ends[0].at > lost)) {
            self.unexpected.push(format!("{id}: its end became {} in attempt {}", other.state, other.attempt));
        }
        match (state, task.dead) {
            (Some(TaskState::Failure), 0) => {
                self.unexpected.push(format!("{id}: it failed and is not in the dead set"));
            }
            (Some(TaskState::Success | TaskState::Revoked), 1..) => {
                self.unexpected.push(format!("{id}: it did not fail and is in the dead set"));
            }
            (_, 2..) => {
                let copies = self.found.figures.entry("dead_copies".to_owned()).or_default();
                *copies += u64::from(task.dead - 1);
            }
            _ => {}
        }
    }

    /// Counts the stuck tasks.
    fn stuck(&mut self) {
        let Some(stuck) = &self.timeline.stuck else { return };
        for id in stuck {
            let Some(task) = self.timeline.tasks.get(id) else { continue };
            // A task that is still not over counts as lost.
            if task.done_at(self.timeline.has_results, self.timeline.results_lost_at).is_some() {
                self.found.stuck += 1;
                self.example(format!("stuck: {id}: {}", runs_in_words(task)));
            }
        }
    }

    /// Checks that processes ended because they were struck, doomed, or asked to and in good order.
    fn processes(&mut self) {
        let timeline = self.timeline;
        let struck: BTreeSet<u32> = timeline
            .strikes
            .iter()
            .filter_map(|strike| match &strike.affected {
                Affected::Processes(pids) => Some(pids.iter().copied()),
                _ => None,
            })
            .flatten()
            .chain(timeline.doomed.keys().copied())
            .collect();
        self.found.deaths = struck.len() as u64;
        for (process, code, signal, asked) in &timeline.gone {
            let in_good_order = *asked && *code == Some(0);
            if !in_good_order && !struck.contains(process) {
                let how = match (code, signal) {
                    (_, Some(signal)) => format!("by signal {signal}"),
                    (code, None) => format!("with code {}", code.unwrap_or(-1)),
                };
                self.unexpected.push(format!("the worker's process {process} ended {how}, and nothing had struck it"));
            }
        }
    }

    /// Derives how many duplicates the strikes allow.
    fn allowed(&mut self, concurrency: u64) {
        let (mut processes, mut connections, mut in_doubt) = (0, 0, 0);
        for strike in &self.timeline.strikes {
            match &strike.affected {
                Affected::Processes(pids) => processes += pids.len() as u64,
                Affected::Connections(pids) | Affected::Everybody(pids) => connections += pids.len() as u64,
                Affected::Producer | Affected::Nobody => {}
            }
            in_doubt += self.timeline.tasks.values().filter(|task| is_in_doubt(task, strike)).count() as u64;
        }
        processes += self.timeline.doomed.len() as u64;
        self.found.strikes = self.timeline.strikes.len() as u64;
        self.found.duplicated_allowed = (processes + connections) * (concurrency + WINDOW) + in_doubt;
        self.found.duplicated_allowed_because = format!(
            "({processes} processes struck + {connections} connections cut) × ({concurrency} at once + {WINDOW} not yet \
             acknowledged) + {in_doubt} sends without an answer"
        );
    }

    /// Checks that sends were accepted all the time.
    fn pause(&mut self, allowed: Option<u64>) {
        let Some(pause) = self.timeline.longest_pause_ms() else { return };
        self.figure("accepts_paused_ms", Some(pause));
        if let Some(allowed) = allowed.filter(|allowed| pause > *allowed) {
            self.unexpected.push(format!("no send was accepted for {pause} ms, and {allowed} are allowed"));
        }
    }

    fn times(&mut self) {
        let timeline = self.timeline;
        self.found.figures.extend(timeline.figures.clone());
        let all = waits(timeline.tasks.values());
        self.figure("wait_p50_ms", percentile(&all, 50));
        self.figure("wait_p99_ms", percentile(&all, 99));
        self.figure("wait_max_ms", all.last().copied());
        // Compared only where both are of enough tasks to mean something.
        let (calm, struck) = self.calm_and_struck();
        if calm.len().min(struck.len()) >= COMPARED_MIN {
            self.figure("wait_p99_before_strikes_ms", percentile(&calm, 99));
            self.figure("wait_p99_during_strikes_ms", percentile(&struck, 99));
        }
        let past_limit = |task: &TaskHistory| Some(task.ends.first()?.at.saturating_sub(task.limit_from()?));
        self.figure("ended_after_limit_ms", timeline.tasks.values().filter_map(past_limit).max());
        let Some(over) = timeline.strikes.iter().filter_map(|strike| strike.until).max() else { return };
        let sent_before = timeline.tasks.values().filter(|task| task.acknowledged_at.is_some_and(|at| at <= over));
        let ended = sent_before.filter_map(|task| task.done_at(timeline.has_results, timeline.results_lost_at)).max();
        let after = ended.unwrap_or(over).saturating_sub(over);
        self.figure("last_end_after_last_strike_ms", Some(after));
    }

    /// Returns the times that tasks waited for a worker, in ascending order: of those that were sent before anything
    /// had struck, and of those that were sent during a strike.
    fn calm_and_struck(&self) -> (Vec<u64>, Vec<u64>) {
        let strikes = &self.timeline.strikes;
        let first = strikes.iter().map(|strike| strike.from).min().unwrap_or(u64::MAX);
        let sent_at = |task: &&TaskHistory| task.acknowledged_at.unwrap_or(u64::MAX);
        let is_struck =
            |at: u64| strikes.iter().any(|strike| (strike.from..=strike.until.unwrap_or(strike.from)).contains(&at));
        let tasks = self.timeline.tasks.values();
        (
            waits(tasks.clone().filter(|task| sent_at(task) < first)),
            waits(tasks.filter(|task| is_struck(sent_at(task)))),
        )
    }

    fn figure(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.found.figures.insert(name.to_owned(), value);
        }
    }

    fn example(&mut self, text: String) {
        if self.found.examples.len() < NAMED_MAX {
            self.found.examples.push(text);
        }
    }

    fn finish(mut self) -> Findings {
        self.found.unexpected = self.unexpected.len() as u64;
        let unexpected = std::mem::take(&mut self.unexpected);
        self.found.examples.extend(unexpected.into_iter().take(NAMED_MAX));
        self.found
    }
}

/// Returns whether the answer to sending this task may have been lost to this strike.
fn is_in_doubt(task: &TaskHistory, strike: &Strike) -> bool {
    matches!(strike.affected, Affected::Producer | Affected::Everybody(_))
        && task.attempted_at <= strike.until.unwrap_or(u64::MAX)
        && task.acknowledged_at.is_none_or(|at| at >= strike.from && at >= task.attempted_at + SENT_AGAIN_MS)
}

/// Returns the times that those of `tasks` waited which were to run at once, in ascending order.
fn waits<'a>(tasks: impl Iterator<Item = &'a TaskHistory>) -> Vec<u64> {
    let mut waits: Vec<u64> = tasks.filter_map(wait_for_a_worker).collect();
    waits.sort_unstable();
    waits
}

/// Returns a percentile of times in ascending order.
fn percentile(waits: &[u64], percent: usize) -> Option<u64> {
    waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1))).copied()
}

/// Returns how long a task that was to run at once waited for a worker.
fn wait_for_a_worker(task: &TaskHistory) -> Option<u64> {
    let wanted_at_once = task.expect.as_ref().is_some_and(|expect| !expect.waits);
    let began = task.runs.first().filter(|_| wanted_at_once)?.began_at;
    Some(began.saturating_sub(task.acknowledged_at?))
}

fn words(state: Option<&TaskState>) -> &str {
    state.map_or("somehow", TaskState::as_str)
}

fn runs_in_words(task: &TaskHistory) -> String {
    if task.runs.is_empty() {
        return "it never ran".to_owned();
    }
    let run = |run: &BodyRun| {
        let effect = if run.effect_at.is_some() { "with effect" } else { "without effect" };
        format!("attempt {} in process {} at {} {effect}", run.attempt, run.pid, run.began_at)
    };
    task.runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
