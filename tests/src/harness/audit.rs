//! The checker: given what was asked for and what the ledger and the records show, it says what is wrong.
//!
//! A worker that dies repeats work, and that is no fault. A fault is what no death explains: a task that never ran, an
//! attempt that ran again although nobody died, a chain of retries that forked or went backwards, a second end.

use std::collections::{BTreeMap, BTreeSet};

use taskq::TaskState;

use super::Entry;

/// A task that was accepted, and how it has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its id.
    pub id: String,
    /// The number of its last attempt, 0 first.
    pub last_attempt: u32,
    /// Its terminal state.
    pub state: TaskState,
}

/// What is known after everything has ended.
#[derive(Debug)]
pub struct Audit<'a> {
    /// What was accepted.
    pub expected: &'a [Expected],
    /// What ran, in the order in which it was noted.
    pub entries: &'a [Entry],
    /// The processes of the workers that were killed.
    pub killed: &'a BTreeSet<u32>,
    /// How many attempts one death may repeat.
    pub repeats_max: usize,
    /// Every terminal record that was written, by id: its state and its attempt.
    pub ends: &'a BTreeMap<String, Vec<(TaskState, u32)>>,
}

/// Something that no death explains.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An attempt that had to run never did.
    Lost {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
    },
    /// An attempt that the policy does not allow, or a task that nobody sent.
    Unexpected {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
    },
    /// An attempt ran again although the process that ran it before lived on.
    Repeated {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
        /// The process that ran it before.
        pid: u32,
    },
    /// An attempt ran after a later one had begun: the chain of retries has forked.
    Forked {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
    },
    /// A task did not end exactly once, as it should.
    Ends {
        /// The task.
        id: String,
        /// How often it ended.
        count: usize,
    },
    /// A task ended in another state, or with another attempt.
    WrongEnd {
        /// The task.
        id: String,
    },
    /// More attempts were repeated than the deaths can account for.
    TooManyRepeats {
        /// How many were repeated.
        repeats: usize,
        /// How many may be.
        allowed: usize,
    },
}

impl Audit<'_> {
    /// How many runs there were beyond one of each attempt.
    pub fn repeats(&self) -> usize {
        let distinct: BTreeSet<_> = self.entries.iter().map(|entry| (&entry.id, entry.attempt)).collect();
        self.entries.len() - distinct.len()
    }

    /// Everything that is wrong.
    pub fn faults(&self) -> BTreeSet<Fault> {
        let mut runs: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in self.entries {
            runs.entry(&entry.id).or_default().push(entry);
        }
        let mut faults = BTreeSet::new();
        for expected in self.expected {
            let runs = runs.remove(expected.id.as_str()).unwrap_or_default();
            self.look_at_runs(expected, &runs, &mut faults);
            self.look_at_end(expected, &mut faults);
        }
        let unknown = runs.into_values().flatten();
        faults.extend(unknown.map(|entry| Fault::Unexpected { id: entry.id.clone(), attempt: entry.attempt }));
        let (repeats, allowed) = (self.repeats(), self.killed.len() * self.repeats_max);
        if repeats > allowed {
            faults.insert(Fault::TooManyRepeats { repeats, allowed });
        }
        faults
    }

    fn look_at_runs(&self, expected: &Expected, runs: &[&Entry], faults: &mut BTreeSet<Fault>) {
        let id = || expected.id.clone();
        let mut latest = 0;
        let mut ran_by: BTreeMap<u32, u32> = BTreeMap::new();
        for run in runs {
            let attempt = run.attempt;
            if attempt > expected.last_attempt {
                faults.insert(Fault::Unexpected { id: id(), attempt });
            }
            if attempt < latest {
                faults.insert(Fault::Forked { id: id(), attempt });
            }
            latest = latest.max(attempt);
            // The process before this one must be dead; one that died ran nothing afterwards.
            if let Some(pid) = ran_by.insert(attempt, run.pid)
                && (pid == run.pid || !self.killed.contains(&pid))
            {
                faults.insert(Fault::Repeated { id: id(), attempt, pid });
            }
        }
        let missing = (0..=expected.last_attempt).filter(|attempt| !ran_by.contains_key(attempt));
        faults.extend(missing.map(|attempt| Fault::Lost { id: id(), attempt }));
    }

    fn look_at_end(&self, expected: &Expected, faults: &mut BTreeSet<Fault>) {
        let id = expected.id.clone();
        match self.ends.get(&expected.id).map(Vec::as_slice) {
            Some([(state, attempt)]) => {
                if *state != expected.state || *attempt != expected.last_attempt {
                    faults.insert(Fault::WrongEnd { id });
                }
            }
            other => {
                faults.insert(Fault::Ends { id, count: other.map_or(0, <[_]>::len) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: u32 = 1;
    const LIVES: u32 = 2;

    fn run(id: &str, attempt: u32, pid: u32) -> Entry {
        Entry { line: String::new(), id: id.to_owned(), attempt, pid, at_ms: 0 }
    }

    /// Two tasks: `a` succeeds at once, `b` in its third attempt. One worker was killed.
    fn faults(entries: &[Entry], ends: &[(&str, TaskState, u32)]) -> Vec<Fault> {
        let task = |id: &str, last_attempt| Expected { id: id.to_owned(), last_attempt, state: TaskState::Success };
        let expected = [task("a", 0), task("b", 2)];
        let mut by_id: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (id, state, attempt) in ends {
            by_id.entry((*id).to_owned()).or_default().push((state.clone(), *attempt));
        }
        let killed = BTreeSet::from([KILLED]);
        let audit = Audit { expected: &expected, entries, killed: &killed, repeats_max: 2, ends: &by_id };
        audit.faults().into_iter().collect()
    }

    const GOOD_ENDS: [(&str, TaskState, u32); 2] = [("a", TaskState::Success, 0), ("b", TaskState::Success, 2)];

    #[test]
    fn what_a_death_explains_is_no_fault() {
        let plain = [run("a", 0, LIVES), run("b", 0, LIVES), run("b", 1, LIVES), run("b", 2, LIVES)];
        assert_eq!(faults(&plain, &GOOD_ENDS), []);
        let repeated = [
            run("a", 0, KILLED),
            run("b", 0, KILLED),
            run("b", 0, LIVES),
            run("a", 0, LIVES),
            run("b", 1, LIVES),
            run("b", 2, LIVES),
        ];
        assert_eq!(faults(&repeated, &GOOD_ENDS), []);
    }

    #[test]
    fn planted_faults_are_found() {
        let a = || "a".to_owned();
        let b = || "b".to_owned();
        let chain = [run("b", 0, LIVES), run("b", 1, LIVES), run("b", 2, LIVES)];
        let with = |others: &[Entry]| [&chain[..], others].concat();
        let cases = [
            ("a loss", with(&[]), vec![Fault::Lost { id: a(), attempt: 0 }]),
            (
                "a skipped attempt",
                [&chain[..1], &chain[2..], &[run("a", 0, LIVES)]].concat(),
                vec![Fault::Lost { id: b(), attempt: 1 }],
            ),
            (
                "one attempt too many",
                with(&[run("a", 0, LIVES), run("a", 1, LIVES)]),
                vec![Fault::Unexpected { id: a(), attempt: 1 }],
            ),
            (
                "a task of nobody's",
                with(&[run("a", 0, LIVES), run("c", 0, LIVES)]),
                vec![Fault::Unexpected { id: "c".into(), attempt: 0 }],
            ),
            (
                "a duplicate in one process",
                with(&[run("a", 0, LIVES), run("a", 0, LIVES)]),
                vec![Fault::Repeated { id: a(), attempt: 0, pid: LIVES }],
            ),
            (
                "a duplicate of a live process",
                with(&[run("a", 0, LIVES), run("a", 0, KILLED)]),
                vec![Fault::Repeated { id: a(), attempt: 0, pid: LIVES }],
            ),
            (
                "a fork",
                with(&[run("a", 0, LIVES), run("b", 1, 3)]),
                vec![Fault::Repeated { id: b(), attempt: 1, pid: LIVES }, Fault::Forked { id: b(), attempt: 1 }],
            ),
        ];
        for (what, entries, expected) in cases {
            assert_eq!(faults(&entries, &GOOD_ENDS), expected, "{what}");
        }
        let many: Vec<_> =
            (10..13).map(|pid| run("a", 0, pid)).chain([run("a", 0, LIVES)]).chain(chain.clone()).collect();
        assert!(faults(&many, &GOOD_ENDS).contains(&Fault::TooManyRepeats { repeats: 3, allowed: 2 }));
    }

    #[test]
    fn planted_ends_are_found() {
        let runs = [run("a", 0, LIVES), run("b", 0, LIVES), run("b", 1, LIVES), run("b", 2, LIVES)];
        let [a, b] = GOOD_ENDS;
        let ends = |id: &str, count| vec![Fault::Ends { id: id.to_owned(), count }];
        assert_eq!(faults(&runs, std::slice::from_ref(&a)), ends("b", 0));
        assert_eq!(faults(&runs, &[a.clone(), b.clone(), a.clone()]), ends("a", 2));
        assert_eq!(faults(&runs, &[("a", TaskState::Failure, 0), b.clone()]), [Fault::WrongEnd { id: "a".into() }]);
        assert_eq!(faults(&runs, &[a, ("b", TaskState::Success, 1)]), [Fault::WrongEnd { id: "b".into() }]);
    }
}
