//! `torture`, a short selection of it: the promise holds, the verdict says so, and it says so only where it does.

use serde_json::{Value, json};
use taskq_tests::harness::{Finished, Folder, Servers, Vhost, taskq};

fn torture(arguments: &[&str]) -> Option<Finished> {
    let vhost = Vhost::create(&Servers::from_env()?)?;
    let all: Vec<&str> = ["torture", "--json", "--seed", "1"].iter().chain(arguments).copied().collect();
    Some(taskq().servers(&vhost.servers).run(&all))
}

fn counts(verdict: &Value) -> Value {
    let names = ["held", "lost", "stuck", "unexpected", "examples"];
    names.iter().map(|name| ((*name).to_owned(), verdict[name].clone())).collect()
}

/// Everything was kept, and something was there to be broken.
fn held(ended: Finished, strikes: u64) -> Value {
    let verdict = ended.expect_exit(0).json();
    let expected = json!({ "held": true, "lost": 0, "stuck": 0, "unexpected": 0, "examples": [] });
    assert_eq!(counts(&verdict), expected, "{verdict:#}");
    assert_eq!(verdict["ok"], verdict["acknowledged"], "{verdict:#}");
    assert_eq!(verdict["strikes"], strikes, "{verdict:#}");
    verdict
}

#[test]
fn workers_are_killed_and_replaced() {
    let Some(ended) = torture(&["--fault", "kill", "--fault", "replace", "--times", "1", "--tasks", "400"]) else {
        return;
    };
    let verdict = held(ended, 2);
    assert_eq!(verdict["acknowledged"], 400);
    assert!(verdict["deaths"].as_u64() >= Some(1), "{verdict:#}");
    println!("{verdict}");
}

#[test]
fn confirms_are_lost_and_messages_are_broken() {
    let faults = ["--fault", "lost-confirms", "--fault", "unroutable", "--fault", "malformed", "--fault", "panic"];
    let all: Vec<&str> = faults.into_iter().chain(["--times", "1", "--tasks", "400"]).collect();
    let Some(ended) = torture(&all) else { return };
    let verdict = held(ended, 3);
    assert_eq!(verdict["figures"]["unroutable_refused"], 20, "{verdict:#}");
    assert!(verdict["attempted"].as_u64() > Some(1400), "{verdict:#}");
    println!("{verdict}");
}

#[test]
fn a_fault_that_could_not_strike_is_no_good_verdict() {
    let hook = ["--fault", "restart-results", "--restart-results", "exit 3", "--times", "1", "--tasks", "50"];
    let Some(ended) = torture(&hook) else { return };
    let verdict = ended.expect_exit(10).json();
    assert_eq!((&verdict["held"], &verdict["lost"]), (&json!(false), &json!(0)), "{verdict:#}");
    assert!(verdict["hindered"][0].as_str().is_some_and(|why| why.contains("exit 3")), "{verdict:#}");
    let folder = verdict["folder"].as_str().expect("what there is to look at is kept");
    assert!(std::fs::read_to_string(format!("{folder}/ledger")).expect("it is there").contains("acknowledged"));
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn the_embedded_file_is_tortured_too() {
    let folder = Folder::new("torture");
    let app = taskq().folder(&folder);
    let app = app.env("TASKQ_BROKER_URL", "sqlite:taskq.db").env("TASKQ_RESULT_URL", "sqlite:taskq.db");
    let all = ["torture", "--json", "--seed", "1", "--fault", "replace", "--times", "1", "--tasks", "300"];
    held(app.run(&all), 1);
    let impossible = app.run(&["torture", "--fault", "resets"]).expect_exit(2);
    assert!(impossible.stderr.contains("the fault resets needs an amqp:// or amqps:// broker"), "{impossible}");
    let listed = app.run(&["torture", "--list"]).expect_exit(0).json_lines();
    assert!(listed.iter().any(|row| row["name"] == "resets"), "{listed:?}");
}
