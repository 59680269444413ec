//! The programs of `examples/` do what their heads show, each in an empty folder with nothing configured.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use taskq_tests::harness::{
    Block, Finished, Folder, Process, Step, assert_shown, example, on_terminal, repository, wait_until,
};

/// Every example.
const EXAMPLES: [&str; 10] =
    ["blocking", "cli", "hello", "limits", "producer", "progress", "retries", "state", "testing", "web"];

/// How long an example may be: it is read at one go.
const LINES_MAX: usize = 120;

/// The sessions in the head of an example.
fn sessions(name: &str) -> Vec<Block> {
    let blocks = Block::all_of(&format!("examples/{name}.rs"));
    assert!(!blocks.is_empty() && blocks.iter().all(|block| block.language() == "console"), "{name}: {blocks:?}");
    blocks
}

/// Runs the example as the first command of its head says, and holds what it writes against what is shown there.
fn assert_does_what_it_shows(name: &str, folder: &Folder) -> Finished {
    let session = &sessions(name)[0];
    let step = &session.steps()[0];
    assert_eq!(step.command, format!("cargo run --example {name}"), "{}", session.place);
    let finished = example(name).folder(folder).run(&[]).expect_exit(0);
    assert_shown(&session.place, &step.output, &finished.stdout);
    assert_eq!(finished.stderr, "", "{finished}");
    finished
}

#[test]
fn each_is_short_and_in_the_list() {
    let folder = repository().join("examples");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the examples are there") {
        let path = entry.expect("the folder can be read").path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) else { continue };
        let lines = std::fs::read_to_string(&path).expect("it can be read").lines().count();
        assert!(lines <= LINES_MAX, "examples/{name}.rs has {lines} lines; {LINES_MAX} are enough to show one thing");
        found.push(name.to_owned());
    }
    found.sort();
    assert_eq!(found, EXAMPLES, "the list above, which has a test below for each, and the files");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the package has one");
    for name in EXAMPLES {
        assert!(manifest.contains(&format!("[[example]]\nname = \"{name}\"\npath = \"{name}.rs\"\n")), "{name}");
        // `cargo test` builds examples, and runs the tests of those that ask for it.
        let has_tests =
            std::fs::read_to_string(folder.join(format!("{name}.rs"))).is_ok_and(|it| it.contains("#[cfg(test)]"));
        let asks = manifest.contains(&format!("path = \"{name}.rs\"\ntest = true\n"));
        assert_eq!(has_tests, asks, "{name}: `test = true` in the manifest, and tests in the file");
    }
}

#[test]
fn hello() {
    let folder = Folder::new("hello");
    assert_does_what_it_shows("hello", &folder);
    assert!(folder.path().join("taskq.db").is_file(), "with nothing configured it is a file here");
    // What it left there is in nobody's way.
    assert_does_what_it_shows("hello", &folder);
}

#[test]
fn producer() {
    let folder = Folder::new("producer");
    let finished = assert_does_what_it_shows("producer", &folder);
    // Its worker is the example `cli`, and may begin later.
    let cli = example("cli").folder(&folder);
    let mut worker = cli.start(&["worker"]);
    worker.wait_until_ready();
    let ids: Vec<&str> = finished.stdout.lines().filter_map(|line| line.split(' ').next_back()).collect();
    for (id, greeting) in ids.iter().zip(["Hello, Ada", "Hello, Grace"]) {
        assert_eq!(cli.run(&["result", id, "--wait=60s"]).expect_exit(0).json()["value"], greeting);
    }
    assert_eq!(ids.len(), 2);
    worker.drain();
}

#[test]
fn retries() {
    assert_does_what_it_shows("retries", &Folder::new("retries"));
}

#[test]
fn limits() {
    assert_does_what_it_shows("limits", &Folder::new("limits"));
}

#[test]
fn progress() {
    assert_does_what_it_shows("progress", &Folder::new("progress"));
}

#[test]
fn state() {
    assert_does_what_it_shows("state", &Folder::new("state"));
}

/// The program; the example's tests run with all others.
#[test]
fn testing() {
    assert_does_what_it_shows("testing", &Folder::new("testing"));
    assert_eq!(sessions("testing")[1].steps()[0].command, "cargo test --example testing");
}

#[test]
fn blocking() {
    assert_does_what_it_shows("blocking", &Folder::new("blocking"));
}

/// The whole session of its head, on a terminal.
#[test]
fn cli() {
    let session = &sessions("cli")[0];
    let mut steps = session.steps();
    assert!(steps.remove(0).command.starts_with("cargo build --example cli; PATH="), "it is built and found already");
    // Each command is shown before its output, as a person sees it.
    let echo = |step: &Step| format!("echo '$ {}'\n{}\n", step.command.replace('\'', r"'\''"), step.command);
    let script: String = steps.iter().map(echo).collect();
    let shown: String = steps.iter().map(|step| format!("$ {}\n{}", step.command, step.output)).collect();
    let finished = on_terminal(&Folder::new("cli"), &script);
    assert_shown(&session.place, &shown, &finished.stdout);
}

/// A running web server of the example.
struct Web {
    process: Process,
    address: String,
}

impl Web {
    fn start(folder: &Folder) -> Self {
        let mut process = example("web").folder(folder).start(&["127.0.0.1:0"]);
        let address = process.wait_for("it listens", |process| {
            process.stdout().trim_end().strip_prefix("listening on http://").map(str::to_owned)
        });
        Self { process, address }
    }

    /// The status, the head and the body of the answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no HTTP: {answer}")), head.to_owned(), body.to_owned())
    }

    /// Orders a report, and gives the place where to ask for it.
    fn order(&self, title: &str, rows: u32) -> String {
        let (status, head, body) = self.ask("POST", "/reports", &json!({ "title": title, "rows": rows }).to_string());
        assert_eq!(status, 202, "{head}\n{body}");
        let body: Value = serde_json::from_str(&body).expect("it is JSON");
        let place = format!("/reports/{}", body["id"].as_str().expect("it has an id"));
        assert!(head.contains(&format!("\r\nlocation: {place}\r\n")), "{head}");
        place
    }

    fn look(&self, place: &str) -> Value {
        let (status, head, body) = self.ask("GET", place, "");
        assert_eq!(status, 200, "{head}\n{body}");
        serde_json::from_str(&body).expect("it is JSON")
    }

    fn stop(self) {
        let finished = self.process.drain();
        assert!(finished.stdout.ends_with("\nstopped in good order\n"), "{finished}");
    }
}

fn has_shown_something(status: &Value) -> bool {
    status["state"] == "PROGRESS" || status["state"] == "SUCCESS"
}

#[test]
fn web() {
    let session = &sessions("web")[0];
    assert_shown(&session.place, &session.steps()[0].output, "listening on http://127.0.0.1:3000\n");
    let folder = Folder::new("web");
    let web = Web::start(&folder);
    // Who looks late sees only the end, so it is tried until somebody came in time.
    wait_until("progress is seen", || {
        let place = web.order("April", 300);
        let begun = wait_until("it runs", || Some(web.look(&place)).filter(has_shown_something));
        (begun["state"] == "PROGRESS" && begun["progress"]["total"] == 300).then_some(())
    });
    let place = web.order("May", 300);
    let ended =
        wait_until("the report is there", || Some(web.look(&place)).filter(|status| status["state"] == "SUCCESS"));
    assert_eq!((&ended["report"], &ended["error"]), (&json!("May: 300 rows, 45150 in all"), &Value::Null));

    assert_eq!(web.ask("POST", "/reports", "{\"title\": 7}").0, 422);
    assert_eq!(web.ask("GET", &format!("/reports/{}", "x".repeat(300)), "").0, 404);
    assert_eq!(web.look("/reports/of-nobody")["state"], "PENDING");

    // What was begun is finished before it ends, and known to the one that comes after.
    let place = web.order("June", 500);
    wait_until("it has begun", || Some(web.look(&place)).filter(has_shown_something));
    web.stop();
    let web = Web::start(&folder);
    assert_eq!(web.look(&place)["report"], "June: 500 rows, 125250 in all");

    // What was killed is done anew by the one that comes after.
    let place = web.order("July", 500);
    wait_until("it has begun", || Some(web.look(&place)).filter(has_shown_something));
    web.process.kill();
    let web = Web::start(&folder);
    let ended = wait_until("it is done anew", || Some(web.look(&place)).filter(|status| status["state"] == "SUCCESS"));
    assert_eq!(ended["report"], "July: 500 rows, 125250 in all");
    web.stop();
}
