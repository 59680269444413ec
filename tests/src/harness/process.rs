//! A running program, its output and its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Finished, wait_until};

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Process {
    pub(super) fn new(what: String, mut child: Child) -> Self {
        let stdout = Output::read(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Output::read(child.stderr.take().expect("stderr is a pipe"));
        Self { what, child, stdout, stderr }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it has started and that have not ended, by their ids; those of a worker run its tasks. One
    /// that has died and was not waited for by it counts.
    ///
    /// # Panics
    ///
    /// If the system does not say.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.id())
    }

    /// Whether it has ended, by itself or not.
    ///
    /// # Panics
    ///
    /// If the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    /// The text on stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The text on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until a worker consumes, and gives the line it says so with.
    ///
    /// # Panics
    ///
    /// If it ends before, or takes longer than [`BOUND`](super::BOUND).
    pub fn wait_until_ready(&mut self) -> Value {
        let is_ready = |line: &str| serde_json::from_str(line).ok().filter(|line: &Value| line["event"] == "ready");
        self.wait_for("the worker is ready", |process| process.stdout().lines().find_map(is_ready))
    }

    /// Waits until `fact` gives something.
    ///
    /// # Panics
    ///
    /// With its output, if it ends before, or if the fact takes longer than [`BOUND`](super::BOUND).
    pub fn wait_for<T>(&mut self, what: &str, mut fact: impl FnMut(&Self) -> Option<T>) -> T {
        wait_until(&format!("{what} ({})", self.what), || {
            // Asked before the fact: what a process did just before its end still counts.
            let ended = self.child.try_wait().expect("a child can be asked");
            let found = fact(self);
            assert!(found.is_some() || ended.is_none(), "{} ended early: {}\n{}", self.what, what, self.output());
            found
        })
    }

    /// How long it has kept processors busy so far, in its own code and in the kernel. Linux only.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn busy(&self) -> Duration {
        const TICKS_PER_SECOND: u64 = 100;
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
        // The second field is the program's name in brackets, and may hold anything; the 14th and 15th are the times.
        let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.map(|field| field.parse::<u64>().expect("times are numbers")).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// The share of one processor that it uses during `window`.
    ///
    /// # Panics
    ///
    /// As [`busy`](Self::busy).
    pub fn load(&self, window: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.busy());
        std::thread::sleep(window);
        self.busy().saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64()
    }

    /// Sends it a signal: `TERM`, `INT`, `QUIT`, `KILL`, `STOP`, `CONT`.
    ///
    /// # Panics
    ///
    /// If the signal cannot be sent.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -s {signal} {}", self.child.id())]).status();
        assert!(status.expect("a shell can be started").success(), "{signal} could not be sent to {}", self.what);
    }

    /// Asks a worker to end, and waits until it has, in good order: with exit code 0, and no panic in its log.
    ///
    /// # Panics
    ///
    /// With its output, if it ends otherwise, or not.
    pub fn drain(self) -> Finished {
        self.signal("TERM");
        let ended = self.finish().expect_exit(0);
        assert!(!ended.stderr.contains("panicked"), "{ended}");
        ended
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If it cannot be killed.
    pub fn kill(mut self) -> Finished {
        self.child.kill().expect("a child can be killed");
        self.finish()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// With its output, if it does not end within [`BOUND`](super::BOUND).
    pub fn finish(mut self) -> Finished {
        let status =
            wait_until(&format!("{} has ended", self.what), || self.child.try_wait().expect("a child can be asked"));
        Finished { exit: status.code().unwrap_or(-1), stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    fn output(&self) -> String {
        format!("-- stdout\n{}\n-- stderr\n{}", self.stdout(), self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Whatever these say, there is no more that can be done, and the test has its verdict.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{} was still running\n{}", self.what, self.output());
        }
    }
}

/// The children of a process, by its id. It does not come from `/proc/PID/task/PID/children`, which leaves some out
/// while others end.
///
/// # Panics
///
/// If the system does not say.
pub fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("the system shows its processes").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut children: Vec<u32> = ids.filter(|id| parent_of(*id) == Some(parent)).collect();
    children.sort_unstable();
    children
}

/// Nothing if the process is gone.
fn parent_of(id: u32) -> Option<u32> {
    field_of(id, 1)?.parse().ok()
}

/// The letter that the system has for what a process does; nothing if it is gone.
pub(super) fn state_of(id: u32) -> Option<char> {
    field_of(id, 0)?.chars().next()
}

/// The fields behind the name, which is in parentheses: the state, the parent.
fn field_of(id: u32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().nth(number)?.to_owned())
}

/// The output of a program, read by a thread so that a full pipe never stops it.
#[derive(Debug)]
struct Output {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let writer = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            // An unreadable pipe is an ended one: the test sees what came before.
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                writer.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it, once the program has ended.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.text()
    }
}
