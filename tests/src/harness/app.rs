//! A program whose command line is under test.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Process, Servers};

/// The lease of a claim in tests: long enough for a machine under load, and a fifth of the default, since what a dead
/// worker has claimed waits for its end.
const CLAIM_LEASE: &str = "6s";

/// A program and the environment that it is started in. Nothing that begins with `TASKQ_` and no `RUST_LOG` is
/// inherited, and it runs in a folder without a `taskq.toml`, so a test sees only what it says itself. Claims have
/// short leases.
#[derive(Debug, Clone)]
pub struct App {
    program: PathBuf,
    folder: PathBuf,
    by: Vec<String>,
    variables: BTreeMap<String, OsString>,
}

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; `-1` if a signal ended it.
    pub exit: i32,
    /// The text that it wrote to stdout.
    pub stdout: String,
    /// The text that it wrote to stderr.
    pub stderr: String,
}

impl App {
    /// The program at `program`; in an integration test `env!("CARGO_BIN_EXE_shop")`.
    pub fn new(program: impl AsRef<Path>) -> Self {
        // The temporary folder has no `taskq.toml` above it.
        let app = Self {
            program: program.as_ref().to_owned(),
            folder: std::env::temp_dir(),
            by: Vec::new(),
            variables: BTreeMap::new(),
        };
        app.env("TASKQ_CLAIM_LEASE", CLAIM_LEASE)
    }

    /// Uses these servers.
    #[must_use]
    pub fn servers(self, servers: &Servers) -> Self {
        self.env("TASKQ_BROKER_URL", &servers.amqp).env("TASKQ_RESULT_URL", &servers.redis)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.env_os(name, value)
    }

    /// Sets an environment variable to what need not be text.
    #[must_use]
    pub fn env_os(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        folder.as_ref().clone_into(&mut self.folder);
        self
    }

    /// Starts it by way of another program, which is given these words, then this program and its arguments.
    #[must_use]
    pub fn by(mut self, words: &[&str]) -> Self {
        self.by = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let mut words = self.by.iter().map(OsString::from).chain([self.program.clone().into_os_string()]);
        let mut command = Command::new(words.next().expect("there is the program at least"));
        command.args(words);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TASKQ_") || name == "RUST_LOG" || name == "FAILPOINTS" {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(&self.variables).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{} {}", self.program.display(), arguments.join(" "));
        let child = command.spawn().unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
        Process::new(what, child)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or does not end within [`BOUND`](super::BOUND).
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }
}

impl Finished {
    /// Returns stdout as JSON, one value a line.
    ///
    /// # Panics
    ///
    /// If a line is no JSON.
    pub fn json_lines(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON: {error}: {line}\n{self}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Returns stderr as JSON, one value a line.
    ///
    /// # Panics
    ///
    /// If a line is no JSON.
    pub fn json_of_stderr(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON: {error}: {line:?}\n{self}"));
        self.stderr.lines().map(parse).collect()
    }

    /// Returns stdout as one JSON value.
    ///
    /// # Panics
    ///
    /// If it is none, or more than one.
    pub fn json(&self) -> Value {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "one line of JSON was expected\n{self}");
        lines.remove(0)
    }

    /// Returns this end if its exit code is `exit`.
    ///
    /// # Panics
    ///
    /// With all it wrote, if it ended otherwise.
    #[allow(clippy::return_self_not_must_use, reason = "that it ended so may be all there is to see")]
    pub fn expect_exit(self, exit: i32) -> Self {
        assert_eq!(self.exit, exit, "the exit code was not {exit}\n{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n-- stdout\n{}\n-- stderr\n{}", self.exit, self.stdout, self.stderr)
    }
}
