//! Crates outside of this workspace, as a stranger would write them: one with the README's first program, and one whose
//! program is the worker and the command line, with `taskq` and `taskq-worker` as its only dependencies.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use taskq_tests::harness::{App, Block, Folder, Servers, assert_shown, repository, unique, wait_until};

const LIBRARY: &str = r#"
use std::fmt;

use taskq::{Context, task};

#[derive(Debug)]
pub struct MailError(String);

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the mail was not sent: {}", self.0)
    }
}

impl std::error::Error for MailError {}

pub type ImageError = std::io::Error;

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(queue = "mail", retries = 5, backoff = "1s..5m", soft_time_limit = "20s", time_limit = "30s")]
pub async fn welcome(ctx: &Context, user_id: u64) -> Result<(), MailError> {
    ctx.progress(1, 3, "rendering");
    if user_id == 0 && ctx.retries() == 0 {
        return Err(MailError("nobody has the number 0".to_owned()));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    ctx.progress(3, 3, "sent");
    Ok(())
}

#[task]
pub fn thumbnail(path: String, width: u32) -> Result<String, ImageError> {
    let small = format!("{path}.{width}");
    std::fs::copy(&path, &small)?;
    Ok(small)
}
"#;

const PROGRAM: &str = "use my_app as _;\n\nfn main() -> std::process::ExitCode {\n    taskq_worker::main()\n}\n";

/// A crate in a folder of its own.
struct Outside(Folder);

impl Outside {
    /// A crate of this name. What it depends on is a table of its manifest.
    fn write(name: &str, dependencies: &str, files: &[(&str, &str)]) -> Self {
        let workspace = repository();
        let outside = Self(Folder::new("outside"));
        let write = |name: &str, text: &str| {
            let path = outside.0.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it is in a folder"))
                .expect("the temporary folder can be written");
            std::fs::write(path, text).expect("the temporary folder can be written");
        };
        // This is the clone beside it. The profile is that of the workspace, so that what is built already can be used.
        let dependencies = dependencies.replace("\"../taskq/", &format!("\"{}/", workspace.display()));
        write(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
                 [lints.rust]\nwarnings = \"deny\"\n\n{dependencies}\n\
                 [profile.dev]\ndebug = \"line-tables-only\"\n\n[profile.dev.package.\"*\"]\ndebug = false\n"
            ),
        );
        for (name, text) in files {
            write(name, text);
        }
        // The workspace's own versions: those are on this machine, whatever is newest elsewhere.
        std::fs::copy(workspace.join("Cargo.lock"), outside.0.path().join("Cargo.lock"))
            .expect("the workspace is locked");
        outside
    }

    /// Builds it, and gives its program, to be run in the crate's folder.
    fn build(&self, name: &str) -> App {
        let folder = Path::new(env!("CARGO_BIN_EXE_shop")).parent().expect("a program is in a folder");
        let target = folder.parent().expect("the folder of a profile is in the target folder");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--offline", "--target-dir"]).arg(target).current_dir(&self.0);
        let output = build.output().expect("cargo can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        App::new(target.join("debug").join(name)).folder(&self.0)
    }
}

/// The first block of this language in a section of the README, with the words.
fn readme(section: &str, language: &str, words: &str) -> Block {
    let text = std::fs::read_to_string(repository().join("README.md")).expect("there is one");
    let begin = text.lines().position(|line| line == format!("## {section}")).expect("the README has this section");
    let below = |block: &Block| {
        let line = block.place.rsplit(':').next().and_then(|line| line.parse::<usize>().ok());
        line.is_some_and(|line| line > begin + 1)
    };
    let is_it = |block: &Block| below(block) && block.language() == language && block.text.contains(words);
    Block::all_of("README.md").into_iter().find(is_it).expect("the section has such a block")
}

/// How long the README's first program may be.
const FIRST_PROGRAM_LINES_MAX: usize = 15;

/// The README's first program in an empty crate, with nothing configured and on servers.
#[test]
fn the_first_program_of_the_readme_does_what_is_shown() {
    let section = "Quick start";
    let dependencies = readme(section, "toml", "[dependencies]").text;
    let program = readme(section, "rust", "fn main").text;
    let session = readme(section, "console", "cargo run");
    let lines = program.lines().count();
    assert!(lines <= FIRST_PROGRAM_LINES_MAX, "{lines} lines are more than {FIRST_PROGRAM_LINES_MAX}:\n{program}");

    let outside = Outside::write("first-program", &dependencies, &[("src/main.rs", &program)]);
    let app = outside.build("first-program");
    let step = &session.steps()[0];
    assert_eq!(step.command, "cargo run");
    for _ in ["in an empty folder", "beside what the first run left there"] {
        let finished = app.run(&[]).expect_exit(0);
        assert_shown(&session.place, &step.output, &finished.stdout);
        assert_eq!(finished.stderr, "", "{finished}");
    }
    assert!(outside.0.path().join("taskq.db").is_file(), "it used the file");

    let Some(servers) = Servers::from_env() else { return };
    let finished = app.servers(&servers).env("TASKQ_DEFAULT_QUEUE", &unique("first")).run(&[]).expect_exit(0);
    assert_shown(&session.place, &step.output, &finished.stdout);
}

#[test]
fn a_crate_outside_is_a_worker_and_a_command_line() {
    let Some(servers) = Servers::from_env() else { return };
    let dependencies = "[dependencies]\ntaskq = { path = \"../taskq/taskq\" }\n\
                        taskq-worker = { path = \"../taskq/taskq-worker\" }\n";
    let outside = Outside::write("my-app", dependencies, &[("src/lib.rs", LIBRARY), ("src/main.rs", PROGRAM)]);
    let (queue, mail) = (unique("outside"), unique("mail"));
    let app = outside.build("my-app").servers(&servers).env("TASKQ_DEFAULT_QUEUE", &queue);
    let mut worker = app.start(&["worker", "-Q", &format!("{queue},{mail}"), "-l", "warn"]);
    assert_eq!(worker.wait_until_ready()["tasks"], 3);

    let send = |arguments: &[&str]| {
        let sent = app.run(&[&["call"], arguments].concat()).expect_exit(0).json();
        sent["id"].as_str().expect("a call answers with an id").to_owned()
    };
    // The name is that of the package, with `-` as `_`.
    let sum = send(&["my_app.add", "2", "3"]);
    let result = app.run(&["result", &sum, "--wait=60s"]).expect_exit(0).json();
    assert_eq!((&result["state"], &result["value"]), (&json!("SUCCESS"), &json!(5)));
    assert_eq!(app.run(&["status", &sum]).expect_exit(0).json()["state"], "SUCCESS");
    let waited = app.run(&["call", "my_app.add", "20", "22", "--wait=60s"]).expect_exit(0).json();
    assert_eq!(waited["value"], 42);

    let welcome = send(&["my_app.welcome", "0", "--queue", &mail]);
    let watched = app.run(&["watch", &welcome, "--json"]).expect_exit(0).json_lines();
    assert_eq!(watched.last().map(|last| &last["state"]), Some(&json!("SUCCESS")), "{watched:?}");
    let status = app.run(&["status", &welcome]).expect_exit(0).json();
    assert_eq!((&status["state"], &status["attempt"]), (&json!("SUCCESS"), &json!(1)), "{status}");

    // A watcher that starts late sees only the end, so it is tried until one began in time.
    wait_until("progress is seen", || {
        let welcome = send(&["my_app.welcome", "7", "--queue", &mail]);
        let watched = app.run(&["watch", &welcome, "--json"]).expect_exit(0).json_lines();
        watched.iter().any(|line| line["state"] == "PROGRESS").then_some(())
    });

    let picture = outside.0.path().join("Cargo.toml");
    let picture = picture.to_str().expect("the temporary folder has a Unicode path");
    let small = app.run(&["call", "my_app.thumbnail", picture, "64", "--wait=60s"]).expect_exit(0).json();
    assert_eq!(small["value"], format!("{picture}.64"));
    assert!(Path::new(&format!("{picture}.64")).is_file(), "it did its work");
    worker.drain();
}
