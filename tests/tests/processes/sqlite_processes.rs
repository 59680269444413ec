//! The promises of a file to the processes of one machine: each task runs once while nobody dies, nothing is lost when
//! somebody is killed, and what a dead process had in hand goes to others at once.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::OptionalExtension;
use taskq::TaskState;
use taskq_tests::harness::{Audit, Deaths, Expected, Process, SqliteFixture, now_ms, unique, wait_until, wait_within};

/// A claim of a dead worker holds for some seconds, and claims may follow each other.
const PATIENCE: Duration = Duration::from_secs(180);

fn fixture() -> SqliteFixture {
    SqliteFixture::new(env!("CARGO_BIN_EXE_shop"), env!("CARGO_BIN_EXE_producer"))
}

/// Waits until every message is gone: executed, and acknowledged.
fn wait_until_empty(fixture: &SqliteFixture) {
    wait_within("every message is settled", PATIENCE, || (fixture.file.count("messages") == 0).then_some(()));
}

fn succeeded(id: String) -> Expected {
    Expected { id, last_attempt: 0, state: TaskState::Success }
}

#[test]
fn two_workers_and_three_producers_run_fifty_thousand_tasks_once_each() {
    const TASKS: usize = 50_000;
    let fixture = fixture();
    let workers = [fixture.ready_worker(16), fixture.ready_worker(16)];
    let prefixes = ["a", "b", "c"].map(unique);
    let counts = [TASKS / 3, TASKS / 3, TASKS - TASKS / 3 * 2];
    let producers = [0, 1, 2].map(|at| fixture.producer(&prefixes[at], counts[at], 500, 0));
    for producer in producers {
        producer.finish().expect_exit(0);
    }
    wait_until_empty(&fixture);
    let pids = workers.each_ref().map(Process::id);
    for worker in workers {
        worker.drain();
    }

    let notes = prefixes.map(|prefix| fixture.notes(&prefix));
    assert!(notes.iter().all(|notes| notes.refused.is_empty()), "nothing was wrong with the file");
    let expected: Vec<Expected> = notes.into_iter().flat_map(|notes| notes.accepted).map(succeeded).collect();
    assert_eq!(expected.len(), TASKS);
    let (entries, ends) = (fixture.ledger.entries(), fixture.file.ends());
    let deaths = Deaths::default();
    let audit =
        Audit { expected: &expected, entries: &entries, deaths: &deaths, concurrency: 16, ends: &ends, dead: &[] };
    audit.assert_kept("two workers");
    let shares = pids.map(|pid| entries.iter().filter(|entry| entry.pid == pid).count());
    println!("shares of two workers: {shares:?}");
    let [less, more] = [shares.into_iter().min().unwrap_or(0), shares.into_iter().max().unwrap_or(0)];
    assert!(less * 3 >= more, "one worker got more than three times as much as the other: {shares:?}");
    fixture.assert_tidy();
}

/// A generator of numbers that are as good as random, and the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[test]
fn workers_and_producers_that_are_killed_at_random_lose_nothing() {
    const KILLS: usize = 16;
    const CONCURRENCY: usize = 8;
    const MANY: usize = 1_000_000;
    let seed = std::env::var("TASKQ_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now_ms);
    println!("TASKQ_TEST_SEED={seed} makes the same choices again");
    let mut dice = Dice(seed);
    let fixture = fixture();
    let mut prefixes = Vec::new();
    let mut producer = || {
        let prefix = unique("killed");
        let process = fixture.producer(&prefix, MANY, 20, 2);
        prefixes.push(prefix);
        process
    };
    let mut workers = [0, 1, 2].map(|_| fixture.ready_worker(CONCURRENCY));
    let mut producers = [producer(), producer()];
    let mut deaths = Deaths::default();
    let mut seen = 0;
    for _ in 0..KILLS {
        // Killed in the middle of the work: so many more have run since the last kill.
        let more = 50 + dice.below(300);
        seen = wait_until("tasks run", || Some(fixture.ledger.len()).filter(|len| *len >= seen + more));
        match dice.below(5) {
            at @ 0..3 => {
                deaths.kill(std::mem::replace(&mut workers[at], fixture.worker(CONCURRENCY)));
            }
            at => drop(std::mem::replace(&mut producers[at - 3], producer()).kill()),
        }
    }
    for producer in producers {
        producer.kill();
    }
    wait_until_empty(&fixture);
    for mut worker in workers {
        worker.wait_until_ready();
        worker.drain();
    }

    let (entries, ends) = (fixture.ledger.entries(), fixture.file.ends());
    let mut expected: BTreeMap<String, Expected> = BTreeMap::new();
    for id in prefixes.iter().flat_map(|prefix| fixture.notes(prefix).accepted) {
        expected.insert(id.clone(), succeeded(id));
    }
    let accepted = expected.len();
    // What a producer was killed over may have been accepted without a note.
    let unnoted = entries.iter().filter(|entry| prefixes.iter().any(|prefix| entry.id.starts_with(prefix.as_str())));
    for id in unnoted.map(|entry| entry.id.clone()) {
        expected.entry(id.clone()).or_insert_with(|| succeeded(id));
    }
    let expected: Vec<Expected> = expected.into_values().collect();
    let audit = Audit {
        expected: &expected,
        entries: &entries,
        deaths: &deaths,
        concurrency: CONCURRENCY,
        ends: &ends,
        dead: &[],
    };
    let findings = audit.assert_kept("killed at random");
    println!(
        "{accepted} tasks were noted as accepted and {} were not; {} workers were killed, {} runs were repeated",
        expected.len() - accepted,
        deaths.len(),
        findings.duplicated
    );
    fixture.assert_tidy();
}

/// Until when a lease lasts, in milliseconds since 1970; `None` once it is gone.
fn lease(fixture: &SqliteFixture, number: i64) -> Option<u64> {
    let until = fixture.file.plain().query_row("SELECT until FROM leases WHERE lease = ?1", [number], |row| row.get(0));
    until.optional().expect("it is a table").map(i64::unsigned_abs)
}

/// A worker that has begun four tasks, and the number of its lease. They take longer than a test needs to kill it.
fn busy_worker(fixture: &SqliteFixture) -> (Process, i64) {
    for _ in 0..4 {
        fixture.shop().run(&["call", "shop.ledger", fixture.ledger.path(), "-", "8000"]).expect_exit(0);
    }
    let worker = fixture.ready_worker(4);
    // After this it has nothing to write until they end, so it is not in the middle of a transaction.
    wait_until("four tasks have begun", || (fixture.file.count("results") == 4).then_some(()));
    assert_eq!(fixture.file.count("held"), 4);
    let number = fixture.file.plain().query_row("SELECT lease FROM leases", [], |row| row.get(0));
    (worker, number.expect("there is one worker"))
}

#[test]
fn what_a_killed_worker_had_in_hand_goes_to_others_before_its_lease_is_over() {
    let fixture = fixture();
    let (killed, number) = busy_worker(&fixture);
    let other = fixture.ready_worker(4);
    assert_eq!(fixture.file.count("leases"), 2);
    killed.kill();
    let mut until = 0;
    let died = now_ms();
    wait_until("the lease of the dead worker is ended", || {
        until = lease(&fixture, number).unwrap_or(0).max(until);
        lease(&fixture, number).is_none().then_some(())
    });
    let ended = now_ms();
    println!(
        "the lease was ended {} ms after the death, and had {} ms to go",
        ended - died,
        until.saturating_sub(ended)
    );
    assert!(ended < until, "its time was over anyway");
    wait_until_empty(&fixture);
    other.drain();
    assert_eq!(fixture.ledger.len(), 4);
    fixture.assert_tidy();
}

#[test]
fn what_died_while_nobody_looked_is_found_by_the_next_worker() {
    let fixture = fixture();
    let (killed, number) = busy_worker(&fixture);
    killed.kill();
    let until = lease(&fixture, number).expect("nobody has looked");
    assert_eq!(fixture.file.leftovers().len(), 1, "the sign of a lease");
    // What a crash leaves between the end of a lease and the deletion of its file.
    let stray = format!("{}-lease-00000000000000ff", fixture.file.path().display());
    std::fs::write(&stray, "").expect("the folder can be written");
    let next = fixture.ready_worker(4);
    wait_until("the lease of the dead worker is ended", || lease(&fixture, number).is_none().then_some(()));
    assert!(now_ms() < until, "its time was over anyway");
    wait_until("what nobody needs is deleted", || (fixture.file.leftovers().len() == 1).then_some(()));
    wait_until_empty(&fixture);
    next.drain();
    fixture.assert_tidy();
}

#[test]
fn a_suspended_worker_keeps_its_messages_until_its_lease_is_over() {
    let fixture = fixture();
    let (suspended, number) = busy_worker(&fixture);
    suspended.signal("STOP");
    let other = fixture.ready_worker(4);
    let mut until = 0;
    wait_until("the lease is ended", || {
        until = lease(&fixture, number).unwrap_or(0).max(until);
        lease(&fixture, number).is_none().then_some(())
    });
    assert!(now_ms() >= until, "it was still alive, and its time was not over");
    wait_until("another worker has run all of it", || (fixture.ledger.len() == 4).then_some(()));
    suspended.signal("CONT");
    wait_until_empty(&fixture);
    suspended.drain();
    other.drain();
    fixture.assert_tidy();
}
