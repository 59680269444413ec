//! The answers of commands when something is wrong with the question, or with the place of the answer. On the embedded
//! file.

use serde_json::{Value, json};
use taskq_tests::harness::{App, Finished, Folder, signal};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

fn shop(folder: &Folder) -> App {
    App::new(SHOP).folder(folder)
}

/// The shop by way of a shell that ends with these words, which may redirect.
fn redirected(folder: &Folder, how: &str) -> App {
    shop(folder).by(&["sh", "-c", &format!("exec \"$0\" \"$@\" {how}")])
}

/// The number of messages that wait in the default queue.
fn waiting(shop: &App) -> Value {
    let rows = shop.run(&["queues", "list"]).expect_exit(0).json_lines();
    rows.into_iter().find(|row| row["queue"] == "default").expect("it is listed")["ready"].clone()
}

fn assert_error(finished: &Finished, words: &[&str]) {
    let error =
        finished.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{finished}"));
    for word in words {
        assert!(error.contains(word), "{word:?} is not said\n{finished}");
    }
}

#[test]
fn what_is_done_is_told_where_the_answer_cannot_be_written() {
    let folder = Folder::new("answers");
    let (shop, full) = (shop(&folder), redirected(&folder, ">/dev/full"));
    let unwritten = "cannot be written";
    let sent = full.run(&["call", "shop.add", "2", "3", "--id", "first"]).expect_exit(11);
    assert_error(&sent, &["task first was sent", unwritten]);
    assert_eq!(waiting(&shop), 1, "once, and a script need not send it again");
    let slots = ["schedule", "add", "tidy", "shop.add", "2", "3", "--every", "1h"];
    assert_error(&full.run(&slots).expect_exit(11), &["tidy is added", unwritten]);
    assert_error(&full.run(&["schedule", "pause", "tidy"]).expect_exit(11), &["1 entries are paused", unwritten]);
    assert_error(&full.run(&["schedule", "run", "tidy"]).expect_exit(11), &["was sent", unwritten]);
    assert_error(&full.run(&["schedule", "remove", "tidy", "--yes"]).expect_exit(11), &["is removed", unwritten]);
    assert_error(
        &full.run(&["queues", "purge", "default", "--yes"]).expect_exit(11),
        &["2 messages removed", unwritten],
    );
    assert_error(&full.run(&["dead", "retry", "--all"]).expect_exit(11), &["0 dead tasks were put back", unwritten]);
    for question in [
        &["status", "first"][..],
        &["queues", "list"],
        &["tasks"],
        &["check"],
        &["--help"],
        &["call", "--help"],
        &["--version"],
    ] {
        assert_error(&full.run(question).expect_exit(11), &[unwritten]);
    }
    // Wrong use is wrong use, wherever the answer goes.
    full.run(&["dance"]).expect_exit(2);

    let mut worker = shop.start(&["worker", "--state-dir", "state"]);
    worker.wait_until_ready();
    let ended = full.run(&["call", "shop.add", "2", "3", "--id", "second", "--wait=60s"]).expect_exit(11);
    assert_error(&ended, &["task second has ended as SUCCESS", unwritten]);
    assert_error(&full.run(&["result", "second"]).expect_exit(11), &["SUCCESS", unwritten]);
    assert_error(&full.run(&["watch", "second"]).expect_exit(11), &[unwritten]);
    worker.drain();
    // A worker or a beat goes on without these lines.
    let worker = full.start(&["worker", "--state-dir", "state"]);
    let third = shop.run(&["call", "shop.add", "2", "4", "--wait=60s"]).expect_exit(0);
    assert_eq!(third.json()["value"], 6);
    worker.drain();
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let folder = Folder::new("answers");
    // The first reads nothing at all.
    for reader in ["true", "head -n 1"] {
        let quiet = shop(&folder).by(&["sh", "-c", &format!("{{ \"$0\" \"$@\"; echo $? >&2; }} | {reader}")]);
        let finished = quiet.run(&["tasks"]).expect_exit(0);
        assert_eq!(finished.stderr, "0\n", "{finished}");
    }
}

#[test]
fn tasks_may_print_though_nobody_reads_any_more() {
    for flags in [&["--state-dir", "state"][..], &["--unsupervised"]] {
        let folder = Folder::new("answers");
        let shop = shop(&folder);
        let first = shop.clone().by(&["sh", "-c", "\"$0\" \"$@\" 2>&1 | grep -m 1 '\"ready\"'"]);
        let mut worker = first.start(&[&["worker"], flags].concat());
        let ready = worker.wait_until_ready();
        for number in 0..3 {
            let printed = shop.run(&["call", "shop.print", &format!("line {number}"), "--wait=60s"]).expect_exit(0);
            let printed = printed.json();
            assert_eq!((&printed["state"], &printed["attempt"]), (&json!("SUCCESS"), &json!(0)), "{flags:?}");
        }
        signal(u32::try_from(ready["pid"].as_u64().expect("it is named")).expect("it is one"), "TERM");
        worker.finish().expect_exit(0);
    }
}

#[test]
fn arguments_and_names_are_checked_before_anything_is_sent() {
    let folder = Folder::new("answers");
    let shop = shop(&folder);
    for (call, words) in [
        (&["shop.add", "2"][..], &["`y: i64`", "nothing was sent"][..]),
        (&["shop.add", "2", "3", "4"], &["nothing was sent"]),
        (&["shop.add", "two", "3"], &["x", "i64", "nothing was sent"]),
        (&["shop.add", "2", "--kwargs", "{\"z\": 3}"], &["z", "nothing was sent"]),
        (&["shop.letter", "42"], &["text", "'\"42\"'"]),
        (&["shop.ad", "2", "3"], &["no task `shop.ad`", "did you mean `shop.add`?", "--foreign"]),
        (&["shop.forgotten", "2", "--wait"], &["stores no result", "--wait"]),
    ] {
        assert_error(&shop.run(&[&["call"], call].concat()).expect_exit(2), words);
    }
    assert!(!folder.path().join("taskq.db").exists(), "nothing was even connected");
    for call in [
        &["shop.add", "2", "3"][..],
        &["shop.add", "2", "--kwargs", "{\"y\": 3}"],
        &["shop.add", "2", "3", "4", "--foreign"],
        &["shop.ad", "2", "3", "--foreign"],
        &["elsewhere.add", "2"],
        &["shop.forgotten", "2"],
    ] {
        shop.run(&[&["call"], call].concat()).expect_exit(0);
    }
    assert_eq!(waiting(&shop), 6);
}

#[test]
fn only_what_is_dead_is_asked_about() {
    let folder = Folder::new("answers");
    let shop = shop(&folder);
    let mut worker = shop.start(&["worker", "--state-dir", "state"]);
    worker.wait_until_ready();
    for id in ["a", "b"] {
        shop.run(&["call", "shop.fail", "no stock", "--id", id, "--wait=60s"]).expect_exit(1);
    }
    worker.drain();
    for nobody in [&["nope"][..], &["nope", "neither"], &["--error", "0123456789abcdef"]] {
        let missing = shop.run(&[&["dead", "drop"], nobody].concat()).expect_exit(5);
        assert!(!missing.stderr.contains("--yes"), "there is nothing to be confirmed\n{missing}");
        shop.run(&[&["dead", "retry"], nobody].concat()).expect_exit(5);
    }
    for (selection, words) in [
        (&["a"][..], "this discards 1 dead task for ever; add --yes"),
        (&["a", "nope"], "this discards 1 dead task for ever (1 of the named ones are not dead)"),
        (&["--all"], "this discards 2 dead tasks for ever"),
    ] {
        assert_error(&shop.run(&[&["dead", "drop"], selection].concat()).expect_exit(2), &[words]);
    }
    let dropped = shop.run(&["dead", "drop", "a", "--yes"]).expect_exit(0);
    assert_eq!(dropped.json(), json!({ "done": "dropped", "count": 1 }));
}
