//! Failures are planted into a ledger, and each has to be found; effects that a strike explains must not be.

use super::*;
use crate::torture::ledger::{Fact, LedgerLine};
use crate::torture::workload::{Behavior, CrashKind, Expect};

const WORKER: u32 = 11;
const OTHER: u32 = 12;
const SENDER: u32 = 1;

/// A ledger that is written line by line, a hundred milliseconds apart.
#[derive(Default)]
struct LedgerBook(Vec<LedgerLine>);

impl LedgerBook {
    fn note(mut self, pid: u32, fact: Fact) -> Self {
        let at = 1000 + 100 * self.0.len() as u64;
        self.0.push(LedgerLine { at, pid, fact });
        self
    }

    fn attempted(self, id: &str, what: &Behavior) -> Self {
        self.note(SENDER, Fact::Attempted { id: id.into(), expect: what.expect() })
    }

    fn acknowledged(self, id: &str) -> Self {
        self.note(SENDER, Fact::Acknowledged { id: id.into() })
    }

    fn sent(self, id: &str, what: &Behavior) -> Self {
        self.attempted(id, what).acknowledged(id)
    }

    fn began(self, pid: u32, id: &str, attempt: u32) -> Self {
        self.note(pid, Fact::Began { id: id.into(), attempt })
    }

    fn effect(self, pid: u32, id: &str, attempt: u32) -> Self {
        self.note(pid, Fact::Effect { id: id.into(), attempt, note: None })
    }

    fn ran(self, pid: u32, id: &str, attempt: u32) -> Self {
        self.began(pid, id, attempt).effect(pid, id, attempt)
    }

    fn ended(self, id: &str, state: TaskState, attempt: u32) -> Self {
        self.note(SENDER, Fact::Ended { id: id.into(), state, attempt, worker: Some("w".into()) })
    }

    /// A task that did everything that it should.
    fn good(self, id: &str) -> Self {
        self.sent(id, &WORK).ran(WORKER, id, 0).ended(id, TaskState::Success, 0)
    }

    fn struck(self, affected: Affected) -> Self {
        self.note(SENDER, Fact::Struck { fault: "kill".into(), affected })
    }

    fn over(self) -> Self {
        self.note(SENDER, Fact::Over { fault: "kill".into() })
    }

    fn killed(self, pid: u32) -> Self {
        let gone = Fact::Gone { process: pid, code: None, signal: Some(9), asked: false };
        self.struck(Affected::Processes(vec![pid])).over().note(SENDER, gone)
    }

    fn findings(&self) -> Findings {
        check(&Timeline::of(&self.0, true), 8, None)
    }
}

const WORK: Behavior = Behavior::Work { ms: 1 };

/// Attempted, acknowledged, ok, lost, duplicated, stuck, recovered, unexpected.
fn counts(book: &LedgerBook) -> [u64; 8] {
    let Findings { attempted, acknowledged, ok, lost, duplicated, stuck, recovered, unexpected, .. } = book.findings();
    [attempted, acknowledged, ok, lost, duplicated, stuck, recovered, unexpected]
}

fn holds(book: &LedgerBook, expected: [u64; 8]) {
    assert_eq!(counts(book), expected, "{:?}", book.findings());
    assert!(book.findings().held(), "{:?}", book.findings());
}

fn is_broken(what: &str, book: &LedgerBook, expected: [u64; 8]) {
    assert_eq!(counts(book), expected, "{what}: {:?}", book.findings());
    assert!(!book.findings().held(), "{what}: {:?}", book.findings());
    assert!(!book.findings().examples.is_empty(), "{what}: nothing is said of it");
}

#[test]
fn a_good_run_holds() {
    let flaky = Behavior::Flaky { until: 1 };
    let book = LedgerBook::default().good("a").sent("b", &flaky).ran(WORKER, "b", 0).ran(OTHER, "b", 1);
    let book = book.ended("b", TaskState::Success, 1).sent("c", &Behavior::Failing).ran(WORKER, "c", 0);
    let book = book
        .ended("c", TaskState::Failure, 0)
        .note(SENDER, Fact::Dead { id: Some("c".into()), reason: "failed".into() });
    let snoozing = Behavior::Snoozing { ms: 100 };
    let book = book.sent("d", &snoozing).began(WORKER, "d", 0).ran(OTHER, "d", 0).ended("d", TaskState::Success, 0);
    holds(&book, [4, 4, 4, 0, 0, 0, 0, 0]);
}

#[test]
fn what_a_death_explains_is_no_fault() {
    let cut_off = LedgerBook::default().sent("a", &WORK).began(WORKER, "a", 0).killed(WORKER).ran(OTHER, "a", 0);
    holds(&cut_off.ended("a", TaskState::Success, 0), [1, 1, 1, 0, 0, 0, 0, 0]);
    let repeated = LedgerBook::default().sent("a", &WORK).ran(WORKER, "a", 0).killed(WORKER).ran(OTHER, "a", 0);
    let repeated = repeated.ended("a", TaskState::Success, 0);
    holds(&repeated, [1, 1, 1, 0, 1, 0, 0, 0]);
    assert_eq!(repeated.findings().duplicated_allowed, 8 + WINDOW);
    assert_eq!((repeated.findings().deaths, repeated.findings().strikes), (1, 1));
    let doomed =
        LedgerBook::default().sent("a", &WORK).began(WORKER, "a", 0).note(WORKER, Fact::Doomed { id: "a".into() });
    let gone = Fact::Gone { process: WORKER, code: None, signal: Some(6), asked: false };
    holds(&doomed.note(SENDER, gone).ran(OTHER, "a", 0).ended("a", TaskState::Success, 0), [1, 1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn what_a_cut_connection_explains_is_no_fault() {
    // Begun while the connection was gone, and again by the worker that was given the message.
    let book = LedgerBook::default().sent("a", &WORK).struck(Affected::Connections(vec![WORKER])).began(WORKER, "a", 0);
    let book = book.began(OTHER, "a", 0).effect(WORKER, "a", 0).effect(OTHER, "a", 0).over();
    holds(&book.ended("a", TaskState::Success, 0), [1, 1, 1, 0, 1, 0, 0, 0]);
    // Another worker was first, and the one that was cut off did not know yet.
    let book = LedgerBook::default().sent("a", &WORK).struck(Affected::Connections(vec![WORKER])).over();
    let book = book.ran(OTHER, "a", 0).ran(WORKER, "a", 0).ended("a", TaskState::Success, 0);
    holds(&book, [1, 1, 1, 0, 1, 0, 0, 0]);
}

#[test]
fn an_answer_that_was_lost_explains_a_copy() {
    let book = LedgerBook::default().attempted("a", &WORK).struck(Affected::Producer).ran(WORKER, "a", 0).over();
    let book = book.ran(OTHER, "a", 0).acknowledged("a").ended("a", TaskState::Success, 0);
    holds(&book, [1, 1, 1, 0, 1, 0, 0, 0]);
    assert_eq!(book.findings().duplicated_allowed, 1);
    let flaky = LedgerBook::default().attempted("a", &Behavior::Flaky { until: 1 }).struck(Affected::Producer);
    let flaky = flaky.ran(WORKER, "a", 0).ran(WORKER, "a", 1).over().ran(OTHER, "a", 0).acknowledged("a");
    holds(&flaky.ended("a", TaskState::Success, 1), [1, 1, 1, 0, 1, 0, 0, 0]);
    let mut at_once = book;
    for (number, line) in at_once.0.iter_mut().enumerate() {
        line.at = 1000 + number as u64;
    }
    is_broken("answered faster than any connection is opened", &at_once, [1, 1, 0, 0, 1, 0, 0, 1]);
    let book =
        LedgerBook::default().attempted("a", &WORK).note(SENDER, Fact::Refused { id: "a".into(), why: "late".into() });
    holds(&book, [1, 0, 0, 0, 0, 0, 0, 0]);
    holds(&book.ran(WORKER, "a", 0).ended("a", TaskState::Success, 0), [1, 0, 0, 0, 0, 0, 1, 0]);
}

#[test]
fn a_planted_loss_is_found() {
    let good = || LedgerBook::default().good("g");
    is_broken("never ran", &good().sent("a", &WORK), [2, 2, 1, 1, 0, 0, 0, 0]);
    let cut_off = good().sent("a", &WORK).began(OTHER, "a", 0).killed(OTHER);
    is_broken("cut off, and never again", &cut_off, [2, 2, 1, 1, 0, 0, 0, 0]);
    let retry = good().sent("a", &Behavior::Flaky { until: 1 }).ran(OTHER, "a", 0);
    is_broken("a retry that never came", &retry, [2, 2, 1, 1, 0, 0, 0, 0]);
    is_broken("ran, and nobody was told", &good().sent("a", &WORK).ran(WORKER, "a", 0), [2, 2, 1, 1, 0, 0, 0, 0]);
    let flushed = good().note(SENDER, Fact::ResultsLost).sent("a", &WORK).ran(WORKER, "a", 0);
    is_broken("the same after results were lost", &flushed, [2, 2, 1, 1, 0, 0, 0, 0]);
    let skipped = good().sent("a", &Behavior::Flaky { until: 1 }).ran(WORKER, "a", 1).ended("a", TaskState::Success, 1);
    is_broken("a skipped attempt", &skipped, [2, 2, 1, 0, 0, 0, 0, 1]);
    let silent = good().sent("a", &WORK).ended("a", TaskState::Success, 0);
    is_broken("an end without an effect", &silent, [2, 2, 1, 0, 0, 0, 0, 1]);
    let undead = good().sent("a", &Behavior::Failing).ran(WORKER, "a", 0).ended("a", TaskState::Failure, 0);
    is_broken("failed, and not in the dead set", &undead, [2, 2, 1, 0, 0, 0, 0, 1]);
}

#[test]
fn results_that_were_lost_leave_the_effects_to_speak() {
    let book = LedgerBook::default().sent("a", &WORK).ran(WORKER, "a", 0).note(SENDER, Fact::ResultsLost);
    holds(&book, [1, 1, 1, 0, 0, 0, 0, 0]);
    let lines = LedgerBook::default().sent("a", &WORK).ran(WORKER, "a", 0).0;
    assert!(check(&Timeline::of(&lines, false), 8, None).held(), "without a backend there are no records");
    let lines = LedgerBook::default().sent("a", &WORK).began(WORKER, "a", 0).0;
    assert_eq!(check(&Timeline::of(&lines, false), 8, None).lost, 1);
}

#[test]
fn a_planted_duplicate_is_found() {
    let again = |first, second| LedgerBook::default().sent("a", &WORK).ran(first, "a", 0).ran(second, "a", 0);
    let ended = |book: LedgerBook| book.ended("a", TaskState::Success, 0);
    is_broken("in one process", &ended(again(WORKER, WORKER)), [1, 1, 0, 0, 1, 0, 0, 1]);
    is_broken("in two that live", &ended(again(WORKER, OTHER)), [1, 1, 0, 0, 1, 0, 0, 1]);
    let before = LedgerBook::default().killed(WORKER).sent("a", &WORK).ran(OTHER, "a", 0).ran(13, "a", 0);
    is_broken("after the death of another", &ended(before), [1, 1, 0, 0, 1, 0, 0, 1]);
    let late =
        LedgerBook::default().sent("a", &WORK).ran(WORKER, "a", 0).struck(Affected::Producer).over().ran(OTHER, "a", 0);
    is_broken("the answer had come before the strike", &ended(late), [1, 1, 0, 0, 1, 0, 0, 1]);
    let nobody = LedgerBook::default().sent("a", &WORK).ran(WORKER, "a", 0).struck(Affected::Nobody).ran(OTHER, "a", 0);
    is_broken("of a fault that excuses nothing", &ended(nobody), [1, 1, 0, 0, 1, 0, 0, 1]);
}

#[test]
fn more_duplicates_than_a_death_explains_are_found() {
    let ids: Vec<String> = (0..=(8 + WINDOW)).map(|number| format!("t{number}")).collect();
    let once = ids.iter().fold(LedgerBook::default(), |book, id| book.sent(id, &WORK).ran(WORKER, id, 0));
    let twice =
        ids.iter().fold(once.killed(WORKER), |book, id| book.ran(OTHER, id, 0).ended(id, TaskState::Success, 0));
    let found = twice.findings();
    assert_eq!((found.duplicated, found.duplicated_allowed, found.unexpected), (8 + WINDOW + 1, 8 + WINDOW, 0));
    assert!(!found.held());
}

#[test]
fn planted_stuck_ones_are_found() {
    let stuck = LedgerBook::default().good("g").sent("a", &WORK).note(SENDER, Fact::PatienceOver);
    let freed = stuck.ran(OTHER, "a", 0).ended("a", TaskState::Success, 0);
    is_broken("freed by a new worker", &freed, [2, 2, 2, 0, 0, 1, 0, 0]);
    let lost = LedgerBook::default().good("g").sent("a", &WORK).note(SENDER, Fact::PatienceOver);
    is_broken("not even then", &lost, [2, 2, 1, 1, 0, 0, 0, 0]);
    holds(&LedgerBook::default().good("g").note(SENDER, Fact::PatienceOver), [1, 1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn planted_oddities_are_found() {
    let good = || LedgerBook::default().good("g");
    let one = [1, 1, 1, 0, 0, 0, 0, 1];
    is_broken("a task of nobody's", &good().ran(WORKER, "x", 0), one);
    is_broken("an end of nobody's", &good().ended("x", TaskState::Success, 0), one);
    is_broken("a dead one of nobody's", &good().note(SENDER, Fact::Dead { id: None, reason: "decode".into() }), one);
    is_broken("something that was seen", &good().note(SENDER, Fact::Wrong { what: "smoke".into() }), one);
    let gone = |code, signal, asked| Fact::Gone { process: OTHER, code, signal, asked };
    is_broken("a worker that died by itself", &good().note(SENDER, gone(None, Some(11), false)), one);
    is_broken("a worker that gave up", &good().note(SENDER, gone(Some(4), None, false)), one);
    is_broken("a worker that went away", &good().note(SENDER, gone(Some(0), None, false)), one);
    is_broken("a drain in bad order", &good().note(SENDER, gone(Some(8), None, true)), one);
    holds(&good().note(SENDER, gone(Some(0), None, true)), [1, 1, 1, 0, 0, 0, 0, 0]);

    let of_one = [1, 1, 0, 0, 0, 0, 0, 1];
    let poison = Behavior::Dying { how: CrashKind::Abort, always: true };
    let dead = Fact::Dead { id: Some("a".into()), reason: "failed".into() };
    let deaths = |count: u32| {
        let book = (20..20 + count).fold(LedgerBook::default().sent("a", &poison), |book, pid| {
            book.began(pid, "a", 0).note(pid, Fact::Doomed { id: "a".into() })
        });
        book.ended("a", TaskState::Failure, 0).note(SENDER, dead.clone())
    };
    holds(&deaths(5), [1, 1, 1, 0, 0, 0, 0, 0]);
    is_broken("poison that was given too many processes", &deaths(6), of_one);
    is_broken("another end", &good().ended("g", TaskState::Failure, 0), of_one);
    let wrong = LedgerBook::default().sent("a", &WORK).ran(WORKER, "a", 0);
    is_broken("a wrong end", &wrong.ended("a", TaskState::Revoked, 0), of_one);
    let wrong = LedgerBook::default().sent("a", &WORK).ran(WORKER, "a", 0);
    is_broken("a wrong attempt", &wrong.ended("a", TaskState::Success, 3), of_one);
    let dead = good().note(SENDER, Fact::Dead { id: Some("g".into()), reason: "failed".into() });
    is_broken("succeeded, and is in the dead set", &dead, of_one);
    let flaky = || LedgerBook::default().sent("a", &Behavior::Flaky { until: 1 });
    let more = flaky().ran(WORKER, "a", 0).ran(WORKER, "a", 1).ran(WORKER, "a", 2).ended("a", TaskState::Success, 1);
    is_broken("one attempt too many", &more, of_one);
    let fork = flaky().ran(WORKER, "a", 0).ran(WORKER, "a", 1).killed(WORKER).began(OTHER, "a", 0);
    is_broken("a fork", &fork.ended("a", TaskState::Success, 1), of_one);
}

#[test]
fn messages_of_which_little_is_known_must_not_vanish() {
    let expect = || Expect { waits: true, ..Expect::nothing() };
    let sent =
        || LedgerBook::default().note(SENDER, Fact::Attempted { id: "m".into(), expect: expect() }).acknowledged("m");
    holds(&sent().note(SENDER, Fact::Dead { id: Some("m".into()), reason: "decode".into() }), [1, 1, 1, 0, 0, 0, 0, 0]);
    holds(&sent().ran(WORKER, "m", 0).ended("m", TaskState::Success, 0), [1, 1, 1, 0, 0, 0, 0, 0]);
    is_broken("a broken message that is gone", &sent(), [1, 1, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn times_are_measured_from_the_last_strike() {
    let book = LedgerBook::default().sent("a", &WORK).began(WORKER, "a", 0).killed(WORKER).ran(OTHER, "a", 0);
    let found = book.ended("a", TaskState::Success, 0).findings();
    let told = LedgerBook::default().sent("a", &WORK).began(WORKER, "a", 0).struck(Affected::Processes(vec![WORKER]));
    let told = told.note(WORKER, Fact::Told { id: "a".into(), attempt: 0 }).over().ran(OTHER, "a", 0);
    assert_eq!(told.findings().figures["runs_again_after_told_ms"], 200);
    // Over at 1400, the effect at 1700; acknowledged at 1100, begun at 1200.
    assert_eq!(found.figures["last_end_after_last_strike_ms"], 300);
    assert_eq!(found.figures["wait_p99_ms"], 100);
}

#[test]
fn a_pause_of_accepts_is_measured_and_bounded() {
    let mut book = LedgerBook::default();
    assert!(!book.findings().figures.contains_key("accepts_paused_ms"), "nothing was sent");
    for id in ["a", "b", "c"] {
        book = book.good(id);
    }
    let lines = Timeline::of(&book.0, true);
    let pause = check(&lines, 8, None).figures["accepts_paused_ms"];
    assert!(check(&lines, 8, Some(pause)).held());
    let broken = check(&lines, 8, Some(pause - 1));
    assert!(!broken.held() && broken.examples[0].starts_with("no send was accepted for"), "{broken:?}");
}

#[test]
fn the_longest_wait_is_that_of_a_task_that_was_to_run_at_once() {
    let expect = Expect { waits: true, ..Expect::nothing() };
    let book = LedgerBook::default().note(SENDER, Fact::Attempted { id: "hostile".into(), expect });
    let book = book.acknowledged("hostile").good("a").sent("b", &WORK).good("c").ran(WORKER, "b", 0);
    let found = book.ended("b", TaskState::Success, 0).ran(WORKER, "hostile", 0).findings();
    // Acknowledged at 1800, begun at 2400: after the four lines of another task that did not wait.
    assert_eq!((found.figures["wait_max_ms"], found.figures["wait_p50_ms"]), (600, 100));
}

#[test]
fn what_is_ended_by_others_is_measured_from_its_limit() {
    let expect = Expect { limit_ms: Some(150), ..Behavior::Spinning.expect() };
    let sent = LedgerBook::default().note(SENDER, Fact::Attempted { id: "s".into(), expect }).acknowledged("s");
    let ended = sent.began(WORKER, "s", 0).ended("s", TaskState::Failure, 0);
    // Begun at 1200, to be ended at 1350; the clock of the book strikes each hundred, and the last cannot be before
    // 1300.
    assert_eq!(ended.findings().figures["ended_after_limit_ms"], 0);
    let late = LedgerBook(ended.0.into_iter().map(|line| LedgerLine { at: 2 * line.at, ..line }).collect());
    assert_eq!(late.findings().figures["ended_after_limit_ms"], 50, "begun at 2400, ended at 2600");
}

#[test]
fn waits_before_and_during_strikes_are_told_apart_where_there_are_enough() {
    let many = |book: LedgerBook, from: u64, count: u64| {
        (from..from + count).fold(book, |book, n| book.good(&format!("t{n}")))
    };
    let late = |book: LedgerBook, id: &str| {
        let in_between = Fact::Figure { name: "passes".into(), value: 1 };
        book.sent(id, &WORK).note(SENDER, in_between).ran(WORKER, id, 0).ended(id, TaskState::Success, 0)
    };
    let calm = many(LedgerBook::default(), 0, 100);
    let struck = many(late(late(calm.struck(Affected::Nobody), "one"), "another"), 100, 100);
    let few = struck.findings().figures;
    assert!(!few.contains_key("wait_p99_during_strikes_ms"), "a strike without an end lasts for no time: {few:?}");
    let figures = struck.over().findings().figures;
    assert_eq!((figures["wait_p99_before_strikes_ms"], figures["wait_p99_during_strikes_ms"]), (100, 200));
}
