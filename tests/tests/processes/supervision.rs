//! A supervised worker as its users see it, over the embedded file: what dies is replaced and runs again, what is told
//! to stop or to begin anew does so without losing or repeating a task, and nothing is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use taskq_tests::harness::{
    BOUND, Health, Ledger, Process, Servers, SupervisedWorker, Vhost, is_gone, signal, wait_until, wait_within,
};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// The content of the line with which a worker ends.
fn ended(finished: &taskq_tests::harness::Finished) -> Value {
    let lines = finished.json_lines();
    let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(events, ["ready", "ended"], "{finished}");
    lines[1].clone()
}

/// Waits for this line of the log.
fn wait_for_log(worker: &mut Process, words: &str) {
    worker.wait_for(words, |worker| worker.stderr().contains(words).then_some(()));
}

/// The result of a task, once there is one.
fn result(supervised: &SupervisedWorker, id: &str) -> Value {
    // The lease of a process that died holds for half a minute.
    supervised.app.run(&["result", id, "--wait=100s"]).expect_exit(0).json()["value"].clone()
}

/// The processes of the worker, once none of `old` is left, and there are as many as before.
fn others(worker: &mut Process, old: &[u32]) -> Vec<u32> {
    worker.wait_for("other processes run the tasks", |worker| {
        let now = worker.children();
        (now.len() == old.len() && now.iter().all(|pid| !old.contains(pid))).then_some(now)
    })
}

#[test]
fn a_killed_process_is_replaced_and_what_it_ran_runs_again() {
    kill(&SupervisedWorker::new(SHOP));
}

#[test]
fn a_killed_process_is_replaced_and_what_it_ran_runs_again_over_rabbitmq() {
    let Some((supervised, _vhost)) = group_on_servers() else { return };
    kill(&supervised);
}

fn kill(supervised: &SupervisedWorker) {
    let mut worker = supervised.worker(&["-c", "1"]);
    let ledger = Ledger::new();
    let id = supervised.send(&["shop.ledger", ledger.path(), "again", "2000"]);
    supervised.wait_until_started(&id);
    let old = worker.children();
    signal(old[0], "KILL");
    wait_for_log(&mut worker, "was ended by signal 9 (SIGKILL)");
    let new = others(&mut worker, &old);
    result(supervised, &id);
    let ran: Vec<_> = ledger.entries().iter().map(|entry| entry.pid).collect();
    assert_eq!(ran, new);
    let ended = ended(&worker.drain());
    assert_eq!((&ended["succeeded"], &ended["deaths"]), (&json!(1), &json!(1)));
    assert_eq!(supervised.states(), [] as [&str; 0], "nothing is left for the next one");
}

#[test]
fn tasks_that_end_their_process_are_told_by_how_it_ended() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "1", "-Q", "one,two,three,four"]);
    for (task, queue, end) in [
        (&["shop.abort"][..], "one", "was ended by signal 6 (SIGABRT)"),
        (&["shop.segfault"], "two", "was ended by signal 11 (SIGSEGV)"),
        (&["shop.overflow"], "three", "has overflowed its stack"),
        (&["shop.exit", "77"], "four", "ended with exit code 77"),
    ] {
        supervised.send(&[task, &["--queue", queue]].concat());
        wait_for_log(&mut worker, end);
    }
    worker.signal("QUIT");
    worker.finish().expect_exit(8);
}

#[test]
fn an_abort_in_one_process_does_not_disturb_a_task_in_another() {
    let supervised = SupervisedWorker::new(SHOP);
    let worker = supervised.worker(&["--processes", "2", "-c", "1", "-Q", "calm,wild"]);
    let processes = worker.children();
    assert_eq!(processes.len(), 2);
    let ledger = Ledger::new();
    let calm = supervised.send(&["shop.ledger", ledger.path(), "calm", "4000", "--queue", "calm"]);
    supervised.wait_until_started(&calm);
    // Some may wait behind the calm one for their turn.
    while !worker.stderr().contains("(SIGABRT)") {
        supervised.send(&["shop.abort", "--queue", "wild", "--expires", "3s"]);
    }
    assert!(worker.children().iter().any(|pid| processes.contains(pid)), "the other one lives");
    result(&supervised, &calm);
    let ran = ledger.entries();
    assert_eq!(ran.len(), 1, "it ran once");
    assert!(processes.contains(&ran[0].pid));
    worker.signal("QUIT");
    worker.finish().expect_exit(8);
}

#[test]
fn panics_leave_the_process_and_its_concurrency_as_they_were() {
    const PANICS: usize = 50;
    const CONCURRENCY: usize = 4;
    let supervised = SupervisedWorker::new(SHOP);
    let worker = supervised.worker(&["-c", "4", "-l", "off"]);
    let processes = worker.children();
    let ids: Vec<_> = (0..PANICS).map(|_| supervised.send(&["shop.panic", "lost it"])).collect();
    for id in ids {
        supervised.app.run(&["result", &id, "--wait=60s"]).expect_exit(1);
    }
    let slow: Vec<_> = (0..CONCURRENCY).map(|_| supervised.send(&["shop.slow", "600000"])).collect();
    for id in &slow {
        supervised.wait_until_started(id);
    }
    assert_eq!(worker.children(), processes);
    worker.signal("QUIT");
    worker.finish().expect_exit(8);
}

#[test]
fn children_die_with_their_supervisor() {
    let supervised = SupervisedWorker::new(SHOP);
    let worker = supervised.worker(&["--processes", "3"]);
    let children = worker.children();
    assert_eq!(children.len(), 3);
    // Not even one that cannot read its link stays.
    signal(children[0], "STOP");
    worker.kill();
    for pid in children {
        wait_until(&format!("{pid} is gone"), || is_gone(pid).then_some(()));
    }
}

#[test]
fn a_dead_group_is_inherited_from_by_the_next() {
    let supervised = SupervisedWorker::new(SHOP);
    supervised.killed_at_work();
    let left = supervised.states();
    assert_eq!(left.len(), 1, "{left:?}");
    let mut next = supervised.worker(&["-c", "1"]);
    next.wait_for("only its own state is there", |_| (supervised.states().len() == 1).then_some(()));
    assert_ne!(supervised.states(), left);
    next.signal("QUIT");
    next.finish().expect_exit(8);
}

#[test]
fn a_program_that_only_dies_at_its_start_is_given_up() {
    let supervised = SupervisedWorker::new(SHOP);
    let dying = supervised.app.clone().env("SHOP_DIES_AT_START", "no shelf is left");
    let finished = dying.run(&["worker", "--state-dir", "state"]).expect_exit(9);
    assert_eq!(finished.stdout, "", "{finished}");
    let words: Vec<_> = finished.stderr.lines().filter(|line| *line == "no shelf is left").collect();
    assert_eq!(words.len(), 5, "five starts were tried\n{finished}");
    let error = finished.stderr.lines().last().expect("there are some");
    for word in ["error: ", "signal 6 (SIGABRT)", "no shelf is left"] {
        assert!(error.contains(word), "{word} is not said\n{finished}");
    }
}

#[test]
fn a_drain_finishes_what_every_process_has_begun() {
    let supervised = SupervisedWorker::new(SHOP);
    for (arguments, exit, succeeded) in [(&[][..], 0, 2), (&["--grace", "100ms"], 8, 0)] {
        let worker = supervised.worker(&[&["--processes", "2", "-c", "1"], arguments].concat());
        let children = worker.children();
        // Of the second round none ends by itself.
        let ms = if exit == 0 { "2000" } else { "600000" };
        let ids = [supervised.send(&["shop.slow", ms]), supervised.send(&["shop.slow", ms])];
        for id in &ids {
            supervised.wait_until_started(id);
        }
        worker.signal("TERM");
        let finished = worker.finish().expect_exit(exit);
        assert_eq!(ended(&finished)["succeeded"], succeeded, "{finished}");
        assert!(children.into_iter().all(is_gone));
    }
}

#[test]
fn whoever_asks_three_times_does_not_wait() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "1"]);
    let children = worker.children();
    // A plain function cannot be told to stop.
    let id = supervised.send(&["shop.slow_blocking", "600000"]);
    supervised.wait_until_started(&id);
    for (signal, answer) in [("TERM", "draining"), ("INT", "asked again"), ("TERM", "ending now")] {
        worker.signal(signal);
        if answer != "ending now" {
            wait_for_log(&mut worker, answer);
        }
    }
    let finished = worker.finish().expect_exit(8);
    assert!(children.into_iter().all(is_gone), "{finished}");
}

/// A supervised worker over RabbitMQ and Redis, in a virtual host of its own; `None` where there are no servers.
fn group_on_servers() -> Option<(SupervisedWorker, Vhost)> {
    let vhost = Vhost::create(&Servers::from_env()?)?;
    let mut supervised = SupervisedWorker::new(SHOP);
    supervised.app = supervised.app.servers(&vhost.servers);
    Some((supervised, vhost))
}

#[test]
fn a_rolling_restart_loses_and_repeats_nothing() {
    roll(&SupervisedWorker::new(SHOP));
}

#[test]
fn a_rolling_restart_over_rabbitmq_loses_and_repeats_nothing() {
    let Some((supervised, _vhost)) = group_on_servers() else { return };
    roll(&supervised);
}

fn roll(supervised: &SupervisedWorker) {
    const TASKS: usize = 60;
    let mut worker = supervised.worker(&["--processes", "2", "-c", "2"]);
    let ledger = Ledger::new();
    let send = |n: usize, ms: &str| supervised.send(&["shop.ledger", ledger.path(), &format!("task {n}"), ms]);
    // Some run, some wait, some come while processes change, and some when they have changed.
    let mut ids: Vec<_> = (0..4).map(|n| send(n, "3000")).collect();
    for id in &ids {
        supervised.wait_until_started(id);
    }
    ids.extend((4..20).map(|n| send(n, "50")));
    let old = worker.children();
    worker.signal("HUP");
    ids.extend((20..40).map(|n| send(n, "50")));
    let new = others(&mut worker, &old);
    ids.extend((40..TASKS).map(|n| send(n, "50")));
    for id in ids {
        result(supervised, &id);
    }
    let counts = ledger.counts();
    assert_eq!((counts.len(), counts.values().max()), (TASKS, Some(&1)), "each ran once");
    let by: BTreeSet<_> = ledger.entries().iter().map(|entry| entry.pid).collect();
    assert!(old.iter().any(|pid| by.contains(pid)) && new.iter().any(|pid| by.contains(pid)), "{by:?}");
    let ended = ended(&worker.drain());
    assert_eq!((&ended["succeeded"], &ended["deaths"]), (&json!(TASKS), &json!(0)));
}

#[test]
fn a_build_that_does_not_start_replaces_nobody() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&[]);
    let old = worker.children();
    std::fs::remove_file(supervised.path("app")).expect("it is there");
    std::fs::write(supervised.path("app"), "no program").expect("the folder can be written");
    worker.signal("HUP");
    wait_for_log(&mut worker, "the rolling restart is aborted");
    assert_eq!(worker.children(), old);
    supervised.build();
    let sum = supervised.send(&["shop.add", "2", "3"]);
    assert_eq!(result(&supervised, &sum), 5);
    worker.signal("HUP");
    let new = others(&mut worker, &old);
    let about = supervised.send(&["shop.about"]);
    assert_eq!(json!([result(&supervised, &about)["pid"]]), json!(new));
    worker.drain();
}

#[test]
fn a_process_that_is_told_to_stop_is_replaced_in_good_order() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "1"]);
    let ledger = Ledger::new();
    let id = supervised.send(&["shop.ledger", ledger.path(), "once", "1500"]);
    supervised.wait_until_started(&id);
    let old = worker.children();
    signal(old[0], "TERM");
    others(&mut worker, &old);
    result(&supervised, &id);
    assert_eq!(ledger.len(), 1);
    assert_eq!(ended(&worker.drain())["deaths"], 0);
}

#[test]
fn a_process_that_has_too_much_memory_is_relieved() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "2", "--max-memory-per-child", "200MiB"]);
    let old = worker.children();
    let ledger = Ledger::new();
    let under_way = supervised.send(&["shop.ledger", ledger.path(), "under way", "3000"]);
    supervised.wait_until_started(&under_way);
    supervised.send(&["shop.hog_memory", "300"]);
    others(&mut worker, &old);
    result(&supervised, &under_way);
    let ran = ledger.entries();
    assert_eq!((ran.len(), ran[0].pid), (1, old[0]), "the old one finished it");
    assert_eq!(ended(&worker.drain())["deaths"], 0);
}

#[test]
fn a_stopped_process_is_not_taken_for_a_dead_one() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["--health", "health"]);
    let health = supervised.path("health");
    wait_until("all is well", || health.exists().then_some(()));
    let children = worker.children();
    signal(children[0], "STOP");
    wait_within("that it does nothing is noticed", BOUND, || (!health.exists()).then_some(()));
    signal(children[0], "CONT");
    wait_until("all is well again", || health.exists().then_some(()));
    assert_eq!(worker.children(), children);
    assert!(!worker.has_ended());
    worker.drain();
    assert!(!health.exists());
}

/// Unlike one that is stopped, it has no reason to be silent. It has half a minute.
#[test]
fn a_process_that_says_nothing_is_ended_and_replaced() {
    const PATIENCE: Duration = Duration::from_secs(120);
    let supervised = SupervisedWorker::new(SHOP);
    let health = Health::new();
    let mut worker = supervised.worker(&["-c", "1", "--health", &health.address()]);
    let old = worker.children();
    let note = supervised.path("frozen");
    let id = supervised.send(&["shop.freeze", note.to_str().expect("it is text")]);
    let reason = health.wait_until_red();
    assert!(reason.contains(&format!("the process {} has sent nothing for", old[0])), "{reason}");
    wait_within("it is ended", PATIENCE, || is_gone(old[0]).then_some(()));
    assert!(worker.stderr().contains("it is killed and replaced"), "{}", worker.stderr());
    let new = others(&mut worker, &old);
    assert_eq!(result(&supervised, &id), json!(true), "what it had in hand runs again");
    health.wait_until_green();
    assert_eq!(worker.children(), new);
    assert_eq!(ended(&worker.drain())["deaths"], 1);
}

#[test]
fn what_tasks_print_comes_out_where_the_worker_prints() {
    let supervised = SupervisedWorker::new(SHOP);
    let worker = supervised.worker(&[]);
    let id = supervised.send(&["shop.print", "a line of a task"]);
    result(&supervised, &id);
    let finished = worker.drain();
    assert!(finished.stdout.lines().any(|line| line == "a line of a task"), "{finished}");
}

#[test]
fn a_state_folder_that_cannot_be_used_is_named() {
    let supervised = SupervisedWorker::new(SHOP);
    let finished = supervised.app.run(&["worker", "--state-dir", "app/state"]).expect_exit(3);
    for word in ["error: ", "app/state", "--state-dir"] {
        assert!(finished.stderr.contains(word), "{word} is not said\n{finished}");
    }
    supervised.app.run(&["worker", "--unsupervised", "--health", ":0"]).expect_exit(2);
}
