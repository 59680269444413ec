//! The log and the answers of commands, when strangers choose the names, ids and errors that are in them. On the
//! embedded file.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use taskq::canvas::ArgumentList;
use taskq::internal::shown::is_hidden;
use taskq::{Call, Client};
use taskq_tests::harness::{Embedded, Finished, Folder, Process, block_on, on_terminal};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// A text that clears the screen, forges a line of each format, writes backwards, and has letters that are not seen.
const HOSTILE: &str = "Ä\x1b[2J\x1b]0;title\x07\r\n{\"level\":\"INFO\",\"message\":\"forged\"}\r\n\
                       2026-01-01T00:00:00Z  INFO taskq: forged\n\u{9b}2J\u{202e}\u{200b}\u{feff}\u{2028}z";

/// A worker that says soon that it does not know a task.
fn worker(file: &Embedded, arguments: &[&str]) -> Process {
    let app = file.app(SHOP).folder(file.folder()).env("TASKQ_UNKNOWN_TASK_GRACE", "1s").env("RUST_BACKTRACE", "0");
    let mut worker = app.start(&[&["worker", "-c", "4"], arguments].concat());
    worker.wait_until_ready();
    worker
}

/// Sends tasks whose names, ids, arguments and errors are hostile, and waits until all have ended.
fn send_hostile(file: &Embedded, worker: &mut Process) {
    let app = file.app(SHOP).folder(file.folder());
    let calls = [
        ("shop.fail", "fails"),
        ("shop.panic", "panics"),
        ("shop.plain_panic", "panics in a thread"),
        ("shop.add", "does not fit"),
        ("shop.cancel", "is revoked"),
        (HOSTILE, "is not known"),
    ];
    for (name, id) in calls {
        let id = format!("{id} {HOSTILE}");
        app.run(&["call", name, HOSTILE, "--id", &id, "--foreign"]).expect_exit(0);
    }
    worker.wait_for("all have ended", |_| (file.ends().len() == calls.len()).then_some(()));
}

fn end(worker: Process) -> Finished {
    worker.signal("TERM");
    worker.finish().expect_exit(0)
}

#[test]
fn no_task_forges_a_line_of_text() {
    let file = Embedded::new();
    for arguments in [&["--state-dir", "state"][..], &["--unsupervised"]] {
        let mut worker = worker(&file, arguments);
        send_hostile(&file, &mut worker);
        let ended = end(worker);
        for line in ended.stderr.lines() {
            assert!(!line.chars().any(is_hidden), "{line:?} would do something to a terminal\n{ended}");
            let mut words = line.split_ascii_whitespace().skip(1);
            let (level, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            assert!(["ERROR", "WARN", "INFO"].contains(&level) && target.starts_with("taskq"), "{line:?} is forged");
            assert_ne!(target, "taskq:", "{line:?} is forged");
        }
        for said in ["taskq::panic: thread '", "failed for good", "no task of this name", "Ä\\u{1b}[2J\\u{1b}]0;title"]
        {
            assert!(ended.stderr.contains(said), "{said:?} is not said\n{ended}");
        }
        std::fs::remove_file(file.path()).expect("it was made");
    }
}

#[test]
fn no_task_forges_a_document_of_json() {
    let file = Embedded::new();
    let mut worker = worker(&file, &["--log-format", "json", "--state-dir", "state"]);
    send_hostile(&file, &mut worker);
    let ended = end(worker);
    let mut panics = 0;
    assert!(!ended.stderr.chars().any(|sign| sign != '\n' && is_hidden(sign)), "{ended}");
    for document in ended.json_of_stderr() {
        assert!(document["timestamp"].is_string() && document["message"] != "forged", "{document}");
        if document["target"] == "taskq::panic" {
            panics += 1;
            // As it was, once it is read as JSON.
            assert!(document["message"].as_str().is_some_and(|text| text.ends_with(HOSTILE)), "{document}");
        }
    }
    assert_eq!(panics, 2, "{ended}");
    // Nor do the errors of commands.
    let app = file.app(SHOP).folder(file.folder());
    let refused = app.env("TASKQ_BROKER_URL", "nowhere:").run(&["beat", "--log-format", "json"]).expect_exit(3);
    assert_eq!(refused.json_of_stderr()[0]["level"], "ERROR", "{refused}");
}

#[test]
fn what_dies_at_its_start_leaves_documents_and_one_error() {
    let file = Embedded::new();
    let app = file.app(SHOP).folder(file.folder()).env("SHOP_PANICS_AT_START", HOSTILE);
    let ended = app.run(&["worker", "--state-dir", "state", "--log-format", "json"]).expect_exit(9);
    let last = ended.json_of_stderr().pop().expect("it says something");
    let told = last["message"].as_str().expect("it is a text");
    assert!(told.contains("its last lines: ") && told.contains("panicked at") && !told.contains('\n'), "{told}");
}

#[test]
fn a_panic_hook_of_the_program_is_called_beside_the_log() {
    let file = Embedded::new();
    let app = file.app(SHOP).folder(file.folder()).env("SHOP_HOOKS_PANICS", "the program was told");
    let app = app.env("RUST_BACKTRACE", "0");
    let mut worker = app.start(&["worker", "--unsupervised"]);
    worker.wait_until_ready();
    app.run(&["call", "shop.panic", "sold out", "--wait=60s"]).expect_exit(1);
    let ended = end(worker);
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("panic")).collect();
    let [logged, recorded] = lines[..] else { panic!("a line of the panic, and one of the task\n{ended}") };
    assert!(logged.contains("taskq::panic: thread ") && logged.ends_with(": sold out"), "{logged}");
    assert!(recorded.contains("failed for good"), "{recorded}");
    assert_eq!(ended.stderr.lines().filter(|line| *line == "the program was told").count(), 1, "{ended}");
}

/// Returns the answers of these commands on a terminal.
fn on_screen(file: &Embedded, commands: &[&str]) -> String {
    let url = file.url();
    let set = format!("export TASKQ_BROKER_URL={url} TASKQ_RESULT_URL={url}\n");
    let script: String = commands.iter().map(|command| format!("'{SHOP}' {command}\n")).collect();
    on_terminal(&Folder::new("logs"), &(set + &script)).stdout
}

#[test]
fn no_task_controls_the_terminal_of_the_command_line() {
    let file = Embedded::new();
    let mut worker = worker(&file, &["--unsupervised"]);
    send_hostile(&file, &mut worker);
    let app = file.app(SHOP).folder(file.folder());
    app.run(&["call", "shop.echo", HOSTILE, "--id", "echo", "--wait=60s"]).expect_exit(0);
    end(worker);
    let id = format!("\"$(printf 'fails {}')\"", HOSTILE.replace('\\', "\\\\").replace('\x1b', "\\033"));
    let commands = [
        "dead list".to_owned(),
        "dead list --all".to_owned(),
        "result echo".to_owned(),
        "status echo".to_owned(),
        format!("status {id}"),
        format!("result {id}"),
        format!("dead show {id}"),
        format!("dead drop {id} </dev/null"),
        format!("queues list -Q {id}"),
        "dead list --all --json".to_owned(),
        "result echo --json".to_owned(),
    ];
    for command in &commands {
        let shown = on_screen(&file, &[command]);
        assert!(!shown.chars().any(|sign| sign != '\n' && is_hidden(sign)), "{command}: {shown:?}");
        let is_forged = |line: &str| line.starts_with("{\"level\"") || line.starts_with("2026-01-01");
        assert!(!shown.lines().any(is_forged), "{command}: {shown}");
        assert!(
            ["dead drop", "queues"].iter().any(|verb| command.starts_with(verb)) || shown.contains('Ä'),
            "{command}: {shown}"
        );
    }
    // A pipe gets the very values.
    assert_eq!(app.run(&["result", "echo"]).expect_exit(0).json()["value"], HOSTILE);
    let dead = app.run(&["dead", "list", "--all"]).expect_exit(0).json_lines();
    let ids: BTreeSet<&str> = dead.iter().filter_map(|entry| entry["id"].as_str()).collect();
    assert!(ids.contains(&*format!("fails {HOSTILE}")), "{ids:?}");
}

#[test]
fn a_flood_of_unknown_tasks_is_counted_in_the_log() {
    const SENT: usize = 2000;
    let file = Embedded::new();
    let mut worker = worker(&file, &["--log-format", "json", "--state-dir", "state"]);
    let long = "x".repeat(900);
    let arguments = || ArgumentList::from_json(&["sold out".into()], &Map::new()).expect("a text is JSON");
    let unknown = (0..SENT).map(|number| Call::<Value>::named(format!("no.such_{number}_{long}"), arguments()));
    // A task that fails once is seen beside one that fails again and again.
    let known = ["shop.fail"].into_iter().chain(std::iter::repeat_n("shop.fail_retried", 30));
    let known = known.map(|name| Call::<Value>::named(name, arguments()));
    block_on(async {
        let client = Client::builder().broker(file.url()).results(file.url()).build().await.expect("the file is there");
        client.send_all(unknown.chain(known)).await.all().expect("all are sent");
        client.close().await;
    });
    worker.wait_for("all have ended", |_| (file.ends().len() == SENT + 31).then_some(()));
    let ended = end(worker);
    assert!(ended.stderr.len() < 1_000_000, "{} bytes of log", ended.stderr.len());
    let documents = ended.json_of_stderr();
    let of_task = |task: &str, message: &str| {
        let of_it = |line: &&Value| line["task"] == task && line["message"] == message;
        documents.iter().filter(of_it).count()
    };
    assert_eq!(of_task("shop.fail", "failed for good"), 1, "{ended}");
    assert_eq!(of_task("shop.fail_retried", "failed for good"), 20, "{ended}");
    let says = |line: &&Value, words: &str| line["message"].as_str().is_some_and(|text| text.contains(words));
    let counted = |words: &str| -> u64 {
        let sums = documents.iter().filter(|line| line["target"] == "taskq::log" && says(line, words));
        sums.map(|line| line["count"].as_u64().expect("it is a number")).sum()
    };
    assert_eq!(counted(": failed for good"), 10, "{ended}");
    let written = documents.iter().filter(|line| line["message"] == "not run").count() as u64;
    assert_eq!(written + counted(": not run"), SENT as u64, "{ended}");
    assert!(counted(": no task of this name") > SENT as u64 / 2, "{ended}");
}

#[test]
fn with_the_level_debug_every_line_is_written() {
    let file = Embedded::new();
    let mut worker = worker(&file, &["-l", "debug", "--unsupervised"]);
    let app = file.app(SHOP).folder(file.folder());
    for _ in 0..25 {
        app.run(&["call", "shop.fail", "sold out"]).expect_exit(0);
    }
    worker.wait_for("all have ended", |_| (file.ends().len() == 25).then_some(()));
    let ended = end(worker);
    assert_eq!(ended.stderr.lines().filter(|line| line.contains("failed for good")).count(), 25, "{ended}");
}
