//! The verdict on a test with deaths: what it knows, given to the checker of `taskq torture`.

use std::collections::{BTreeMap, BTreeSet};

use taskq::TaskState;
use taskq_cli::torture::checker::{Findings, check};
use taskq_cli::torture::ledger::{Affected, Fact, LedgerLine};
use taskq_cli::torture::timeline::Timeline;
use taskq_cli::torture::workload::Expect;

use super::{Entry, Finished, Process, now_ms};

/// A task that was accepted, and how it has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The task's id.
    pub id: String,
    /// The number of its last attempt, 0 first.
    pub last_attempt: u32,
    /// The terminal state.
    pub state: TaskState,
}

/// The workers that died, and when: between two moments, in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deaths(BTreeMap<u32, (u64, u64)>);

impl Deaths {
    /// Kills a worker.
    ///
    /// # Panics
    ///
    /// If the system does not obey.
    pub fn kill(&mut self, worker: Process) -> Finished {
        let (pid, since) = (worker.id(), now_ms());
        let finished = worker.kill();
        self.note(pid, since);
        finished
    }

    /// Notes that a process has died since that moment.
    pub fn note(&mut self, pid: u32, since_ms: u64) {
        self.0.insert(pid, (since_ms, now_ms()));
    }

    /// The number of workers that died.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none died.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The evidence after everything has ended.
#[derive(Debug)]
pub struct Audit<'a> {
    /// The tasks that were accepted.
    pub expected: &'a [Expected],
    /// The effects, in the order in which they were noted.
    pub entries: &'a [Entry],
    /// The workers that died.
    pub deaths: &'a Deaths,
    /// The number of attempts that a worker runs at once.
    pub concurrency: usize,
    /// Every terminal record that was written, by id: its state and its attempt.
    pub ends: &'a BTreeMap<String, Vec<(TaskState, u32)>>,
    /// The ids of the messages in the dead set.
    pub dead: &'a [String],
}

impl Audit<'_> {
    /// The verdict: every task ended once and as it must, each attempt had its effect, and repeats are explained by
    /// deaths.
    pub fn findings(&self) -> Findings {
        check(&Timeline::of(&self.lines(), true), self.concurrency as u64, None)
    }

    /// Returns the findings if everything that was promised was kept.
    ///
    /// # Panics
    ///
    /// With the first failures of each kind, if it was not.
    pub fn assert_kept(&self, what: &str) -> Findings {
        let findings = self.findings();
        assert!(findings.held(), "{what}: {findings:#?}");
        findings
    }

    /// The evidence as a ledger of `taskq torture`.
    fn lines(&self) -> Vec<LedgerLine> {
        let own = |at, fact| LedgerLine { at, pid: 0, fact };
        let mut lines = Vec::new();
        for Expected { id, last_attempt, state } in self.expected {
            let expect = Expect {
                state: Some(state.clone()),
                last_attempt: Some(*last_attempt),
                effects: true,
                ..Expect::nothing()
            };
            lines.push(own(0, Fact::Attempted { id: id.clone(), expect }));
            lines.push(own(0, Fact::Acknowledged { id: id.clone() }));
        }
        for (pid, (from, until)) in &self.deaths.0 {
            let fault = format!("the death of {pid}");
            lines.push(own(*from, Fact::Struck { fault: fault.clone(), affected: Affected::Processes(vec![*pid]) }));
            lines.push(own(*until, Fact::Over { fault }));
        }
        let mut seen = BTreeSet::new();
        for Entry { id, attempt, pid, at_ms, .. } in self.entries {
            if !seen.insert((id, attempt, pid)) {
                let what = format!("{id}: attempt {attempt} ran twice in process {pid}, and no death explains that");
                lines.push(own(*at_ms, Fact::Wrong { what }));
            }
            let effect = Fact::Effect { id: id.clone(), attempt: *attempt, note: None };
            lines.push(LedgerLine { at: *at_ms, pid: *pid, fact: effect });
        }
        for (id, ends) in self.ends {
            for (number, (state, attempt)) in ends.iter().enumerate() {
                // Each record is one that was written, not one that was read again.
                let worker = Some(format!("the writer of record {number}"));
                let end = Fact::Ended { id: id.clone(), state: state.clone(), attempt: *attempt, worker };
                lines.push(own(u64::MAX, end));
            }
        }
        let dead = self.dead.iter().map(|id| Fact::Dead { id: Some(id.clone()), reason: String::new() });
        lines.extend(dead.map(|fact| own(u64::MAX, fact)));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: u32 = 1;
    const LIVES: u32 = 2;

    fn run(id: &str, attempt: u32, pid: u32, at_ms: u64) -> Entry {
        Entry { line: String::new(), id: id.to_owned(), attempt, pid, at_ms }
    }

    const GOOD_ENDS: [(&str, TaskState, u32); 2] = [("a", TaskState::Success, 0), ("b", TaskState::Success, 2)];

    /// Two tasks: `a` succeeds at once, `b` in its third attempt. One worker was killed, at 5.
    fn findings(entries: &[Entry], ends: &[(&str, TaskState, u32)]) -> Findings {
        let task = |id: &str, last_attempt| Expected { id: id.to_owned(), last_attempt, state: TaskState::Success };
        let expected = [task("a", 0), task("b", 2)];
        let mut by_id: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (id, state, attempt) in ends {
            by_id.entry((*id).to_owned()).or_default().push((state.clone(), *attempt));
        }
        let deaths = Deaths(BTreeMap::from([(KILLED, (5, 5))]));
        let audit = Audit { expected: &expected, entries, deaths: &deaths, concurrency: 2, ends: &by_id, dead: &[] };
        audit.findings()
    }

    #[test]
    fn a_repeat_after_a_death_is_no_fault() {
        let plain = [run("a", 0, LIVES, 1), run("b", 0, LIVES, 2), run("b", 1, LIVES, 3), run("b", 2, LIVES, 4)];
        assert!(findings(&plain, &GOOD_ENDS).held());
        let repeated = [
            run("a", 0, KILLED, 1),
            run("b", 0, KILLED, 4),
            run("b", 0, LIVES, 6),
            run("a", 0, LIVES, 7),
            run("b", 1, LIVES, 8),
            run("b", 2, LIVES, 9),
        ];
        let found = findings(&repeated, &GOOD_ENDS);
        assert!(found.held(), "{found:?}");
        assert_eq!(found.duplicated, 2);
    }

    #[test]
    fn planted_faults_are_found() {
        let chain = [run("b", 0, LIVES, 1), run("b", 1, LIVES, 2), run("b", 2, LIVES, 3)];
        let with = |others: &[Entry]| [&chain[..], others].concat();
        let a = || run("a", 0, LIVES, 4);
        for (what, entries) in [
            ("a skipped attempt", [&chain[..1], &chain[2..], &[a()]].concat()),
            ("an attempt that never ran", with(&[])),
            ("one attempt too many", with(&[a(), run("a", 1, LIVES, 5)])),
            ("a task that nobody sent", with(&[a(), run("c", 0, LIVES, 5)])),
            ("a duplicate in one process", with(&[a(), run("a", 0, LIVES, 5)])),
            ("a duplicate in the process that died", with(&[run("a", 0, KILLED, 4), run("a", 0, KILLED, 5)])),
            ("a duplicate of a process that lives", with(&[a(), run("a", 0, 3, 5)])),
            ("a repeat before the death", with(&[run("a", 0, KILLED, 1), run("a", 0, LIVES, 4)])),
            ("a fork", with(&[a(), run("b", 1, 3, 5)])),
        ] {
            let found = findings(&entries, &GOOD_ENDS);
            assert!(found.unexpected > 0, "{what}: {found:?}");
        }
    }

    #[test]
    fn planted_ends_are_found() {
        let runs = [run("a", 0, LIVES, 1), run("b", 0, LIVES, 2), run("b", 1, LIVES, 3), run("b", 2, LIVES, 4)];
        let [a, b] = GOOD_ENDS;
        assert_eq!(findings(&runs, std::slice::from_ref(&a)).lost, 1, "no end");
        for (what, ends) in [
            ("a second end", vec![a.clone(), b.clone(), a.clone()]),
            ("another state", vec![("a", TaskState::Failure, 0), b.clone()]),
            ("another attempt", vec![a, ("b", TaskState::Success, 1)]),
        ] {
            assert!(findings(&runs, &ends).unexpected > 0, "{what}");
        }
    }
}
