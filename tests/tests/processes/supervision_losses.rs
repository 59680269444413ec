//! The findings of a supervised worker about the tasks of its processes: which of them ran when one died, how many it
//! has done, whether it takes any.

use serde_json::json;
use taskq_tests::harness::{Folder, Ledger, PrivateServers, Server, SupervisedWorker, unique, wait_until, wait_within};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// How many losses wait to be written down.
fn waiting(supervised: &SupervisedWorker) -> usize {
    let files = supervised.states().into_iter().flat_map(|state| {
        let folder = supervised.path("state").join(state);
        std::fs::read_dir(folder).into_iter().flatten().flatten()
    });
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "loss")).count()
}

#[test]
fn the_log_says_what_a_dead_process_was_running_and_who_did_it() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "2"]);
    let neighbour = supervised.send(&["shop.slow", "600000"]);
    supervised.wait_until_started(&neighbour);
    let culprit = supervised.send(&["shop.abort"]);
    let line = worker.wait_for("the death is told", |worker| {
        worker.stderr().lines().find(|line| line.contains("it was running")).map(str::to_owned)
    });
    assert!(line.contains(&format!("shop.slow[{neighbour}] (for ")), "{line}");
    let (_, rest) = line.split_once(&format!("shop.abort[{culprit}] (")).expect("the other one is told, too");
    assert!(rest.split(')').next().is_some_and(|words| words.contains("which crashed")), "{line}");
    worker.wait_for("the loss is written down", |_| (waiting(&supervised) == 0).then_some(()));
    worker.signal("QUIT");
    worker.finish().expect_exit(8);
}

#[test]
fn what_a_dead_group_was_running_is_written_down_by_the_next() {
    let supervised = SupervisedWorker::new(SHOP);
    let id = supervised.killed_at_work();
    let left = supervised.states();
    let mut next = supervised.worker(&["-c", "1"]);
    let told = format!("a process whose end no supervisor saw was running shop.slow[{id}]");
    next.wait_for("it is told", |next| next.stderr().contains(&told).then_some(()));
    next.wait_for("it is written down", |_| (waiting(&supervised) == 0).then_some(()));
    assert!(!supervised.states().contains(&left[0]), "and what was left is gone");
    next.signal("QUIT");
    next.finish().expect_exit(8);
    assert_eq!(supervised.states(), [] as [&str; 0]);
}

#[test]
fn a_process_that_has_done_enough_is_relieved_and_no_task_is_lost_or_repeated() {
    const TASKS: usize = 120;
    let supervised = SupervisedWorker::new(SHOP);
    let worker = supervised.worker(&["--processes", "2", "-c", "2", "--max-tasks-per-child", "10"]);
    let first = worker.children();
    let ledger = Ledger::new();
    let ids: Vec<_> =
        (0..TASKS).map(|n| supervised.send(&["shop.ledger", ledger.path(), &format!("task {n}"), "150"])).collect();
    for id in &ids {
        supervised.app.run(&["result", id, "--wait=60s"]).expect_exit(0);
    }
    let counts = ledger.counts();
    assert_eq!((counts.len(), counts.values().max()), (TASKS, Some(&1)), "each ran once");
    assert!(ledger.entries().iter().any(|entry| !first.contains(&entry.pid)), "some were relieved");
    let ended = worker.drain().json_lines().pop().expect("the last line is the summary");
    assert_eq!((&ended["succeeded"], &ended["deaths"]), (&json!(TASKS), &json!(0)));
}

/// The process for suspects takes one queue at a time, so that a task in a second one is no bystander.
#[test]
fn suspects_of_several_queues_have_their_turn() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "2", "-Q", "one,two,three"]);
    let ids = ["one", "two", "three"].map(|queue| supervised.send(&["shop.abort", "--queue", queue]));
    for id in &ids {
        worker.wait_for("it is given up", |_| {
            let status = supervised.app.run(&["status", id]).expect_exit(0).json();
            (status["state"] == "FAILURE").then_some(())
        });
    }
    println!("{}", worker.stderr().lines().filter(|line| line.contains("alone")).collect::<Vec<_>>().join("\n"));
    worker.drain();
}

#[test]
fn health_is_red_while_rabbitmq_is_away_and_nobody_has_to_do_anything() {
    health_while_away(Server::Rabbit);
}

#[test]
fn health_is_red_while_redis_is_away_and_nobody_has_to_do_anything() {
    health_while_away(Server::Redis);
}

fn health_while_away(server: Server) {
    // Longer than a short outage, which is not told.
    const AWAY_SECONDS: u32 = 40;
    let Some(own) = PrivateServers::start() else { return };
    let supervised = SupervisedWorker::new(SHOP);
    let here = Folder::new("health");
    let health = here.path().join("health");
    let queue = unique("health");
    let app = supervised.app.clone().servers(&own.servers).env("TASKQ_DEFAULT_QUEUE", &queue);
    let mut worker = supervised.worker_of(&app, &["--health", health.to_str().expect("it is text")]);
    let children = worker.children();
    wait_until("all is well", || health.exists().then_some(()));
    // It ends meanwhile: a result backend is missed when there is something to store.
    let slow = app.run(&["call", "shop.slow", "8000"]).expect_exit(0).json();
    let slow = slow["id"].as_str().expect("a call answers with an id").to_owned();
    wait_until("it has started", || {
        (app.run(&["status", &slow]).expect_exit(0).json()["state"] == "STARTED").then_some(())
    });
    std::thread::scope(|threads| {
        threads.spawn(|| own.take_away(server, AWAY_SECONDS));
        wait_within("that the server is away is told", taskq_tests::harness::BOUND, || {
            (!health.exists()).then_some(())
        });
    });
    wait_until("all is well again", || health.exists().then_some(()));
    app.run(&["result", &slow, "--wait=60s"]).expect_exit(0);
    assert_eq!(worker.children(), children, "the same process as before");
    assert!(!worker.has_ended());
    worker.drain();
}
