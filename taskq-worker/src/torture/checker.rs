//! The verdict: a pure function of the ledger.
//!
//! The words are those of Jepsen's queue checker. What a strike explains is no fault: a run that was cut off is run
//! again, and what a process had in hand when it died may run twice. A fault is what no strike explains.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use taskq::TaskState;

use super::ledger::Whom;
use super::story::{Run, Story, Strike, Task};

/// How many attempts a worker may have finished and not acknowledged: 64 ends that wait for the settler, 128 in its
/// hands, 64 acknowledgements on their way (`ARCHITECTURE.md`, "How many runs may repeat").
pub(crate) const WINDOW: u64 = 64 + 128 + 64;

/// How long after a strike a process may still begin what it had in its buffer when it was struck: it does not know
/// yet that these messages have been given to somebody else.
const STALE_FOR_MS: u64 = 10_000;

/// After so many deaths of processes it must be known which task is to blame.
const DEATHS_MAX: u32 = 5;

/// Shares of a hundred mean something from so many on.
const COMPARED_MIN: usize = 100;

/// How many of a kind are named.
const NAMED_MAX: usize = 10;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Findings {
    /// Tasks that somebody tried to send.
    pub(crate) attempted: u64,
    /// Of these, those that the broker has confirmed.
    pub(crate) acknowledged: u64,
    /// Of these, those that ended as they must.
    pub(crate) ok: u64,
    /// Acknowledged, and gone: not even new workers found them.
    pub(crate) lost: u64,
    /// Effects beyond one for each attempt.
    pub(crate) duplicated: u64,
    /// How many of these the strikes allow.
    pub(crate) duplicated_allowed: u64,
    /// How that number comes about.
    pub(crate) duplicated_allowed_because: String,
    /// Acknowledged, and not over when the patience was; new workers freed them.
    pub(crate) stuck: u64,
    /// Never acknowledged, and ran all the same. Allowed: the answer got lost.
    pub(crate) recovered: u64,
    /// What no strike explains.
    pub(crate) unexpected: u64,
    /// Runs that were cut off.
    pub(crate) cut_off: u64,
    /// How often a fault struck.
    pub(crate) strikes: u64,
    /// Processes of workers that were killed, or died of what they ran.
    pub(crate) deaths: u64,
    /// Further figures by name.
    pub(crate) figures: BTreeMap<String, u64>,
    /// The first of each kind of fault, in words.
    pub(crate) examples: Vec<String>,
}

impl Findings {
    /// Whether everything that was promised was kept.
    pub(crate) fn held(&self) -> bool {
        self.lost == 0 && self.stuck == 0 && self.unexpected == 0 && self.duplicated <= self.duplicated_allowed
    }
}

/// What the ledger shows, given how many tasks a process runs at once.
pub(crate) fn check(story: &Story, concurrency: u64) -> Findings {
    let mut checker = Checker { story, found: Findings::default(), unexpected: Vec::new() };
    for (id, task) in &story.tasks {
        checker.task(id, task);
    }
    checker.stuck();
    checker.processes();
    checker.unexpected.extend(story.wrong.iter().cloned());
    if story.strange_dead > 0 {
        checker.unexpected.push(format!("{} messages in the dead set that nobody sent", story.strange_dead));
    }
    checker.allowed(concurrency);
    checker.times();
    checker.finish()
}

struct Checker<'a> {
    story: &'a Story,
    found: Findings,
    unexpected: Vec<String>,
}

impl Checker<'_> {
    fn task(&mut self, id: &str, task: &Task) {
        let Some(expect) = &task.expect else {
            return self.unexpected.push(format!("{id}: nobody sent it"));
        };
        self.found.attempted += 1;
        let over = task.done_at(self.story.has_results, self.story.results_lost_at).is_some();
        match task.acknowledged_at {
            Some(_) => self.found.acknowledged += 1,
            None if over || !task.runs.is_empty() => self.found.recovered += 1,
            // Never acknowledged, never seen: nobody promised anything.
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

    /// Of each attempt, one run after the other, and each only because the one before was struck.
    fn runs(&mut self, id: &str, task: &Task) {
        let waits = task.expect.as_ref().is_some_and(|expect| expect.waits);
        let mut earlier: BTreeMap<u32, Vec<&Run>> = BTreeMap::new();
        let mut attempt = 0;
        for run in &task.runs {
            if run.attempt < attempt {
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
            // A task that puts itself off begins several times, and does its work once.
            let puts_itself_off = waits && before.effect_at.is_none();
            // Struck between putting itself off and saying so, it comes twice from then on.
            let chain = if waits { &earlier[..] } else { &earlier[earlier.len() - 1..] };
            let is_explained = chain.iter().any(|before| self.explains(task, before, run));
            earlier.push(run);
            if !puts_itself_off && !is_explained {
                self.unexpected.push(format!(
                    "{id}: attempt {} ran again in process {} though nothing struck process {}, which ran it before",
                    run.attempt, run.pid, before.pid
                ));
            }
        }
    }

    /// Whether a strike explains that `again` followed `before`.
    fn explains(&self, task: &Task, before: &Run, again: &Run) -> bool {
        let doomed = |pid: u32| self.story.doomed.contains_key(&pid);
        if doomed(before.pid) && before.pid != again.pid {
            return true;
        }
        self.story.strikes.iter().any(|strike| {
            let until = strike.until.unwrap_or(u64::MAX);
            let struck = |pid| match &strike.whom {
                Whom::Processes(pids) | Whom::Connections(pids) | Whom::Everybody(pids) => pids.contains(&pid),
                Whom::Producer | Whom::Nobody => false,
            };
            let cut_off = struck(before.pid) && before.began_at <= until && again.began_at >= strike.from;
            let stale = struck(again.pid)
                && again.began_at >= strike.from
                && again.began_at <= until.saturating_add(STALE_FOR_MS);
            cut_off || stale || is_in_doubt(task, strike)
        })
    }

    /// No attempt is skipped, and none is added.
    fn attempts(&mut self, id: &str, task: &Task) {
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

    /// It ends once, as it must.
    fn end(&mut self, id: &str, task: &Task, state: Option<&TaskState>) {
        let mut ends = task.ends.iter();
        if let (Some(end), Some(state)) = (ends.next(), state) {
            let last = task.expect.as_ref().and_then(|expect| expect.last_attempt);
            if end.state != *state || last.is_some_and(|last| last != end.attempt) {
                self.unexpected
                    .push(format!("{id}: it ended {} in attempt {}, and must end {state}", end.state, end.attempt));
            }
        }
        // What was written again after it had been lost is no second end.
        let lost = self.story.results_lost_at;
        if let Some(other) = ends.find(|end| lost.is_none_or(|lost| end.at > lost && task.ends[0].at > lost)) {
            self.unexpected.push(format!("{id}: its end became {} in attempt {}", other.state, other.attempt));
        }
        match (state, task.dead) {
            (Some(TaskState::Failure), 0) => {
                self.unexpected.push(format!("{id}: it failed and is not in the dead set"))
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

    fn stuck(&mut self) {
        let Some(stuck) = &self.story.stuck else { return };
        for id in stuck {
            let Some(task) = self.story.tasks.get(id) else { continue };
            // What is still not over counts as lost.
            if task.done_at(self.story.has_results, self.story.results_lost_at).is_some() {
                self.found.stuck += 1;
                self.example(format!("stuck: {id}: {}", runs_in_words(task)));
            }
        }
    }

    /// Processes end because they were struck, doomed or asked to, in good order.
    fn processes(&mut self) {
        let story = self.story;
        let struck: BTreeSet<u32> = story
            .strikes
            .iter()
            .filter_map(|strike| match &strike.whom {
                Whom::Processes(pids) => Some(pids.iter().copied()),
                _ => None,
            })
            .flatten()
            .chain(story.doomed.keys().copied())
            .collect();
        self.found.deaths = struck.len() as u64;
        for (process, code, signal, asked) in &story.gone {
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

    fn allowed(&mut self, concurrency: u64) {
        let (mut processes, mut connections, mut in_doubt) = (0, 0, 0);
        for strike in &self.story.strikes {
            match &strike.whom {
                Whom::Processes(pids) => processes += pids.len() as u64,
                Whom::Connections(pids) | Whom::Everybody(pids) => connections += pids.len() as u64,
                Whom::Producer | Whom::Nobody => {}
            }
            in_doubt += self.story.tasks.values().filter(|task| is_in_doubt(task, strike)).count() as u64;
        }
        processes += self.story.doomed.len() as u64;
        self.found.strikes = self.story.strikes.len() as u64;
        self.found.duplicated_allowed = (processes + connections) * (concurrency + WINDOW) + in_doubt;
        self.found.duplicated_allowed_because = format!(
            "({processes} processes struck + {connections} connections cut) × ({concurrency} at once + {WINDOW} not yet \
             acknowledged) + {in_doubt} sends without an answer"
        );
    }

    fn times(&mut self) {
        let story = self.story;
        self.found.figures.extend(story.figures.clone());
        let all = waits(story.tasks.values());
        self.figure("wait_p50_ms", share_of(&all, 50));
        self.figure("wait_p99_ms", share_of(&all, 99));
        // Beside each other only where both are of enough tasks to mean something.
        let (calm, struck) = self.calm_and_struck();
        if calm.len().min(struck.len()) >= COMPARED_MIN {
            self.figure("wait_p99_before_strikes_ms", share_of(&calm, 99));
            self.figure("wait_p99_during_strikes_ms", share_of(&struck, 99));
        }
        let past_limit = |task: &Task| Some(task.ends.first()?.at.saturating_sub(task.limit_from()?));
        self.figure("ended_after_limit_ms", story.tasks.values().filter_map(past_limit).max());
        let Some(over) = story.strikes.iter().filter_map(|strike| strike.until).max() else { return };
        let sent_before = story.tasks.values().filter(|task| task.acknowledged_at.is_some_and(|at| at <= over));
        let ended = sent_before.filter_map(|task| task.done_at(story.has_results, story.results_lost_at)).max();
        let after = ended.unwrap_or(over).saturating_sub(over);
        self.figure("last_end_after_last_strike_ms", Some(after));
    }

    /// How long tasks waited for a worker that were sent before anything had struck, and those that were sent while
    /// something did; each in order.
    fn calm_and_struck(&self) -> (Vec<u64>, Vec<u64>) {
        let strikes = &self.story.strikes;
        let first = strikes.iter().map(|strike| strike.from).min().unwrap_or(u64::MAX);
        let sent_at = |task: &&Task| task.acknowledged_at.unwrap_or(u64::MAX);
        let is_struck =
            |at: u64| strikes.iter().any(|strike| (strike.from..=strike.until.unwrap_or(strike.from)).contains(&at));
        let tasks = self.story.tasks.values();
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

/// Whether the answer to sending this task may have been lost to this strike.
fn is_in_doubt(task: &Task, strike: &Strike) -> bool {
    matches!(strike.whom, Whom::Producer | Whom::Everybody(_))
        && task.attempted_at <= strike.until.unwrap_or(u64::MAX)
        && task.acknowledged_at.is_none_or(|at| at >= strike.from)
}

/// How long those of `tasks` waited that wanted to run at once, in order.
fn waits<'a>(tasks: impl Iterator<Item = &'a Task>) -> Vec<u64> {
    let mut waits: Vec<u64> = tasks.filter_map(wait_for_a_worker).collect();
    waits.sort_unstable();
    waits
}

/// What so many of a hundred do not exceed.
fn share_of(waits: &[u64], percent: usize) -> Option<u64> {
    waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1))).copied()
}

/// How long a task that wanted to run at once waited for it.
fn wait_for_a_worker(task: &Task) -> Option<u64> {
    let wanted_at_once = task.expect.as_ref().is_some_and(|expect| !expect.waits);
    let began = task.runs.first().filter(|_| wanted_at_once)?.began_at;
    Some(began.saturating_sub(task.acknowledged_at?))
}

fn words(state: Option<&TaskState>) -> &str {
    state.map_or("somehow", TaskState::as_str)
}

fn runs_in_words(task: &Task) -> String {
    if task.runs.is_empty() {
        return "it never ran".to_owned();
    }
    let run = |run: &Run| {
        let effect = if run.effect_at.is_some() { "with effect" } else { "without effect" };
        format!("attempt {} in process {} at {} {effect}", run.attempt, run.pid, run.began_at)
    };
    task.runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
